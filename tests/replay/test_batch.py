import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from gsac.replay.batch import Batch
from gsac.spaces.codec import ActionCodec

OBSERVATIONS = spaces.Box(-10, 10, (1,), np.float32)
ACTIONS = spaces.Discrete(3, start=5)


def filled(buffer):
    """Four steps: the second ends its episode, the fourth is cut off by a time limit. Rewards 1, 2, 3, 4."""
    ends = [(False, False), (True, False), (False, False), (True, True)]
    for i, (done, cut) in enumerate(ends):
        infos = [{"TimeLimit.truncated": cut}]
        now, then = np.array([[i]], np.float32), np.array([[i + 1]], np.float32)
        buffer.add(now, then, np.array([[5 + i % 3]]), np.array([i + 1.0]), np.array([done]), infos)
    return buffer


def by_hand(buffer, gamma):
    batch = Batch.from_replay(buffer._get_samples(np.arange(4)), ActionCodec(ACTIONS), gamma)
    assert batch.actions.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert batch.observations.flatten().tolist() == [0, 1, 2, 3]
    return batch


def test_one_step_discounts_stop_at_the_end_of_an_episode_and_not_at_a_time_limit():
    batch = by_hand(filled(ReplayBuffer(10, OBSERVATIONS, ACTIONS, device="cpu")), gamma=0.9)
    assert batch.rewards.tolist() == [1, 2, 3, 4]
    assert batch.discounts.tolist() == pytest.approx([0.9, 0.0, 0.9, 0.9])


def test_the_steps_of_n_step_samples_bring_their_own_discounts():
    buffer = NStepReplayBuffer(10, OBSERVATIONS, ACTIONS, device="cpu", n_steps=2, gamma=0.5)
    batch = by_hand(filled(buffer), gamma=0.9)
    assert batch.rewards.tolist() == [1 + 0.5 * 2, 2, 3 + 0.5 * 4, 4]
    assert batch.discounts.tolist() == [0.0, 0.0, 0.25, 0.5]
    assert batch.next_observations.flatten().tolist() == [2, 2, 4, 4]
