import warnings

import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations
from problems import Match
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from gsac import GSAC, DeviceReplayBuffer, Linear, PrioritizedDictReplayBuffer, PrioritizedReplayBuffer
from gsac.replay.batch import Batch

QUICK = {"learning_starts": 40, "batch_size": 16, "buffer_size": 1000, "device": "cpu", "seed": 0}
ALPHA, EPSILON = 0.6, 1e-6


def prioritized(env="CartPole-v1", kind=PrioritizedReplayBuffer, policy="MlpPolicy", beta=0.5, **kwargs):
    settings = {"replay_buffer_class": kind, "replay_buffer_kwargs": {"alpha": ALPHA, "beta": beta}}
    return GSAC(policy, env, **(QUICK | settings | kwargs))


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_priorities_are_the_errors_of_the_networks(n_steps, n_envs):
    """With a learning rate of 0 the errors of each transition stay what they are."""
    env = make_vec_env("CartPole-v1", n_envs=n_envs, seed=0)
    model = prioritized(env, n_steps=n_steps, learning_rate=0.0, tau=0.0, learning_starts=200).learn(200)
    buffer = model.replay_buffer
    model.set_logger(configure(None, []))
    model.train(150, 16)
    with torch.no_grad():
        everything = buffer._get_samples(np.arange(200))
        batch = Batch.from_replay(everything, model.memory.codec, model.gamma)
        errors = model.learner.critic_loss(batch, model.coefficient.value).td_errors
    errors = errors.numpy()
    stored = buffer.sum_tree[:200]
    drawn = stored != 1.0  # the priority of what is new
    assert drawn.sum() > 150
    assert np.allclose(stored[drawn], (errors[drawn] + EPSILON) ** ALPHA, rtol=1e-3)
    assert buffer.max_priority == pytest.approx(max(1.0, errors[drawn].max()), rel=1e-3)
    assert buffer.n_steps == n_steps


def test_beta_follows_its_schedule_over_the_run_or_over_updates():
    seen = {}
    for beta in ("linear:0.4:1", Linear(0.4, 1.0, updates=100)):
        model = prioritized(beta=beta, learning_starts=0)
        model.set_logger(configure(None, []))
        model.learn(200, log_interval=10_000)
        seen[str(beta)] = model.logger.name_to_value["train/beta"], model.replay_buffer.beta
    over_run, over_updates = seen.values()
    assert over_run == pytest.approx((1.0, 1.0), abs=0.005)
    assert over_updates == (1.0, 1.0)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_the_number_of_steps_reaches_the_buffer_without_a_warning_and_comes_back_from_a_file(n_steps, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = prioritized(n_steps=n_steps, gamma=0.9).learn(80)
        model.save(tmp_path / "model")
        loaded = GSAC.load(tmp_path / "model", env=gymnasium.make("CartPole-v1"))
        changed = GSAC.load(tmp_path / "model", env=gymnasium.make("CartPole-v1"), n_steps=2)
    for each, steps in ((model, n_steps), (loaded, n_steps), (changed, 2)):
        assert type(each.replay_buffer) is PrioritizedReplayBuffer
        assert (each.replay_buffer.n_steps, each.replay_buffer.gamma) == (steps, 0.9)
        assert each.replay_buffer_kwargs == {"alpha": ALPHA, "beta": 0.5}


def test_a_saved_buffer_keeps_its_priorities(tmp_path):
    model = prioritized(beta="linear:0.4:1").learn(100)
    model.save_replay_buffer(tmp_path / "buffer")
    other = prioritized()
    other.load_replay_buffer(tmp_path / "buffer")
    ours, theirs = model.replay_buffer, other.replay_buffer
    assert len(np.unique(ours.sum_tree[:100])) > 20
    assert np.array_equal(ours.sum_tree[:], theirs.sum_tree[:])
    assert (ours.max_priority, ours.beta) == (theirs.max_priority, theirs.beta)
    other.learn(60)
    assert theirs.size() == 160


def test_dictionaries_and_observations_stored_once():
    env = DictObservations(gymnasium.make("CartPole-v1"))
    model = prioritized(env, PrioritizedDictReplayBuffer, "MultiInputPolicy", n_steps=2).learn(80)
    assert len(np.unique(model.replay_buffer.sum_tree[:80])) > 10
    with pytest.raises(TypeError, match="replay_buffer_class=PrioritizedDictReplayBuffer"):
        prioritized(env, policy="MultiInputPolicy")
    once = {"alpha": ALPHA, "handle_timeout_termination": False}
    model = prioritized(replay_buffer_kwargs=once, optimize_memory_usage=True, buffer_size=60).learn(150)
    assert model.replay_buffer.sum_tree[np.array([30])] == 0


def test_with_alpha_of_zero_replay_is_uniform_and_the_loss_unweighted():
    model = prioritized(Match(gymnasium.spaces.MultiBinary(3)), replay_buffer_kwargs={"alpha": 0}).learn(100)
    assert model.replay_buffer.sum_tree[:100].tolist() == [1] * 100
    assert model.replay_buffer.sample(32).weights.equal(torch.ones(32))


def test_other_buffers_bring_no_weights():
    model = GSAC("MlpPolicy", "CartPole-v1", **QUICK).learn(60)
    assert type(model.replay_buffer) is DeviceReplayBuffer
    assert model.learner.critic_loss(model.sample_batch(8), model.coefficient.value).td_errors is None
    assert "train/beta" not in model.logger.name_to_value
