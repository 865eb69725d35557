"""Files that version 0.1.0 wrote load, and give what they gave then. The archive holds the program that made them, too."""

import json
import tarfile
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.monitor import Monitor

from gsac import GSAC, DeviceReplayBuffer, PrioritizedReplayBuffer, resume
from gsac.envs.wrappers import DiscretizeAction, EpisodeStatistics

ARCHIVE = Path(__file__).parents[1] / "data" / "version_0_1_0.tar.xz"
TARGETS = {"defaults": "mode", "soft": "soft", "mean": "mean"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("version_0_1_0")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(path, filter="data")
    return path


@pytest.fixture(scope="module")
def expected(folder):
    """What version 0.1.0 computed."""
    return json.loads((folder / "expected.json").read_text())


@pytest.fixture(autouse=True)
def silence():
    """Makes every warning an error, since users cannot change old files; but one that Python hides, of old module names."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "gsac.* is now gsac", DeprecationWarning)
        yield


def assert_computes(model, then):
    observations = np.array(then["observations"], np.float32)
    assert model.predict(observations, deterministic=True)[0].tolist() == then["actions"]
    tensor = torch.as_tensor(observations)
    with torch.no_grad():
        policy = model.actor.distribution(tensor)
        values = model.critic(tensor, policy.mode())[0]
    assert policy.logits.tolist() == pytest.approx(np.array(then["logits"]), abs=1e-6)
    assert values.tolist() == pytest.approx(np.array(then["values"]), abs=1e-6)
    assert model.num_timesteps == then["num_timesteps"]


@pytest.mark.parametrize(
    ("name", "load"),
    [("defaults.zip", GSAC.load), ("soft.zip", GSAC.load)]
    + [(f"{name}.safetensors", GSAC.from_weights) for name in TARGETS],
)
def test_models(name, load, folder, expected):
    model = load(folder / name, device="cpu")
    kind = name.split(".")[0]
    assert model.target == TARGETS[kind]
    assert_computes(model, expected[kind])


def test_the_target_that_is_passed_to_load_replaces_that_of_the_file(folder):
    for target in TARGETS.values():
        assert GSAC.load(folder / "soft.zip", device="cpu", target=target).target == target
    with pytest.raises(TypeError, match="'entropy_in_target' any more: pass target='mode', 'mean' or 'soft'"):
        GSAC.load(folder / "soft.zip", device="cpu", entropy_in_target=False)


@pytest.mark.parametrize("name", ["defaults", "soft"])
def test_a_model_learns_on(name, folder, expected):
    model = GSAC.load(folder / f"{name}.zip", env=gymnasium.make("CartPole-v1"), device="cpu")
    before = model.actor.logits[0].weight.detach().clone()
    model.learn(30, reset_num_timesteps=False)
    assert model.num_timesteps == expected[name]["num_timesteps"] + 30
    assert not model.actor.logits[0].weight.equal(before)


@pytest.mark.parametrize(("name", "kind"), [("device", DeviceReplayBuffer), ("prioritized", PrioritizedReplayBuffer)])
def test_replay_buffers(name, kind, folder, expected):
    model = GSAC("MlpPolicy", "CartPole-v1", buffer_size=50, batch_size=8, replay_buffer_class=kind, device="cpu")
    model.load_replay_buffer(folder / f"{name}.pkl")
    buffer = model.replay_buffer
    assert type(buffer) is kind
    assert buffer.size() == 30
    for field, then in expected[name].items():
        now = np.asarray(getattr(buffer, field))[:30, 0].reshape(np.shape(then))
        assert np.array_equal(now, np.array(then, now.dtype))
    assert buffer.sample(20).observations.shape == (20, 4)


def test_a_checkpoint_goes_on_in_the_middle_of_its_episode(folder, expected):
    then = expected["run"]
    env = EpisodeStatistics(Monitor(DiscretizeAction(gymnasium.make("Pendulum-v1", max_episode_steps=40), 3)))
    model = resume(folder / "run.ckpt", env, device="cpu")
    assert_computes(model, then)
    assert (model._n_updates, model.n_steps) == (then["n_updates"], 2)
    assert model._last_obs.tolist() == then["last_obs"]
    assert len(model.get_env().get_attr("rewards")[0]) == 10  # of the second episode
    model.learn(40, reset_num_timesteps=False)
    assert model.num_timesteps == 90
    assert model.replay_buffer.actions[:40, 0, 0].tolist() == then["next_actions"]  # with the noise and epsilon of then
    assert len(model.ep_info_buffer) == 2
