"""Action masks, in sb3-contrib's convention. The environment refuses what it does not allow."""

import gymnasium
import numpy as np
import pytest
import torch
from environments import Allowed, DictObservations
from gymnasium import spaces
from problems import Match
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy as maskable_evaluate_policy
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from gsac import GSAC, DeviceReplayBuffer, GradientDiagnostics, PrioritizedReplayBuffer
from gsac.callbacks.evaluation import EvalWithMasksCallback, masked
from gsac.replay.masks import StoredMasks

SPACES = [spaces.Discrete(7, start=-2), spaces.MultiDiscrete([4, 3], start=[1, -1]), spaces.MultiBinary(5)]
QUICK = {"learning_starts": 40, "batch_size": 16, "buffer_size": 1000, "seed": 0, "device": "cpu"}


def vectorised(space, n_allowed, n_envs=1, wrap=Monitor, kind=DummyVecEnv):
    return kind([lambda: wrap(Allowed(space, n_allowed))] * n_envs)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_no_invalid_action_reaches_the_environment(space, n_envs):
    env = vectorised(space, 2, n_envs)
    model = GSAC("MlpPolicy", env, **QUICK).learn(150)
    assert sum(env.get_attr("actions_seen")) == 150
    evaluate_policy(masked(model, env), env, n_eval_episodes=3, deterministic=False)
    evaluate_policy(masked(model, env), env, n_eval_episodes=3)
    assert sum(env.get_attr("actions_seen")) >= 210


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_with_one_action_left_even_a_random_policy_is_right(space):
    env = vectorised(space, 1)
    model = GSAC("MlpPolicy", env, **(QUICK | {"learning_starts": 10**6})).learn(50)
    assert model.replay_buffer.rewards[:50].min() == 1.0
    assert evaluate_policy(masked(model, env), env, 3, deterministic=False)[0] == 10.0


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_predict_obeys_masks_of_one_and_of_several_observations(space):
    model = GSAC("MlpPolicy", Match(space), **QUICK)
    env = Allowed(space, 1)
    observation, _ = env.reset(seed=1)
    for deterministic in (True, False):
        action, state = model.predict(observation, deterministic=deterministic, action_masks=env.action_masks())
        assert state is None
        assert space.contains(action if action.ndim else space.dtype.type(action))
        assert (np.atleast_1d(action) - env.start == env.target).all()
        several, _ = model.predict(
            np.stack([observation] * 3), deterministic=deterministic, action_masks=np.stack([env.action_masks()] * 3)
        )
        assert several.shape == (3, *space.shape)


def test_the_masks_of_both_states_are_in_the_batch():
    """Two steps of each episode are stored by hand-made masks; the last one's is in the info."""

    class Counting(Match):
        def __init__(self):
            super().__init__(spaces.Discrete(4), length=3)

        def action_masks(self):
            return np.arange(4) >= self.steps  # after k steps, the first k are forbidden

        def step(self, action):
            *rest, info = super().step(action)
            return (*rest, info | {"terminal_action_masks": np.array([0, 0, 0, 1])} if self.steps == 3 else info)

    model = GSAC("MlpPolicy", Counting(), **QUICK).learn(30)
    stored = StoredMasks(model.observation_space, 4)
    for i in range(30):
        (row,), (reached,) = (
            model.replay_buffer.observations[i, :, -4:],
            model.replay_buffer.next_observations[i, :, -4:],
        )
        assert row.tolist() == (np.arange(4) >= i % 3).tolist()
        assert reached.tolist() == ([0, 0, 0, 1] if i % 3 == 2 else (np.arange(4) > i % 3).tolist())
    batch = model.sample_batch(8)
    assert batch.masks.shape == batch.next_masks.shape == (8, 4)
    assert batch.masks.dtype == torch.bool
    assert batch.observations.shape == (8, 4)
    assert model.replay_buffer.observation_space == stored.space


def test_a_cut_off_episode_whose_last_mask_is_unknown_allows_everything_there():
    class Silent(Allowed):
        def step(self, action):
            return (*super().step(action)[:-1], {})

    model = GSAC("MlpPolicy", Silent(spaces.Discrete(6), 2), **QUICK).learn(30)
    reached = model.replay_buffer.next_observations[:30, 0, -6:].sum(-1)
    assert reached[9::10].tolist() == [6, 6, 6]
    assert set(np.delete(reached, [9, 19, 29]).tolist()) == {2}


def test_the_target_the_actor_and_the_entropy_see_allowed_actions_only():
    env = Allowed(spaces.MultiDiscrete([4, 3]), 2)
    model = GSAC("MlpPolicy", env, target_entropy="auto_0.5", **QUICK).learn(60)
    batch = model.sample_batch(16)
    policy = model.actor.distribution(batch.next_observations, batch.next_masks)
    assert policy.sample(50)[:, ~batch.next_masks].eq(0).all()
    values = model.critic.action_values(batch.observations).frozen()
    _, entropy, target = model.learner.actor_loss(batch, values, torch.tensor(0.1))
    assert torch.allclose(target, torch.full((16,), 0.5 * 2 * np.log(2), dtype=torch.float32))  # two of each are left
    assert (entropy <= 2 * np.log(2) + 1e-5).all()
    logits = model.actor.distribution(batch.observations, batch.masks)
    model.learner.actor_loss(batch, values, torch.tensor(0.1))[0].backward()
    assert logits.probs[~batch.masks].eq(0).all()


@pytest.mark.parametrize("space", [spaces.Discrete(6), spaces.MultiBinary(8)], ids=str)
def test_the_target_is_the_value_of_an_allowed_action(space):
    """One action is left in the next state, so that the target is the least of its values there."""
    model = GSAC("MlpPolicy", Allowed(space, 1), gamma=0.5, **QUICK).learn(60)
    batch = model.sample_batch(16)
    left = batch.next_masks.float()
    with torch.no_grad():
        values = torch.cat(model.critic(batch.observations, batch.actions), 1)
        next_value = torch.cat(model.critic_target(batch.next_observations, left), 1).min(1).values
    target = batch.rewards + batch.discounts * next_value
    expected = 0.5 * (values - target[:, None]).square().mean(0).sum()
    loss, *_ = model.learner.critic_loss(batch, torch.tensor(0.1))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_steps_before_learning_are_uniform_over_what_is_allowed():
    model = GSAC("MlpPolicy", Allowed(spaces.Discrete(6), 2), **(QUICK | {"learning_starts": 400}))
    with torch.no_grad():
        model.actor.logits[-1].bias.copy_(torch.arange(6) * 100.0)  # the policy itself would take the last of them
    model.learn(400)
    allowed = model.replay_buffer.observations[:400, 0, -6:] > 0
    greatest = 5 - allowed[:, ::-1].argmax(1)
    share = np.mean(model.replay_buffer.actions[:400, 0, 0] == greatest)
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 400)


def test_where_masks_leave_one_action_the_coefficient_stays():
    model = GSAC("MlpPolicy", Allowed(spaces.Discrete(5), 1), **QUICK).learn(100)
    assert model.log_ent_coef.exp().item() == pytest.approx(0.1, rel=1e-5)


WAYS = {
    "n-step": ({"n_steps": 3}, lambda env: env, NStepReplayBuffer),
    "sb3": ({"replay_buffer_class": ReplayBuffer}, lambda env: env, ReplayBuffer),
    "sb3 dict": ({"replay_buffer_class": DictReplayBuffer}, lambda env: env, DictReplayBuffer),
    "sb3 normalised": ({"replay_buffer_class": ReplayBuffer}, VecNormalize, ReplayBuffer),
    "prioritised": (
        {"n_steps": 3, "replay_buffer_class": PrioritizedReplayBuffer},
        lambda env: env,
        PrioritizedReplayBuffer,
    ),
    "memory": (
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
        lambda env: env,
        DeviceReplayBuffer,
    ),
    "normalised": ({}, VecNormalize, DeviceReplayBuffer),
    "dict": ({}, lambda env: env, DeviceReplayBuffer),
    "dict normalised": ({}, VecNormalize, DeviceReplayBuffer),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_buffer_stores_masks(way):
    kwargs, wrap, buffer = WAYS[way]
    with_dict = "dict" in way
    env = wrap(vectorised(SPACES[1], 2, 2, wrap=DictObservations if with_dict else Monitor))
    policy = "MultiInputPolicy" if with_dict else "MlpPolicy"
    model = GSAC(policy, env, **QUICK, **kwargs).learn(120)
    assert type(model.replay_buffer) is buffer
    batch = model.sample_batch(32)
    observations = batch.observations["vector"] if with_dict else batch.observations
    assert observations.shape == (32, 7)
    assert batch.masks.sum(-1).unique().tolist() == [4]
    assert (batch.masks * batch.actions).sum(-1).eq(2).all()  # what was done was allowed
    assert getattr(model.replay_buffer, "n_steps", 1) == model.n_steps
    if "normalised" in way:
        raw = env.venv.reset()
        assert observations.std() == pytest.approx(1.0, abs=0.4)
        assert np.std(raw["vector"] if with_dict else raw) < 0.6


class Forbidden(BitFlippingEnv):
    """Bits can be flipped in the first half only."""

    def action_masks(self):
        return np.arange(4) < 2

    def step(self, action):
        assert action < 2
        return super().step(action)


def test_hindsight_goals_keep_the_masks():
    env = Forbidden(n_bits=4, max_steps=6)
    model = GSAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **QUICK).learn(120)
    batch = model.sample_batch(64)
    assert isinstance(model.replay_buffer, HerReplayBuffer)
    assert set(batch.observations) == {"observation", "achieved_goal", "desired_goal"}
    assert batch.masks.eq(torch.tensor([True, True, False, False])).all()


def test_images_of_bytes_stay_bytes():
    stored = StoredMasks(spaces.Box(0, 255, (3, 4, 4), np.uint8), 5)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), np.uint8)
    masks = np.array([[1, 0, 0, 1, 1], [0, 1, 0, 0, 0]], bool)
    joined = stored.join(images, masks)
    assert joined.dtype == np.uint8
    assert joined.shape == (2, *stored.space.shape) == (2, 53)
    observations, found = stored.split(torch.as_tensor(joined))
    assert np.array_equal(observations, images)
    assert np.array_equal(found, masks)


def test_processes_and_wrappers_pass_masks_on():
    env = vectorised(SPACES[2], 1, 2, kind=SubprocVecEnv)
    model = GSAC("MlpPolicy", env, **QUICK).learn(40)
    assert model.replay_buffer.rewards[:20].min() == 1.0
    env.close()


def test_use_masking_requires_ignores_or_obeys_masks():
    with pytest.raises(ValueError, match="use_masking=True needs an environment with a method action_masks"):
        GSAC("MlpPolicy", Match(SPACES[0]), **QUICK).learn(10, use_masking=True)
    with pytest.raises(AssertionError, match="is not allowed"):
        GSAC("MlpPolicy", Allowed(SPACES[0], 1), **QUICK).learn(200, use_masking=False)
    assert GSAC("MlpPolicy", Allowed(SPACES[0], 1), **QUICK).learn(50, use_masking=True).memory.stores_masks
    assert not GSAC("MlpPolicy", Match(SPACES[0]), **QUICK).learn(50).memory.stores_masks


def test_a_saved_model_goes_on_with_its_buffer(tmp_path):
    model = GSAC("MlpPolicy", Allowed(SPACES[1], 2), **QUICK).learn(60)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    for env in (Allowed(SPACES[1], 2), None):
        loaded = GSAC.load(tmp_path / "model", env=env, device="cpu")
        loaded.load_replay_buffer(tmp_path / "buffer")
        assert loaded.sample_batch(16).masks.sum(-1).unique().tolist() == [4], (
            "without learn(), as for offline training"
        )
        loaded.set_env(Allowed(SPACES[1], 2))
        loaded.learn(60, reset_num_timesteps=False)
        assert loaded.replay_buffer.pos == 120
        assert loaded.sample_batch(16).masks.sum(-1).unique().tolist() == [4]


def test_a_buffer_without_masks_is_not_mixed_with_masked_steps():
    model = GSAC("MlpPolicy", Match(SPACES[0]), **QUICK).learn(60)
    model.set_env(Allowed(SPACES[0], 2))
    with pytest.raises(ValueError, match="holds 60 transitions without masks"):
        model.learn(60, reset_num_timesteps=False)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones(6, bool), r"has the shape \(6,\), and 7 entries are needed"),
        (np.ones((1, 7), bool), r"has the shape \(1, 7\), and 7 entries are needed"),
        (np.zeros(7, bool), "allows no action in environment 0: it needs at least one"),
        (np.full(7, 0.5), "has entries that are neither true nor false"),
    ],
)
def test_wrong_masks_are_named_with_their_step(mask, message):
    class Wrong(Allowed):
        def action_masks(self):
            return mask if self.actions_seen == 5 else super().action_masks()

    with pytest.raises(ValueError, match=r"at step \d+, " + message):
        GSAC("MlpPolicy", Wrong(SPACES[0], 3), **QUICK).learn(60)
    if mask.ndim == 1:
        with pytest.raises(ValueError, match=message):
            GSAC("MlpPolicy", Match(SPACES[0]), **QUICK).predict(np.zeros(7, np.float32), action_masks=mask)


def test_each_observation_needs_its_mask():
    with pytest.raises(ValueError, match="3 action_masks do not fit 1 observations"):
        GSAC("MlpPolicy", Match(SPACES[0]), **QUICK).predict(np.zeros(7), action_masks=np.ones((3, 7), bool))


def test_contribs_evaluation_and_callback_work_as_they_are():
    env, eval_env = vectorised(SPACES[1], 1), vectorised(SPACES[1], 1)
    callback = MaskableEvalCallback(eval_env, n_eval_episodes=2, eval_freq=20, verbose=0)
    model = GSAC("MlpPolicy", env, **QUICK).learn(60, callback=callback)
    assert callback.last_mean_reward == 10.0
    assert maskable_evaluate_policy(model, eval_env, n_eval_episodes=2, deterministic=False)[0] == 10.0
    assert maskable_evaluate_policy(model, Monitor(Allowed(SPACES[1], 1)), n_eval_episodes=2)[0] == 10.0


def test_a_choice_without_a_class_is_named():
    with pytest.raises(ValueError, match="in environment 0: choice 1 needs at least one"):
        GSAC("MlpPolicy", Match(SPACES[1]), **QUICK).predict(
            np.zeros(7, np.float32), action_masks=np.array([1, 1, 1, 1, 0, 0, 0])
        )


def test_evaluations_on_the_way_obey_masks():
    env, eval_env = vectorised(SPACES[0], 1), vectorised(SPACES[0], 1)
    callback = EvalWithMasksCallback(eval_env, n_eval_episodes=2, eval_freq=20, verbose=0)
    GSAC("MlpPolicy", env, **QUICK).learn(60, callback=callback)
    assert callback.last_mean_reward == 10.0
    plain = EvalWithMasksCallback(Monitor(gymnasium.make("CartPole-v1")), n_eval_episodes=1, eval_freq=30, verbose=0)
    GSAC("MlpPolicy", "CartPole-v1", **QUICK).learn(60, callback=plain)
    assert plain.last_mean_reward > 0


def test_the_gradient_is_measured_within_the_masks():
    class Watch(BaseCallback):
        def _on_step(self):
            self.found = self.logger.name_to_value.get("gradient/relative_bias", getattr(self, "found", None))
            return True

    watch = Watch()
    model = GSAC("MlpPolicy", Allowed(SPACES[0], 2), **QUICK)
    model.learn(100, callback=[GradientDiagnostics(every=50, samples=4), watch])
    assert watch.found == pytest.approx(0.0, abs=1e-3)  # one choice and linear critics: straight-through is exact


@pytest.mark.slow
def test_seventy_actions_of_which_few_are_allowed_are_learned():
    env = vectorised(spaces.Discrete(70), 15)
    model = GSAC("MlpPolicy", env, seed=1, device="cpu").learn(6000)
    assert evaluate_policy(masked(model, env), env, 20)[0] > 9.5
