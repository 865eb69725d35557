"""Models come back from files without code as they were."""

import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations, Images
from gymnasium import spaces
from problems import Match
from safetensors import safe_open
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import DummyVecEnv

from gsac import GSAC, REINFORCE, RLOO, Cosine, DeviceReplayBuffer, Mixed, Piecewise, PrioritizedReplayBuffer
from gsac.estimators import straight_through
from gsac.networks.policies import MlpPolicy
from gsac.saving import weights

QUICK = {"device": "cpu", "buffer_size": 1000, "learning_starts": 20, "batch_size": 16, "seed": 0}
SMALL = {**QUICK, "policy_kwargs": {"net_arch": [4], "critic_layer_norm": False}}
ON_POLICY = {"device": "cpu", "seed": 0, "policy_kwargs": {"net_arch": [4]}}
ACTION_SPACES = [
    spaces.Discrete(3),
    spaces.Discrete(3, start=-2),
    spaces.MultiDiscrete([2, 3], start=[4, -1]),
    spaces.MultiBinary(4),
]


class Both(gymnasium.Env):
    """An image, a vector and a number beside each other."""

    observation_space = spaces.Dict(
        {
            "vector": spaces.Box(-np.inf, np.inf, (3,)),
            "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
            "number": spaces.Discrete(4),
        }
    )
    action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, True, False, {}


class OwnExtractor(FlattenExtractor):
    pass


class OwnPolicy(MlpPolicy):
    pass


def own_estimator(policy, q, temperature):
    return straight_through(policy, q, temperature)


def tensors(model):
    return weights.tensors_of(model)


def same(a, b):
    a, b = tensors(a), tensors(b)
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


CASES = [
    *[("MlpPolicy", lambda space=space: Match(space), {}) for space in ACTION_SPACES],
    ("MlpPolicy", lambda: Match(ACTION_SPACES[2]), {"critic_head": "linear", "n_critics": 3}),
    ("MlpPolicy", lambda: Match(ACTION_SPACES[2]), {"critic_head": "action_in", "activation_fn": torch.nn.Tanh}),
    ("MlpPolicy", lambda: Match(ACTION_SPACES[0]), {"share_features_extractor": True}),
    ("MlpPolicy", lambda: Match(ACTION_SPACES[0]), {"optimizer_class": torch.optim.AdamW}),
    ("CnnPolicy", Images, {"features_extractor_kwargs": {"features_dim": 8}, "share_features_extractor": True}),
    ("MultiInputPolicy", lambda: DictObservations(Match(ACTION_SPACES[1])), {"net_arch": {"pi": [4], "qf": [5]}}),
    ("MultiInputPolicy", Both, {"features_extractor_kwargs": {"cnn_output_dim": 4}}),
]


@pytest.mark.parametrize(("policy", "make", "kwargs"), CASES)
def test_weights_and_predictions_come_back_with_and_without_an_environment(policy, make, kwargs, tmp_path):
    model = GSAC(policy, DummyVecEnv([make]), **QUICK, policy_kwargs={"net_arch": [8], **kwargs}).learn(30)
    model.save_weights(tmp_path / "model")
    stored = (tmp_path / "model.safetensors").read_bytes()
    env = model.get_env()
    observations = [env.reset() for _ in range(20)]
    for arguments in ({}, {"env": make()}):
        loaded = GSAC.from_weights(tmp_path / "model.safetensors", device="cpu", **arguments)
        assert same(loaded, model)
        assert (loaded.num_timesteps, loaded._n_updates) == (30, 10)
        assert loaded.policy_kwargs == model.policy_kwargs
        assert (loaded.observation_space, loaded.action_space) == (model.observation_space, model.action_space)
        assert loaded.policy.actor.optimizer.__class__ is model.policy.actor.optimizer.__class__
        for observation in observations:
            action, _ = loaded.predict(observation, deterministic=True)
            assert np.array_equal(action, model.predict(observation, deterministic=True)[0])
            assert action.dtype == model.predict(observation, deterministic=True)[0].dtype
    loaded.learn(30, reset_num_timesteps=False)
    assert (loaded.num_timesteps, loaded._n_updates) == (60, 40)
    assert not same(loaded, model)
    assert (tmp_path / "model.safetensors").read_bytes() == stored


@pytest.mark.parametrize("space", [spaces.Box(-1, 2, (2,)), *ACTION_SPACES], ids=str)
def test_reinforce_comes_back(space, tmp_path):
    class OneStep(gymnasium.Env):
        observation_space = spaces.Box(-1, 1, (3,))
        action_space = space

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 1.0, True, False, {}

    model = REINFORCE("MlpPolicy", OneStep(), baseline="mean", **ON_POLICY).learn(16)
    model.save_weights(tmp_path / "model")
    loaded = REINFORCE.from_weights(tmp_path / "model", OneStep(), device="cpu")
    assert same(loaded, model)
    assert loaded.baseline == "mean"
    observations = np.random.default_rng(0).uniform(-1, 1, (20, 3)).astype(np.float32)
    alone = REINFORCE.from_weights(tmp_path / "model", device="cpu")
    expected, _ = model.predict(observations, deterministic=True)
    assert np.array_equal(alone.predict(observations, deterministic=True)[0], expected)
    assert loaded.learn(16, reset_num_timesteps=False).num_timesteps == 32


def test_every_argument_comes_back(tmp_path):
    arguments = {
        "learning_rate": "linear:1e-3:1e-4",
        "train_freq": (2, "step"),
        "n_steps": 3,
        "estimator": Mixed(rho="linear:1:0"),
        "temperature": Cosine(1.0, 0.1, updates=100),
        "target_entropy": Piecewise(((0.0, 0.5), (1.0, 0.2))),
        "ent_coef": "auto_0.3",
        "max_grad_norm": None,
        "gamma": np.float64(0.97),
        "stats_window_size": 7,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
    }
    model = GSAC("MlpPolicy", Match(spaces.Discrete(3)), **(SMALL | arguments))
    model.save_weights(tmp_path / "model")
    loaded = GSAC.from_weights(tmp_path / "model", Match(spaces.Discrete(3)), device="cpu")
    before, after = (each._constructor_arguments() for each in (model, loaded))
    assert before == after
    arguments["train_freq"] = TrainFreq(2, TrainFrequencyUnit.STEP)
    arguments["replay_buffer_kwargs"] = {"handle_timeout_termination": False}  # SB3 had put n_steps into the other
    for name, value in arguments.items():
        assert after[name] == value, name
    assert loaded.replay_buffer.__class__ is model.replay_buffer.__class__
    assert loaded.log_ent_coef.requires_grad
    changed = GSAC.from_weights(tmp_path / "model", estimator=RLOO(8), gamma=0.5, device="cpu")
    assert (changed.estimator, changed.gamma, changed.n_steps) == (RLOO(8), 0.5, 3)
    fixed = GSAC("MlpPolicy", Match(spaces.Discrete(3)), **SMALL, ent_coef=0.25, estimator=straight_through)
    fixed.save_weights(tmp_path / "fixed")
    fixed = GSAC.from_weights(tmp_path / "fixed", device="cpu")
    assert (fixed.ent_coef, fixed.ent_coef_tensor.item(), fixed.estimator) == (0.25, 0.25, straight_through)


def test_arguments_that_are_no_plain_data_must_be_passed_when_loading(tmp_path):
    kwargs = {"net_arch": [4], "features_extractor_class": OwnExtractor}
    model = GSAC(OwnPolicy, "CartPole-v1", **QUICK, estimator=own_estimator, policy_kwargs=kwargs)
    model.save_weights(tmp_path / "model")
    missing = {
        "policy": OwnPolicy,
        "estimator": own_estimator,
        "policy_kwargs": {"features_extractor_class": OwnExtractor},
    }
    for name in missing:
        given = {other: value for other, value in missing.items() if other != name}
        with pytest.raises(ValueError, match=f"{name}.* \\(was .*[oO]wn") as refusal:
            GSAC.from_weights(tmp_path / "model", device="cpu", **given)
        assert f"from_weights(path, {name}=" in str(refusal.value)
    loaded = GSAC.from_weights(tmp_path / "model", device="cpu", **missing)
    assert same(loaded, model)
    assert loaded.policy_kwargs == kwargs
    assert type(loaded.policy) is OwnPolicy
    with pytest.raises(TypeError, match="no argument 'gama'"):
        GSAC.from_weights(tmp_path / "model", gama=0.9, **missing)


class Greedy(GSAC):
    """A subclass with an argument of its own, which passes the others on."""

    def __init__(self, policy, env, greed=1.0, **kwargs):
        super().__init__(policy, env, **kwargs)
        self.greed = greed


def test_subclasses_keep_their_own_arguments_and_those_they_pass_on(tmp_path):
    model = Greedy("MlpPolicy", "CartPole-v1", greed=0.5, gamma=0.9, **SMALL)
    model.save_weights(tmp_path / "model")
    loaded = Greedy.from_weights(tmp_path / "model", device="cpu")
    assert (loaded.greed, loaded.gamma) == (0.5, 0.9)
    assert same(loaded, model)
    with pytest.raises(ValueError, match="has the argument 'greed', which GSAC does not take"):
        GSAC.from_weights(tmp_path / "model", device="cpu")


def test_hindsight_buffers_are_known_by_name(tmp_path):
    from stable_baselines3.common.envs import BitFlippingEnv

    env = BitFlippingEnv(n_bits=4)
    model = GSAC("MultiInputPolicy", env, **SMALL, replay_buffer_class=HerReplayBuffer)
    model.save_weights(tmp_path / "model")
    assert type(GSAC.from_weights(tmp_path / "model", env, device="cpu").replay_buffer) is HerReplayBuffer


def test_this_packages_buffers_are_known_by_name(tmp_path):
    kwargs = {"alpha": 0.5, "beta": "linear:0.5:1"}
    model = GSAC(
        "MlpPolicy",
        "CartPole-v1",
        n_steps=3,
        replay_buffer_class=PrioritizedReplayBuffer,
        replay_buffer_kwargs=kwargs,
        **SMALL,
    )
    model.save_weights(tmp_path / "model")
    loaded = GSAC.from_weights(tmp_path / "model", "CartPole-v1", device="cpu")
    assert type(loaded.replay_buffer) is PrioritizedReplayBuffer
    assert (loaded.replay_buffer.alpha, loaded.replay_buffer.n_steps) == (0.5, 3)
    assert loaded.replay_buffer_kwargs == kwargs
    model = GSAC("MlpPolicy", "CartPole-v1", n_steps=3, replay_buffer_class=DeviceReplayBuffer, **SMALL)
    model.save_weights(tmp_path / "model")
    loaded = GSAC.from_weights(tmp_path / "model", "CartPole-v1", device="cpu")
    assert type(loaded.replay_buffer) is DeviceReplayBuffer
    assert loaded.replay_buffer.n_steps == 3


def test_other_spaces_and_shapes_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    GSAC("MlpPolicy", Match(spaces.Discrete(3)), **SMALL).save_weights(path)
    with pytest.raises(ValueError, match="observation_space") as refusal:
        GSAC.from_weights(path, "CartPole-v1")
    assert str(path) in str(refusal.value)
    shifted = Match(spaces.Discrete(3, start=1))
    with pytest.raises(ValueError, match="action_space"):
        GSAC.from_weights(path, shifted)
    with pytest.raises(ValueError, match="do not fit the networks") as refusal:
        GSAC.from_weights(path, policy_kwargs={"net_arch": [5]})
    assert str(path) in str(refusal.value)


def rewritten(path, change):
    """The file with another configuration and the digest that belongs to it."""
    import hashlib

    from safetensors.torch import load_file, save

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    configuration = json.loads(metadata["gsac"])
    change(configuration)
    blank = save(load_file(path), {"gsac": json.dumps(configuration), "sha256": "0" * 64})
    path.write_bytes(blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.update(format=2), "has format 2, and this version reads 1"),
        (lambda file: file.pop("arguments"), "lacks 'arguments'"),
        (lambda file: file["arguments"].update(estimator={":os:": "system"}), "'system' is not a known name"),
        (lambda file: file["arguments"].update(tensorboard_log="/etc"), "has the argument 'tensorboard_log'"),
        (lambda file: file["arguments"].update(estimator={":torch.nn:": "Tanh", "a": 1}), "no settings"),
        (lambda file: file.update(action_space={"space": "Text"}), "describes no space|can be read"),
        (lambda file: file.update(action_space=3), "describes no space"),
    ],
)
def test_a_whole_file_with_another_configuration_is_refused(change, message, tmp_path):
    path = tmp_path / "model.safetensors"
    GSAC("MlpPolicy", "CartPole-v1", **SMALL).save_weights(path)
    rewritten(path, lambda file: None)
    GSAC.from_weights(path, device="cpu")
    rewritten(path, change)
    with pytest.raises(ValueError, match=message) as refusal:
        GSAC.from_weights(path)
    assert str(path) in str(refusal.value)


SAFE = """
import pickle, sys, cloudpickle, torch
import torch._dynamo  # which defines unpicklers of its own when an optimiser first needs it
from gsac import GSAC, DeviceReplayBuffer
def unpickled(*arguments, **kwargs):
    raise AssertionError("unpickled")
pickle.load = pickle.loads = pickle.Unpickler = cloudpickle.load = cloudpickle.loads = torch.load = unpickled
model = GSAC.from_weights(sys.argv[1], device="cpu")
print(model.predict(model.observation_space.sample(), deterministic=True)[0])
"""


def test_nothing_is_unpickled_when_weights_are_loaded(tmp_path):
    GSAC("MlpPolicy", "CartPole-v1", **SMALL).save_weights(tmp_path / "model")
    result = subprocess.run(
        [sys.executable, "-c", SAFE, tmp_path / "model"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("0", "1")


def test_other_programs_read_the_weights(tmp_path):
    model = GSAC("MlpPolicy", "CartPole-v1", **SMALL)
    model.save_weights(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert set(file.keys()) == set(tensors(model))
        name = "policy.actor.logits.0.weight"
        assert np.array_equal(file.get_tensor(name), model.actor.logits[0].weight.detach().numpy())
