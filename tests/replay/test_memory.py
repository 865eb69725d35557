"""The replay memory without an algorithm."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from gsac import GSAC, DeviceReplayBuffer, PrioritizedReplayBuffer
from gsac.replay.memory import ReplayMemory
from gsac.spaces.codec import ActionCodec

OBSERVATIONS, ACTIONS = spaces.Box(-10, 10, (2,)), spaces.Discrete(3)
MASKS = np.array([[True, False, True]]), np.array([[True, True, False]])


def make_memory(kind=ReplayBuffer, masks=False, **kwargs):
    memory = ReplayMemory(ActionCodec(ACTIONS), OBSERVATIONS)
    space = memory.mask_layout.space if masks else OBSERVATIONS
    memory.buffer = kind(50, space, ACTIONS, device="cpu", **kwargs)
    return memory


def transition(number, done=False):
    now = np.full((1, 2), number, np.float32)
    return now, now + 1, np.array([[number % 3]]), np.array([float(number)]), np.array([done]), [{}]


@pytest.mark.parametrize("kind", [ReplayBuffer, DeviceReplayBuffer])
def test_masks_are_stored_beside_both_observations(kind):
    memory = make_memory(kind, masks=True)
    assert memory.stores_masks
    memory.writer(memory.buffer, *MASKS).add(*transition(4))
    batch, indices = memory.sample(3, gamma=0.9)
    assert indices is None
    assert batch.observations.tolist() == [[4, 4]] * 3
    assert batch.next_observations.tolist() == [[5, 5]] * 3
    assert batch.masks.tolist() == [MASKS[0][0].tolist()] * 3
    assert batch.next_masks.tolist() == [MASKS[1][0].tolist()] * 3
    assert batch.actions.tolist() == [[0, 1, 0]] * 3
    assert batch.discounts.tolist() == pytest.approx([0.9] * 3)


def test_a_buffer_that_is_assigned_is_known_by_its_space():
    memory = make_memory()
    assert not memory.stores_masks
    memory.buffer = make_memory(masks=True).buffer
    assert memory.stores_masks


def test_a_buffer_can_be_deleted_and_assigned_again():
    model = GSAC("MlpPolicy", "CartPole-v1", buffer_size=1000, device="cpu")
    buffer = model.replay_buffer
    del model.replay_buffer
    with pytest.raises(AttributeError):
        _ = model.replay_buffer
    model.replay_buffer = buffer
    assert model.memory.buffer is buffer


def test_room_for_masks_is_made_only_while_nothing_is_stored():
    memory = make_memory()
    memory.make_room_for_masks(lambda: make_memory(masks=True).buffer)
    assert memory.stores_masks
    kept = memory.buffer
    memory.make_room_for_masks(lambda: None)
    assert memory.buffer is kept
    used = make_memory()
    used.buffer.add(*transition(0))
    with pytest.raises(ValueError, match="holds 1 transitions without masks.*use_masking=False"):
        used.make_room_for_masks(lambda: None)


def test_td_errors_reach_a_prioritised_buffer_and_no_other():
    memory = make_memory(PrioritizedReplayBuffer)
    for number in range(4):
        memory.buffer.add(*transition(number))
    sampled = memory.sample(4, gamma=0.9)
    memory.reprioritise(sampled, torch.tensor([0.0, 0.0, 0.0, 5.0]))
    alpha, epsilon = memory.buffer.alpha, memory.buffer.epsilon
    assert memory.buffer.sum_tree[sampled.indices[3:]] == pytest.approx((5 + epsilon) ** alpha)
    uniform = make_memory()
    uniform.buffer.add(*transition(0))
    uniform.reprioritise(uniform.sample(2, gamma=0.9), None)


@pytest.mark.parametrize("kind", [NStepReplayBuffer, DeviceReplayBuffer])
def test_returns_end_where_the_environment_was_reset_from_outside(kind):
    memory = make_memory(kind, n_steps=3, gamma=0.5)
    memory.truncate_last_episodes()  # nothing is stored yet
    for number in (1, 2):
        memory.buffer.add(*transition(number))
    memory.truncate_last_episodes()
    memory.buffer.add(*transition(8))
    batch, _ = memory.sample(200, gamma=0.5)
    ends = {
        row[0].item(): (reward.item(), discount.item())
        for row, reward, discount in zip(*batch[:1], *batch[2:4], strict=True)
    }
    assert ends == {1.0: (2.0, 0.25), 2.0: (2.0, 0.5), 8.0: (8.0, 0.5)}


def test_a_terminated_episode_stays_terminated():
    memory = make_memory(DeviceReplayBuffer)
    memory.buffer.add(*transition(1, done=True))
    memory.truncate_last_episodes()
    assert memory.sample(5, gamma=0.9).batch.discounts.tolist() == [0] * 5
