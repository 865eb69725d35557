import warnings

import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations, Images
from problems import Match
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gsac import GSAC, DeviceReplayBuffer, resume
from gsac.callbacks.checkpoint import save_checkpoint
from gsac.replay.request import BufferRequest

QUICK = {"learning_starts": 40, "batch_size": 16, "buffer_size": 1000, "device": "cpu", "seed": 0}


class Allowed(Match):
    """The target is always allowed, with one neighbour."""

    def action_masks(self):
        return np.isin(np.arange(self.action_space.n), [self.target, (self.target + 1) % self.action_space.n])


def on_device(env="CartPole-v1", policy="MlpPolicy", **kwargs):
    return GSAC(policy, env, **(QUICK | {"replay_buffer_class": DeviceReplayBuffer} | kwargs))


@pytest.fixture
def roomy_gpu(monkeypatch):
    """Buffers are chosen as if there were a GPU with room, and made on the CPU."""
    monkeypatch.setattr(BufferRequest, "_fits_on_device", lambda *_: True)
    monkeypatch.setattr(BufferRequest, "_sb3_sums_rewards", False)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"n_steps": 3},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ],
    ids=["plain", "n-step", "stored once"],
)
@pytest.mark.parametrize("env", ["CartPole-v1", "dictionary", "images", "normalised"])
def test_every_kind_of_observation_is_learned_from(env, kwargs):
    policy = {"dictionary": "MultiInputPolicy", "images": "CnnPolicy"}.get(env, "MlpPolicy")
    made = {
        "dictionary": lambda: DictObservations(gymnasium.make("CartPole-v1")),
        "images": Images,
        "normalised": lambda: VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2)),
    }.get(env, lambda: env)()
    model = on_device(made, policy, learning_starts=30, **kwargs).learn(40)
    model.learn(20, reset_num_timesteps=False)
    assert model._n_updates >= 20
    assert model.replay_buffer.size() * model.n_envs == 60
    batch = model.sample_batch(32)
    assert batch.observations["vector"].shape == (32, 4) if env == "dictionary" else len(batch.observations) == 32
    if env == "images":
        assert batch.observations.dtype == torch.uint8


@pytest.mark.parametrize("n_steps", [1, 3])
def test_the_number_of_steps_reaches_the_buffer_without_a_warning_and_comes_back_from_a_file(n_steps, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = on_device(n_steps=n_steps, gamma=0.9).learn(80)
        model.save(tmp_path / "model")
        loaded = GSAC.load(tmp_path / "model", env=gymnasium.make("CartPole-v1"))
        changed = GSAC.load(tmp_path / "model", env=gymnasium.make("CartPole-v1"), n_steps=2)
    for each, steps in ((model, n_steps), (loaded, n_steps), (changed, 2)):
        assert type(each.replay_buffer) is DeviceReplayBuffer
        assert (each.replay_buffer.n_steps, each.replay_buffer.gamma) == (steps, 0.9)
        assert each.replay_buffer_kwargs == {}


def test_a_saved_buffer_comes_back_and_goes_on(tmp_path):
    model = on_device(n_steps=3).learn(100)
    model.save_replay_buffer(tmp_path / "buffer")
    other = on_device()
    other.load_replay_buffer(tmp_path / "buffer")
    assert other.replay_buffer.device == other.device
    assert other.replay_buffer.n_steps == 3
    assert np.array_equal(other.replay_buffer.next_observations, model.replay_buffer.next_observations)
    assert other.learn(60).replay_buffer.size() == 160


def test_with_observations_stored_once_a_new_run_cuts_the_last_episode_off():
    kwargs = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    model = on_device(Match(gymnasium.spaces.Discrete(3)), **kwargs).learn(45)
    assert model.replay_buffer.dones[44] == 0
    with pytest.warns(UserWarning, match="last trajectory in the replay buffer will be truncated"):
        model.learn(1)
    assert model.replay_buffer.dones[44] == 1


@pytest.mark.parametrize("wrap", [Monitor, DictObservations])
@pytest.mark.parametrize("outer", [lambda env: env, VecNormalize], ids=["plain", "normalised"])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_masks_are_stored_beside_the_observations(wrap, outer, n_steps):
    env = outer(DummyVecEnv([lambda: wrap(Allowed(gymnasium.spaces.Discrete(5)))] * 2))
    policy = "MultiInputPolicy" if wrap is DictObservations else "MlpPolicy"
    model = on_device(env, policy, n_steps=n_steps).learn(120)
    assert type(model.replay_buffer) is DeviceReplayBuffer
    assert model.replay_buffer.n_steps == n_steps
    batch = model.sample_batch(64)
    assert batch.masks.sum(-1).unique().tolist() == [2]
    assert (batch.masks * batch.actions).sum(-1).eq(1).all()  # what was done was allowed


@pytest.mark.usefixtures("roomy_gpu")
def test_it_is_chosen_where_the_user_chose_none_and_forgotten_where_it_does_not_fit(tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GSAC("MlpPolicy", "CartPole-v1", n_steps=3, gamma=0.9, **QUICK).learn(60)
        assert type(model.replay_buffer) is DeviceReplayBuffer
        assert (model.replay_buffer.n_steps, model.replay_buffer.gamma) == (3, 0.9)
        assert (
            type(GSAC("MlpPolicy", Allowed(gymnasium.spaces.Discrete(5)), **QUICK).replay_buffer) is DeviceReplayBuffer
        )
        own = GSAC("MlpPolicy", "CartPole-v1", replay_buffer_class=ReplayBuffer, **QUICK)
        assert type(own.replay_buffer) is ReplayBuffer
        model.save(tmp_path / "model")
        model.save_weights(tmp_path / "model")
        assert type(GSAC.load(tmp_path / "model").replay_buffer) is DeviceReplayBuffer
        monkeypatch.setattr(BufferRequest, "_fits_on_device", lambda *_: False)
        for loaded in (GSAC.load(tmp_path / "model"), GSAC.from_weights(tmp_path / "model", "CartPole-v1")):
            assert type(loaded.replay_buffer) is NStepReplayBuffer
            assert (loaded.replay_buffer.n_steps, loaded.replay_buffer.gamma) == (3, 0.9)


def test_on_the_cpu_it_is_chosen_and_shows_arrays_as_sb3s_buffers_do():
    env = DictObservations(gymnasium.make("CartPole-v1"))
    model, with_dict = GSAC("MlpPolicy", "CartPole-v1", **QUICK), GSAC("MultiInputPolicy", env, **QUICK)
    for each in (model, with_dict):
        assert type(each.learn(30).replay_buffer) is DeviceReplayBuffer
        assert isinstance(each.replay_buffer.actions, np.ndarray)
    assert type(GSAC("MlpPolicy", "CartPole-v1", n_steps=3, **QUICK).replay_buffer) is NStepReplayBuffer
    assert type(GSAC("MultiInputPolicy", env, n_steps=3, **QUICK).replay_buffer) is DeviceReplayBuffer
    assert model.replay_buffer.observations[:30].any()
    assert with_dict.replay_buffer.next_observations["vector"][:30].any()
    model.replay_buffer.rewards[:] = 7.0
    assert model.replay_buffer.sample(10).rewards.eq(7.0).all()  # they are the storage itself


def test_a_checkpoint_holds_used_rows_and_cuts_an_unfinished_episode_off(tmp_path):
    model = on_device(Match(gymnasium.spaces.Discrete(3)), n_steps=3, buffer_size=1_000_000).learn(45)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsac.saving.snapshot.pickle_environments", lambda env: (None, "it is far away"))
        save_checkpoint(model, tmp_path / "run.ckpt")
    assert (tmp_path / "run.ckpt").stat().st_size < 2e6
    with pytest.warns(UserWarning, match="goes on with a new episode: it is far away"):
        resumed = resume(tmp_path / "run.ckpt", Match(gymnasium.spaces.Discrete(3)), device="cpu")
    assert type(resumed.replay_buffer) is DeviceReplayBuffer
    assert model.replay_buffer.timeouts[44] == 0
    assert resumed.replay_buffer.timeouts[44] == 1
    assert np.array_equal(resumed.replay_buffer.timeouts[:44], model.replay_buffer.timeouts[:44])
    assert len(resumed.replay_buffer.rewards) == 1_000_000


@pytest.mark.slow
def test_cartpole_is_learned():
    settings = {"learning_starts": 500, "buffer_size": 20_000, "batch_size": 64}
    model = on_device(n_steps=3, target="mean", **settings).learn(6000)
    mean, _ = evaluate_policy(model, Monitor(gymnasium.make("CartPole-v1")), n_eval_episodes=10)
    assert mean > 300
