"""Exported policies, run by ONNX Runtime, act as the models that they come from."""

import json
import subprocess
import sys

import gymnasium
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from environments import Images
from gymnasium import spaces
from problems import Match

from gsac import GSAC, REINFORCE
from gsac.cli import main as cli
from gsac.saving.onnx_export import export_onnx
from gsac.spaces.space_json import space_from_json

SIZES = [2, 3]
ACTION_SPACES = [
    spaces.Discrete(5, start=-2),
    spaces.MultiDiscrete(SIZES, start=[4, -1]),
    spaces.MultiBinary(3),
]
QUICK = {"device": "cpu", "buffer_size": 128, "seed": 0}


class Observed(gymnasium.Env):
    """Gives samples of a space."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, True, False, {}


def session(model, path, **kwargs):
    export_onnx(model, path, **kwargs)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def sharpened(model, scale=30.0):
    """With logits far apart, as those of a trained policy, and each class the best one somewhere."""
    last = model.actor.logits[-1]
    observations, _ = model.policy.obs_to_tensor(batch(model.observation_space, 100))
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.sub_(model.actor.distribution(observations).logits.mean(0))
    return model


def batch(space, n):
    """n samples: an array, or one for each key."""
    space.seed(1)
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: varied(np.stack([sample[key] for sample in samples])) for key in samples[0]}
    return varied(np.stack(samples))


def varied(values):
    """Images in all shades, as those of pure noise look alike to a network."""
    shade = np.random.default_rng(0).uniform(0, 1, (len(values), 1, 1, 1))
    return (values * shade).astype(np.uint8) if values.dtype == np.uint8 else values


def fed(observations):
    if isinstance(observations, dict):
        return {f"observation.{key}": values for key, values in observations.items()}
    return {"observation": observations}


IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)
CASES = [
    *[("MlpPolicy", spaces.Box(-10, 10, (6,)), space) for space in ACTION_SPACES],
    ("MlpPolicy", spaces.Box(-10, 10, (2, 3), np.float64), ACTION_SPACES[0]),
    ("MlpPolicy", spaces.Discrete(7), ACTION_SPACES[1]),
    ("MlpPolicy", spaces.MultiDiscrete([3, 4]), ACTION_SPACES[2]),
    ("MlpPolicy", spaces.MultiBinary(6), ACTION_SPACES[0]),
    ("CnnPolicy", IMAGE, ACTION_SPACES[1]),
    ("CnnPolicy", spaces.Box(0, 255, (3, 36, 40), np.uint8), ACTION_SPACES[2]),
    ("CnnPolicy", spaces.Box(0, 255, (10, 10, 4), np.uint8), ACTION_SPACES[0]),
    (
        "MultiInputPolicy",
        spaces.Dict({"vector": spaces.Box(-10, 10, (3,)), "mask": spaces.Discrete(4), "image": IMAGE}),
        ACTION_SPACES[0],
    ),
]


@pytest.mark.parametrize(("policy", "observation_space", "action_space"), CASES, ids=str)
def test_deterministic_actions_are_those_of_predict(policy, observation_space, action_space, tmp_path):
    model = sharpened(GSAC(policy, Observed(observation_space, action_space), **QUICK))
    run = session(model, tmp_path / "policy.onnx")
    observations = batch(observation_space, 300)
    expected, _ = model.predict(observations, deterministic=True)
    (actions,) = run.run(None, fed(observations))
    assert np.array_equal(actions, expected)
    assert actions.dtype == action_space.dtype
    assert len(np.unique(actions, axis=0)) > 1
    one = {name: values[:1] for name, values in fed(observations).items()}
    assert np.array_equal(run.run(None, one)[0], expected[:1])


@pytest.mark.parametrize("action_space", ACTION_SPACES, ids=str)
def test_sampled_actions_are_the_greatest_perturbed_logits_and_have_the_policys_frequencies(action_space, tmp_path):
    model = GSAC("MlpPolicy", Match(action_space), **QUICK)
    sharpened(model, 3.0)
    run = session(model, tmp_path / "policy.onnx", stochastic=True)
    n, codec = 20_000, model.actor.codec
    observation = batch(model.observation_space, 1)
    noise = np.random.default_rng(0).standard_exponential((n, codec.groups.flat_size), dtype=np.float32)
    (actions,) = run.run(None, {"observation": observation.repeat(n, 0), "noise": noise})
    assert all(action_space.contains(action) for action in np.unique(actions, axis=0).astype(action_space.dtype))
    policy = model.actor.distribution(torch.as_tensor(observation))
    gumbel = -torch.as_tensor(noise).log()
    perturbed = (policy.logits.detach() + gumbel).split(codec.groups.sizes, -1)
    classes = torch.stack([part.argmax(-1) for part in perturbed], -1).numpy()
    assert np.array_equal(actions.reshape(n, -1), classes + np.array(codec.start))
    for group, probs in enumerate(policy.probs.detach()[0].split(codec.groups.sizes)):
        expected = n * probs.double().numpy()
        counts = np.bincount(classes[:, group], minlength=len(probs))
        assert ((counts - expected) ** 2 / expected).sum() < 25.0  # chi-square, up to 4 degrees: once in 20,000 times


@pytest.mark.parametrize(
    ("action_space", "stochastic"), [*((space, True) for space in ACTION_SPACES), (ACTION_SPACES[1], False)], ids=str
)
def test_masked_classes_are_never_chosen(action_space, stochastic, tmp_path):
    model = sharpened(GSAC("MlpPolicy", Match(action_space), **QUICK))
    run = session(model, tmp_path / "policy.onnx", stochastic=stochastic, masks=True)
    n, codec, rng = 2000, model.actor.codec, np.random.default_rng(0)
    sizes = codec.groups.sizes
    mask = np.concatenate(
        [rng.permuted(np.arange(size) < rng.integers(1, size + 1, (n, 1)), axis=1) for size in sizes], 1
    )
    inputs = {"observation": batch(model.observation_space, n), "mask": mask}
    if stochastic:
        inputs["noise"] = rng.standard_exponential((n, sum(sizes)), dtype=np.float32)
        inputs["noise"][:5] = 0.0  # the strongest noise there is
    (actions,) = run.run(None, inputs)
    chosen = codec.encode(torch.as_tensor(actions)).bool().numpy()
    assert (chosen <= mask).all()
    assert (chosen.sum(1) == len(sizes)).all()
    free = run.run(None, inputs | {"mask": np.ones_like(mask)})[0]
    if not stochastic:
        assert np.array_equal(free, model.predict(inputs["observation"], deterministic=True)[0])
    assert not np.array_equal(actions, free)


def test_the_metadata_describe_the_policy(tmp_path):
    model = GSAC("CnnPolicy", Images(), **QUICK)
    export_onnx(model, tmp_path / "policy.onnx", stochastic=True)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "policy.onnx").metadata_props}
    assert metadata["actions"] == "stochastic"
    assert metadata["gsac"]
    assert space_from_json(json.loads(metadata["observation_space"])) == Images.observation_space
    assert space_from_json(json.loads(metadata["action_space"])) == Images.action_space


def test_exporting_leaves_the_model_as_it_was_and_a_failed_export_the_older_file(tmp_path):
    model = GSAC("MlpPolicy", "CartPole-v1", **QUICK, learning_starts=5).learn(10)
    model.policy.set_training_mode(True)
    state = torch.get_rng_state()
    export_onnx(model, tmp_path / "policy.onnx")
    assert model.actor.training
    assert torch.get_rng_state().equal(state)
    before = (tmp_path / "policy.onnx").read_bytes()
    model.actor.logits[0] = torch.nn.Linear(3, 64)
    with pytest.raises(RuntimeError):
        export_onnx(model, tmp_path / "policy.onnx")
    assert (tmp_path / "policy.onnx").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["policy.onnx"]


def test_the_command_writes_both_files_and_they_act_and_are_evaluated(tmp_path, capsys):
    model = GSAC("MlpPolicy", "CartPole-v1", **QUICK)
    model.save(tmp_path / "model.zip")
    files = ["--onnx", str(tmp_path / "a.onnx"), "--weights", str(tmp_path / "a.safetensors")]
    cli.main(["export", str(tmp_path / "model.zip"), *files])
    assert capsys.readouterr().out.count("\n") == 2
    observations = np.random.default_rng(0).uniform(-1, 1, (300, 4)).astype(np.float32)
    (actions,) = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"observation": observations})
    assert np.array_equal(actions, model.predict(observations, deterministic=True)[0])
    for name in ("model.zip", "a.safetensors"):
        cli.main(["evaluate", str(tmp_path / name), "--env", "CartPole-v1", "--episodes", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]


def test_a_file_of_weights_tells_the_command_its_algorithm(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    REINFORCE("MlpPolicy", "CartPole-v1", device="cpu").save_weights(path)
    cli.main(["evaluate", str(path), "--env", "CartPole-v1", "--episodes", "1"])
    assert capsys.readouterr().out.startswith("CartPole-v1: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.zip"], "pass --onnx"),
        (["model.zip", "--weights", "a.safetensors", "--masks"], "pass --onnx"),
        (["model.zip", "--weights", "weights.bin"], "--weights weights.bin has another suffix than .safetensors"),
        (["nowhere", "--onnx", "a.onnx"], "no model at nowhere"),
        (["damaged.zip", "--onnx", "a.onnx"], "damaged.zip holds no GSAC model"),
        (["reinforce.safetensors", "--onnx", "a.onnx"], "The policy of REINFORCE cannot be exported"),
    ],
    ids=" ".join,
)
def test_mistakes_are_answered_with_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.zip").write_bytes(b"damaged")
    REINFORCE("MlpPolicy", "CartPole-v1", device="cpu").save_weights("reinforce")
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("gsac: error: ")
    assert error.count("\n") == 1
    assert message in error


MISSING = """
import sys
sys.modules["onnx"] = None
from gsac import GSAC
from gsac.cli import main as cli
GSAC("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=128).save("model")
cli.main(["export", "model.zip", "--onnx", "a.onnx"])
"""


def test_without_its_packages_the_command_names_them_in_one_line(tmp_path):
    result = subprocess.run([sys.executable, "-c", MISSING], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith('Write: pip install "gsac[onnx]"')
    assert not (tmp_path / "a.onnx").exists()
