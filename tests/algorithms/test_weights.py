"""Model files: what is damaged is refused, what is whole comes back as it was."""

import io
import json
import subprocess
import sys
import zipfile

import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations, Images
from gymnasium import spaces
from problems import Match
from safetensors import safe_open
from stable_baselines3 import PPO, HerReplayBuffer
from stable_baselines3.common.save_util import save_to_zip_file
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import DummyVecEnv

from gsac import GSAC, REINFORCE, RLOO, Cosine, Mixed, Piecewise
from gsac.algorithms import weights
from gsac.estimators import straight_through
from gsac.policies import MlpPolicy
from gsac.space_json import space_from_json, space_to_json

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


def corruptions(whole, n, seed):
    """Damaged copies: cut off, bits flipped, blocks zeroed or swapped, bytes appended or left out."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        damaged = bytearray(whole)
        at, other = (int(place) for place in rng.integers(len(whole), size=2))
        size = int(rng.integers(1, 200))
        if i % 6 == 0:
            del damaged[at:]
        elif i % 6 == 1:
            for _ in range(int(rng.integers(1, 4))):
                damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        elif i % 6 == 2:
            damaged[at : at + size] = bytes(len(damaged[at : at + size]))
        elif i % 6 == 3:
            damaged += rng.bytes(size)
        elif i % 6 == 4:
            end = min(size, len(whole) - at, len(whole) - other)
            damaged[at : at + end], damaged[other : other + end] = whole[other : other + end], whole[at : at + end]
        else:
            del damaged[at : at + size]
        yield bytes(damaged)


def refusals(load, path, whole, original, n, seed=0):
    """How many of n damaged files are refused; all others must be the model as it was."""
    messages = []
    for damaged in corruptions(whole, n, seed):
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert same(loaded, original)
    assert all(str(path) in message for message in messages)
    return len(messages)


def models():
    return [GSAC("MlpPolicy", "CartPole-v1", **SMALL), REINFORCE("MlpPolicy", "CartPole-v1", **ON_POLICY)]


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_of_200_random_corruptions_of_each_format_none_gives_another_model(model, tmp_path):
    kind = type(model)
    for name, save, load in (
        ("model.zip", model.save, lambda path: kind.load(path, device="cpu")),
        ("model.safetensors", model.save_weights, lambda path: kind.from_weights(path, device="cpu")),
    ):
        path = tmp_path / name
        save(path)
        assert same(load(path), model)
        assert refusals(load, path, path.read_bytes(), model, 200) >= 190  # a zeroed block may have been zeros before


def test_a_zip_file_that_sb3_wrote_itself_loads_and_its_corruptions_do_not_give_another_model(tmp_path):
    model, path = models()[0], tmp_path / "model.zip"
    super(type(model).__mro__[1], model).save(path)
    whole = path.read_bytes()
    assert zipfile.ZipFile(path).comment == b""
    assert same(GSAC.load(path, device="cpu"), model)
    assert refusals(lambda path: GSAC.load(path, device="cpu"), path, whole, model, 200) >= 150


def test_flipped_bits_at_the_end_of_a_zip_file_are_noticed(tmp_path):
    """There stand its directory, which has no CRC, and the checksum."""
    path = tmp_path / "model.zip"
    models()[0].save(path)
    whole = path.read_bytes()
    for bit in range(0, 8 * 140, 3):
        damaged = bytearray(whole)
        damaged[-1 - bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            GSAC.load(path)


def test_a_damaged_zip_file_is_refused_before_it_is_unpickled(tmp_path, monkeypatch):
    model, path = models()[0], tmp_path / "model.zip"
    model.save(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)

    def unpickled(*arguments, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr("cloudpickle.loads", unpickled)
    monkeypatch.setattr("torch.load", unpickled)
    for load in (GSAC.load, model.set_parameters):
        with pytest.raises(ValueError, match=r"model\.zip is damaged"):
            load(str(path))


def test_zip_files_are_read_by_sb3_and_from_streams(tmp_path):
    model = models()[0]
    model.save(tmp_path / "model")
    assert zipfile.ZipFile(tmp_path / "model.zip").testzip() is None
    stream = io.BytesIO()
    model.save(stream)
    assert same(GSAC.load(stream, device="cpu"), model)
    other = GSAC("MlpPolicy", "CartPole-v1", **{**SMALL, "seed": 1})
    other.set_parameters(tmp_path / "model", device="cpu")
    assert other.policy.state_dict().keys() == model.policy.state_dict().keys()
    assert all(other.policy.state_dict()[name].equal(tensor) for name, tensor in model.policy.state_dict().items())


def foreign(folder):
    """Files that hold something else, and what the error says of each in a zip's and in the other format's place."""
    folder.mkdir(exist_ok=True)
    files = {
        "empty": b"",
        "text": b"These are not the weights that you are looking for.\n" * 20,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "nested": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        archive.writestr("word/document.xml", "<document/>")
    save_to_zip_file(folder / "data.zip", data={"gamma": 0.9})
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(folder / "ppo.zip")
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, folder / "other.safetensors")
    save_file({"weight": torch.zeros(2)}, folder / "bare.safetensors", {"format": "pt"})
    return sorted(folder.iterdir())


def test_foreign_files_are_refused_with_their_name(tmp_path):
    model = models()[0]
    model.save(tmp_path / "model.zip")
    model.save_weights(tmp_path / "model.safetensors")
    paths = foreign(tmp_path / "foreign")
    assert len(paths) == 9
    for load, own in ((GSAC.load, "model.safetensors"), (GSAC.from_weights, "model.zip")):
        for path in [*paths, tmp_path / own]:
            with pytest.raises(ValueError, match="holds no") as refusal:
                load(path)
            assert str(path) in str(refusal.value)
        with pytest.raises(ValueError, match="is a folder"):
            load(tmp_path)
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no REINFORCE model: policy.optimizer.pth"):
        REINFORCE.load(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="holds a model of GSAC: use GSAC.from_weights"):
        REINFORCE.from_weights(tmp_path / "model.safetensors")


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


def test_what_is_no_plain_data_is_asked_for_when_the_model_is_loaded(tmp_path):
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
        (lambda file: file["arguments"].update(estimator={":os:": "system"}), "'system' is not among"),
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
from gsac import GSAC
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


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (2, 3)),
        spaces.Box(np.array([-1.1, -np.inf], np.float32), np.array([0.1, 1 / 3], np.float32)),
        spaces.Box(-np.pi, np.inf, (), np.float64),
        spaces.Box(0, 255, (3, 4, 1), np.uint8),
        spaces.Box(-(2**62), 2**62 + 1, (2,), np.int64),
        spaces.Discrete(5, start=-3),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, -3]]),
        spaces.MultiDiscrete([2, 3], dtype=np.int32),
        spaces.MultiBinary(3),
        spaces.MultiBinary([2, 3]),
        spaces.Dict(
            {"z": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Box(0, 1, (1,)), "a": spaces.MultiBinary(2)})}
        ),
    ],
    ids=str,
)
def test_spaces_come_back_exactly(space):
    back = space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))
    assert back == space
    assert back.dtype == space.dtype
    if isinstance(space, spaces.Box):
        assert np.array_equal(back.low, space.low)
        assert np.array_equal(back.high, space.high)
        assert back.low.dtype == space.low.dtype
    if isinstance(space, spaces.Dict):
        assert list(back.spaces) == list(space.spaces)


def test_spaces_without_a_form_in_json_are_refused():
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        space_to_json(spaces.Text(3))
