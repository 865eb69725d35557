"""Captured updates make the same parameters as eager ones. Here a tape stands in for the CUDA graph."""

import copy
import dataclasses
import shutil
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import tape
import torch
import torch._functorch.config
import torch._inductor.config
from environments import Allowed, DictObservations, Images, Pixel
from gymnasium import spaces
from problems import Match
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gsac import ESTIMATORS, GSAC, DeviceReplayBuffer, MlpPolicy, PrioritizedReplayBuffer
from gsac.learning.acceleration import WARM_UPS, Captured
from gsac.learning.device_reads import DeviceReads

SPACES = [spaces.Discrete(3, start=1), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4)]
SCHEDULES = {"temperature": "cosine:1:0.1", "target_entropy": "linear:0.8:0.3", "learning_rate": "linear:1e-3:0"}


class Taped:
    """Makes recordings, and counts them."""

    def __init__(self):
        self.n_recordings = 0

    def __call__(self, update):
        self.n_recordings += 1
        return tape.record(update)


def make(env, taped=None, policy="MlpPolicy", **kwargs):
    settings = {
        "learning_starts": 20,
        "batch_size": 8,
        "buffer_size": 100,
        "device": "cpu",
        "seed": 0,
        "replay_buffer_class": DeviceReplayBuffer,
        "policy_kwargs": {"net_arch": [8]},
    }
    return prepared(GSAC(policy, env, **(settings | kwargs)), taped)


def prepared(model, taped):
    """With learning rates as on a GPU, and captured as there, if ``taped``."""
    for optimizer in model.learner.optimizers if model.device.type == "cpu" else []:
        for group in optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"])
    if taped is not None:
        model.updates.captured = Captured(model.updates.update, model.device, model.updates.list_references, taped)
    return model


def numbers_of(model):
    """Everything that updates change."""
    states = [state for optimizer in model.learner.optimizers for state in optimizer.state.values()]
    return [
        *model.policy.state_dict().values(),
        model.coefficient.value,
        model.updates.metrics.totals,
        *(value for state in states for value in state.values()),
    ]


def assert_equal(one, other):
    """To the last bit."""
    assert one._n_updates == other._n_updates
    for a, b in zip(numbers_of(one), numbers_of(other), strict=True):
        assert a.equal(b)


def assert_captured_is_eager(make_env, n_recordings=1, steps=80, **kwargs):
    taped = Taped()
    eager, captured = (make(make_env(), each, **kwargs).learn(steps) for each in (None, taped))
    assert_equal(eager, captured)
    assert taped.n_recordings == n_recordings


@pytest.mark.parametrize("estimator", [*ESTIMATORS, "mixed:rho=linear:1:0"])
@pytest.mark.parametrize(("space", "n_updates"), [(SPACES[0], 50), (SPACES[1], 200)], ids=str)
def test_the_same_after_many_updates_with_schedules_running(space, n_updates, estimator):
    assert_captured_is_eager(lambda: Match(space), steps=20 + n_updates, estimator=estimator, **SCHEDULES)


def assert_compiled_is_eager(backend, **kwargs):
    eager, compiled = (make(Match(SPACES[1]), **SCHEDULES, **kwargs) for _ in range(2))
    compiled.learner.compile(backend)
    for model in (eager, compiled):
        model.set_random_seed(0)
        model.learn(220)
    for a, b in zip(numbers_of(eager), numbers_of(compiled), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("estimator", [*ESTIMATORS, "mixed:rho=linear:1:0"])
def test_compiled_losses_make_the_same_as_well(estimator):
    with torch._functorch.config.patch(cse=False):  # which takes two draws of noise for the same
        assert_compiled_is_eager("aot_eager", estimator=estimator)


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "c++", "clang++", "cl"))), reason="PyTorch's code generator needs a C++ compiler"
)
def test_the_compiler_itself_makes_the_same_with_the_same_noise():
    with torch._inductor.config.patch(fallback_random=True):
        assert_compiled_is_eager("inductor", estimator="mixed")


@pytest.mark.parametrize(
    ("make_env", "n_recordings", "kwargs"),
    [
        (lambda: Match(SPACES[2]), 1, {}),
        (lambda: Match(SPACES[1]), 2, {"target_update_interval": 2}),
        (lambda: Match(SPACES[1]), 1, {"n_steps": 3}),
        (lambda: Match(SPACES[1]), 1, {"ent_coef": 0.1}),
        (lambda: Match(SPACES[1]), 1, {"ent_coef": "linear:0.2:0.02"}),
        (
            lambda: Match(SPACES[1]),
            1,
            {
                **{"target": "soft", "bound_targets": True},
                **{"q_aggregation": "mean", "max_grad_norm": None},
            },
        ),
        (lambda: Match(SPACES[1]), 1, {"target": "mean", "noise_duration": 1.0}),
        (lambda: Match(SPACES[0]), 1, {"train_freq": 4, "gradient_steps": 7, "steps": 80}),
        (lambda: Allowed(SPACES[1], 2), 1, {"estimator": "gumbel_rao"}),
        (lambda: Allowed(SPACES[0], 2), 1, {"n_steps": 3}),
        (lambda: DictObservations(Match(SPACES[1])), 1, {"policy": "MultiInputPolicy"}),
        (lambda: DictObservations(Allowed(SPACES[1], 2)), 1, {"policy": "MultiInputPolicy"}),
        (Images, 1, {"policy": "CnnPolicy", "steps": 32, "policy_kwargs": {"share_features_extractor": True}}),
        (Pixel, 1, {"policy": "CnnPolicy"}),
        (
            lambda: Match(SPACES[1]),
            1,
            {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
        ),
    ],
    ids=[
        "switches",
        "targets follow every other update",
        "n-step",
        "fixed coefficient",
        "falling coefficient",
        "other losses",
        "deterministic target",
        "several updates at a time",
        "masks",
        "masks and n-step",
        "dictionary",
        "dictionary and masks",
        "images",
        "small images",
        "stored once",
    ],
)
def test_the_same_in_other_settings(make_env, n_recordings, kwargs):
    assert_captured_is_eager(make_env, n_recordings, **kwargs)


def save_and_load(model, path):
    model.save(path / "model")
    model.save_replay_buffer(path / "buffer")
    loaded = GSAC.load(path / "model", env=model.env, device="cpu")
    loaded.load_replay_buffer(path / "buffer")
    return loaded


def give_parameters(model, path):
    other = make(Match(model.action_space), seed=1).learn(30)
    model.set_parameters(copy.deepcopy(other.get_parameters()))


def give_parameters_of_a_file(model, path):
    make(Match(model.action_space), seed=1).learn(30).save(path / "other")
    model.set_parameters(path / "other")


def give_weights(model, path):
    model.policy.load_state_dict({name: value / 2 for name, value in model.policy.state_dict().items()})


def replace_storage(model, path):
    for parameter in model.policy.parameters():
        parameter.data = parameter.data / 2


def reload_buffer(model, path):
    model.save_replay_buffer(path / "buffer")
    model.load_replay_buffer(path / "buffer")


def move_buffer(model, path):
    buffer = model.replay_buffer
    buffer._allocate(buffer.device, buffer._flushed.contents(buffer._n_used))


def freeze(model, path):
    model.actor.logits[0].weight.requires_grad_(False)


def reset_optimizer(model, path):
    model.critic.optimizer.state.clear()


def change(**settings):
    def intervene(model, path):
        vars(model).update(settings)

    return intervene


def change_group(**settings):
    def intervene(model, path):
        model.actor.optimizer.param_groups[0].update(settings)

    return intervene


def change_learner(**settings):
    def intervene(model, path):
        model.learner.objective = dataclasses.replace(model.learner.objective, **settings)

    return intervene


INTERVENTIONS = {
    "nothing": (lambda model, path: None, 1),
    "save and load": (save_and_load, 2),
    "set_parameters": (give_parameters, 2),
    "set_parameters of a file": (give_parameters_of_a_file, 2),
    "policy.load_state_dict": (give_weights, 1),
    "new storage of the weights": (replace_storage, 2),
    "load_replay_buffer": (reload_buffer, 2),
    "new storage of the buffer": (move_buffer, 2),
    "frozen weights": (freeze, 2),
    "optimiser without memory": (reset_optimizer, 2),
    "tau": (change(tau=0.5), 1),
    "learning rate": (change(lr_schedule=lambda progress: 0.01), 1),
    "gamma": (change(gamma=0.5), 2),
    "the same gamma": (change(gamma=0.9 + 0.09), 1),
    "batch size": (change(batch_size=4), 2),
    "interval of the targets": (change(target_update_interval=2), 2),
    "entropy in the target": (change_learner(target="soft"), 2),
    "target at the mean": (change_learner(target="mean"), 2),
    "weight decay": (change_group(weight_decay=0.1), 2),
    "momentum": (change_group(betas=(0.5, 0.9)), 2),
}


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_no_recording_outlives_what_it_refers_to(name, tmp_path):
    intervene, n_recordings = INTERVENTIONS[name]
    taped, ends = Taped(), []
    for each in (None, taped):
        model = make(Match(SPACES[1]), each, learning_rate="linear:1e-2:0")
        model.learn(40)
        changed = intervene(model, tmp_path)
        model = model if changed is None else prepared(changed, each)
        torch.manual_seed(1)
        ends.append(model.learn(60, reset_num_timesteps=False))
    assert_equal(*ends)
    assert taped.n_recordings == n_recordings


def test_a_frozen_weight_stays_although_it_moved_before():
    model = make(Match(SPACES[1])).learn(40)
    freeze(model, None)
    before = model.actor.logits[0].weight.clone()
    model.learn(20, reset_num_timesteps=False)
    assert model.actor.logits[0].weight.equal(before)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_an_update_reads_nothing_from_the_device(space, estimator):
    model = make(Match(space), estimator=estimator, n_steps=3).learn(22)
    with DeviceReads() as reads:
        model.updates.update(8, True)
    assert reads.found == []


class MadeThere(MlpPolicy):
    """Networks cannot be moved to a device without memory."""

    device = torch.device("meta")

    def _build(self, lr_schedule):
        with torch.device("meta"):
            super()._build(lr_schedule)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_an_update_on_another_device_neither_reads_from_it_nor_copies_to_it(space, estimator, monkeypatch):
    """PyTorch's device without memory refuses to be read, and refuses tensors of the host beside its own."""
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda *_: None)
    env = Match(space)
    model = make(env, policy=MadeThere, device="meta", estimator=estimator, n_steps=3)
    for _ in range(10):
        observation = env.observation_space.sample()[None]
        action = np.reshape(space.sample(), (1, -1))
        model.replay_buffer.add(observation, observation, action, np.zeros(1), np.zeros(1, bool), [{}])
    model.replay_buffer.flush()
    for _ in range(2):
        with DeviceReads() as reads:
            model.updates.update(8, True)
        assert reads.found == []
    for parameter in (*model.actor.parameters(), *model.critic.parameters(), model.log_ent_coef):
        assert parameter.grad.is_meta


def reading(policy, q, temperature):
    if policy.entropy().mean() < 0:
        raise AssertionError
    return ESTIMATORS["rloo"](policy, q, temperature)


@pytest.mark.parametrize(
    ("make_env", "kwargs", "reason"),
    [
        (lambda: Match(SPACES[1]), {"estimator": reading}, "if policy.entropy().mean() < 0"),
        (lambda: Match(SPACES[1]), {"replay_buffer_class": ReplayBuffer}, "gsac.DeviceReplayBuffer"),
        (lambda: Match(SPACES[1]), {"replay_buffer_class": PrioritizedReplayBuffer}, "PrioritizedReplayBuffer is not"),
        (
            lambda: BitFlippingEnv(n_bits=4, continuous=False),
            {"replay_buffer_class": HerReplayBuffer, "policy": "MultiInputPolicy"},
            "HerReplayBuffer is not",
        ),
        (
            lambda: VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])),
            {},
            "VecNormalize works on the host",
        ),
        (
            lambda: Match(SPACES[1]),
            {"policy_kwargs": {"optimizer_class": torch.optim.AdamW}},
            "AdamW may keep numbers on the host",
        ),
    ],
    ids=["estimator", "host", "prioritised", "hindsight", "normalised", "optimiser"],
)
def test_what_cannot_be_captured_is_learned_from_with_one_warning(make_env, kwargs, reason):
    eager = make(make_env(), **kwargs).learn(60)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        captured = make(make_env(), Taped(), **kwargs).learn(60)
    told = [str(each.message) for each in raised if "captured" in str(each.message)]
    assert len(told) == 1
    assert reason in told[0]
    assert "acceleration='eager'" in told[0]
    assert_equal(eager, captured)
    assert captured.updates.captured.record.n_recordings == 0


def test_a_recording_that_fails_falls_back_and_makes_that_update_once():
    def failing(update):
        tape.record(update)
        raise RuntimeError("no room for a graph\nand more")

    eager = make(Match(SPACES[1])).learn(60)
    captured = make(Match(SPACES[1]), failing)
    with pytest.warns(UserWarning, match=r"one operation at a time: no room for a graph\. Pass") as raised:
        captured.learn(60)
    assert len(raised) == 1
    assert_equal(eager, captured)


def test_a_hook_of_an_optimiser_is_called_at_each_update():
    calls = []
    model = make(Match(SPACES[1]), Taped())
    model.actor.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    with pytest.warns(UserWarning, match="hooks"):
        model.learn(60)
    assert len(calls) == model._n_updates == 40


def test_only_a_gpu_can_capture_and_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"needs device='cuda'.*on 'cpu'.*acceleration='auto'"):
        make(Match(SPACES[1]), acceleration="cudagraph")
    with pytest.raises(ValueError, match=r"acceleration='fast'.*'auto'.*'eager'.*'compile'.*'cudagraph'"):
        make(Match(SPACES[1]), acceleration="fast")
    assert make(Match(SPACES[1]), acceleration="auto").updates.captured is None


@pytest.mark.parametrize("acceleration", ["cudagraph", "compile"])
def test_a_model_saved_with_another_acceleration_loads_as_it_is_told(acceleration, tmp_path):
    model = make(Match(SPACES[1]), Taped()).learn(60)
    model.acceleration = acceleration
    model.save(tmp_path / "model")
    loaded = GSAC.load(tmp_path / "model", env=Match(SPACES[1]), device="cpu", acceleration="auto")
    assert loaded.updates.captured is None
    assert loaded.acceleration == "auto"
    assert loaded.learn(60, reset_num_timesteps=False)._n_updates > model._n_updates
    if acceleration == "cudagraph":
        with pytest.raises(ValueError, match="acceleration='auto'"):
            GSAC.load(tmp_path / "model", device="cpu")


def test_weights_leave_the_acceleration_out(tmp_path):
    model = make(Match(SPACES[1]))
    model.acceleration = "cudagraph"
    model.save_weights(tmp_path / "model")
    assert GSAC.from_weights(tmp_path / "model", device="cpu").acceleration == "auto"
    assert b"acceleration" not in (tmp_path / "model.safetensors").read_bytes()


def test_a_captured_model_can_be_copied_and_each_learns_for_itself():
    model = make(Match(SPACES[1]), Taped()).learn(20 + 2 * WARM_UPS)
    model._logger = None  # holds the terminal, which has no copy
    copied = copy.deepcopy(model)
    assert copied.updates.captured.function.__self__ is copied.updates
    before = next(model.policy.parameters()).clone()
    copied.learn(20, reset_num_timesteps=False)
    assert next(model.policy.parameters()).equal(before)
    assert not next(copied.policy.parameters()).equal(before)
