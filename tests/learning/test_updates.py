"""Updates without an algorithm, and what a recording of them refers to."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from gsac import ESTIMATORS, DeviceReplayBuffer, MlpPolicy
from gsac.learning.coefficient import EntropyCoefficient
from gsac.learning.learner import Learner, Objective
from gsac.learning.references import references, same
from gsac.learning.updates import Updates
from gsac.replay.memory import ReplayMemory
from gsac.spaces.codec import ActionCodec

CPU = torch.device("cpu")
OBSERVATIONS, ACTIONS = spaces.Box(-1, 1, (4,)), spaces.MultiDiscrete([2, 3])


def make_updates(**objective):
    policy = MlpPolicy(OBSERVATIONS, ACTIONS, lambda _: 1e-2, net_arch=[8])
    coefficient = EntropyCoefficient(0.1, learned=True, learning_rate=1e-2, device=CPU)
    learner = Learner(policy, coefficient, Objective(ESTIMATORS["gumbel_softmax"], **objective))
    memory = ReplayMemory(ActionCodec(ACTIONS), OBSERVATIONS)
    memory.buffer = DeviceReplayBuffer(100, OBSERVATIONS, ACTIONS, device="cpu")
    for _ in range(20):
        add(memory.buffer)
    updates = Updates(learner, memory, "eager", CPU)
    updates.prepare(gamma=0.9, vec_normalize=None)
    return updates


def add(buffer):
    observations = np.random.uniform(-1, 1, (2, 1, 4)).astype(np.float32)
    buffer.add(*observations, ACTIONS.sample()[None], np.ones(1), np.zeros(1, bool), [{}])


def test_updates_move_the_networks_and_are_averaged():
    updates = make_updates()
    before = [parameter.clone() for parameter in updates.learner.actor.parameters()]
    for _ in range(3):
        updates.run(8, track_targets=True)
    assert not any(map(torch.equal, before, updates.learner.actor.parameters()))
    assert updates.metrics.totals[-1] == 3
    assert updates.metrics.pop()["ent_coef"] == pytest.approx(0.1, rel=0.05)


def test_what_an_update_changes_in_place_leaves_the_references_as_they_were():
    updates = make_updates(bound_targets=True)
    for _ in range(3):  # which make the optimisers' state
        updates.run(8, track_targets=True)
    before = updates.list_references()
    updates.run(8, track_targets=True)
    updates.learner.tau.fill_(0.5)
    updates.coefficient = None  # no attribute of the learner
    del updates.coefficient
    add(updates.memory.buffer)
    updates.prepare(gamma=0.9, vec_normalize=None)
    assert same(before, updates.list_references())


def places(holder, path=()):
    """Every attribute that the package's own objects hold, from ``holder`` downwards."""
    for name, value in vars(holder).items():
        if name in getattr(holder, "NOT_RECORDED", ()):
            continue
        yield (*path, name)
        mine = type(value).__module__.startswith("gsac.") and not isinstance(value, torch.nn.Module)
        if mine and hasattr(value, "__dict__") and len(path) < 2:
            yield from places(value, (*path, name))


def replaced(value):
    """Another value of the same kind."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return object()


@pytest.mark.parametrize("path", list(places(make_updates(bound_targets=True, max_grad_norm=1.0))), ids=".".join)
def test_no_attribute_can_be_replaced_without_being_noticed(path):
    updates = make_updates(bound_targets=True, max_grad_norm=1.0)
    before = updates.list_references()
    holder = updates
    for name in path[:-1]:
        holder = getattr(holder, name)
    vars(holder)[path[-1]] = replaced(vars(holder)[path[-1]])
    assert not same(before, updates.list_references())


def test_replaced_weights_states_and_settings_are_noticed():
    updates = make_updates()
    for _ in range(3):
        updates.run(8, track_targets=True)
    learner = updates.learner

    def new_storage():
        learner.actor.logits[0].weight.data = learner.actor.logits[0].weight.data.clone()

    def new_state():
        learner.critic.optimizer.load_state_dict(learner.critic.optimizer.state_dict())

    def new_setting():
        learner.actor.optimizer.param_groups[0]["weight_decay"] = 0.1

    def new_optimizer():
        learner.actor.optimizer = copy.copy(learner.actor.optimizer)

    def new_objective():
        learner.objective = dataclasses.replace(learner.objective, target="soft")

    for change in (new_storage, new_state, new_setting, new_optimizer, new_objective):
        before = updates.list_references()
        change()
        assert not same(before, updates.list_references()), change.__name__


def test_references_follow_lists_and_stop_at_cycles():
    tensor, mine = torch.zeros(1), make_updates()
    mine.itself = mine
    assert references([tensor, {"a": 1.5}, "x"]) == [tensor.data_ptr(), False, 1.5, "x"]
    assert len(references(mine)) > 10


def test_a_subclass_of_the_buffer_is_followed_too():
    class Own(DeviceReplayBuffer):
        """A user's class."""

    updates = make_updates()
    updates.memory.buffer = Own(100, OBSERVATIONS, ACTIONS, device="cpu")
    before = updates.list_references()
    updates.memory.buffer._allocate(CPU)
    assert not same(before, updates.list_references())
