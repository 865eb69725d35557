"""How actions are chosen in training: noise that lasts, and actions drawn in the policy's place."""

import gymnasium
import numpy as np
import pytest
import torch
from environments import Allowed
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from gsac import GSAC, MlpPolicy
from gsac.algorithms.exploration import Explorer

PROBS = torch.tensor([0.1, 0.2, 0.7])
ACTS_ONLY = {
    "learning_starts": 0,
    "epsilon": 0,
    "batch_size": 16,
    "buffer_size": 50_000,
    "train_freq": 16,
    "seed": 0,
    "device": "cpu",
}


class Still(gymnasium.Env):
    """Nothing changes; whoever takes action 0 in ``at_rest`` steps in a row has done it, else the time runs out."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, length, at_rest=10**9):
        self.length, self.at_rest = length, at_rest

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_of_episode, self.resting = 0, 0
        return np.ones(2, np.float32), {}

    def step(self, action):
        self.step_of_episode += 1
        self.resting = self.resting + 1 if action == 0 else 0
        done = self.resting == self.at_rest
        return np.ones(2, np.float32), float(done), done, self.step_of_episode >= self.length, {}


def acting(duration, n_envs, length, steps, probs=PROBS, at_rest=10**9, **kwargs):
    """A model that acted and never learned, by a policy that is ``probs`` everywhere."""
    env = DummyVecEnv([lambda: Monitor(Still(length, at_rest))] * n_envs)
    model = GSAC("MlpPolicy", env, noise_duration=duration, gradient_steps=0, **ACTS_ONLY | kwargs)
    with torch.no_grad():
        for parameter in model.actor.logits.parameters():
            parameter.zero_()
        model.actor.logits[-1].bias.copy_(probs.log())
    return model.learn(steps)


def actions_of(model, steps):
    return np.asarray(model.replay_buffer.actions)[: steps // model.n_envs, :, 0]  # [steps, n_envs]


@pytest.mark.parametrize("duration", [1, 4.0, 16])
def test_actions_follow_the_policy_and_change_as_often_as_the_noise(duration):
    steps = 32_000
    actions = actions_of(acting(duration, n_envs=8, length=10**9, steps=steps), steps)
    independent = steps / (2 * duration - 1)  # of a chain that forgets with probability 1 / duration
    shares = np.bincount(actions.ravel(), minlength=3) / steps
    assert shares == pytest.approx(PROBS.numpy(), abs=4 * 0.46 / independent**0.5)
    changes = (actions[1:] != actions[:-1]).mean()
    expected = (1 - PROBS.square().sum().item()) / duration
    assert changes == pytest.approx(expected, abs=4 * (2 * expected / steps) ** 0.5)


def test_noise_ends_with_the_episode_and_each_environment_has_its_own():
    steps, length = 12_000, 5
    actions = actions_of(acting(1e9, n_envs=2, length=length, steps=steps), steps)
    episodes = actions.reshape(-1, length, 2)
    assert (episodes == episodes[:, :1]).all()
    firsts = episodes[:, 0]
    assert np.bincount(firsts.ravel(), minlength=3) / firsts.size == pytest.approx(PROBS.numpy(), abs=0.04)
    assert (firsts[:, 0] == firsts[:, 1]).mean() == pytest.approx(PROBS.square().sum().item(), abs=0.06)
    assert (firsts[1:] == firsts[:-1]).mean() == pytest.approx(PROBS.square().sum().item(), abs=0.04)


def test_what_takes_many_equal_actions_in_a_row_happens_only_under_noise_that_lasts():
    """With fresh noise at each step, twelve rare actions in a row have a probability of 1e-12."""
    seen = {}
    for duration in (1, 16):
        model = acting(duration, n_envs=4, length=50, steps=8_000, at_rest=12)
        seen[duration] = int(np.asarray(model.replay_buffer.rewards).sum())
    assert seen[1] == 0
    assert seen[16] > 20


def test_random_actions_before_learning_starts_are_drawn_anew_each_time():
    env = DummyVecEnv([lambda: Still(10**9)])
    model = GSAC("MlpPolicy", env, noise_duration=1e9, **ACTS_ONLY | {"learning_starts": 2_000}).learn(1_000)
    actions = actions_of(model, 1_000)
    assert (actions[1:] != actions[:-1]).mean() == pytest.approx(2 / 3, abs=0.07)


def test_a_new_run_begins_with_new_noise_and_a_continued_one_does_not():
    model = acting(1e9, n_envs=1, length=10**9, steps=10)
    noise = model.explorer.noise
    model.learn(10, reset_num_timesteps=False)
    assert model.explorer.noise.equal(noise)
    model.learn(10)
    assert not model.explorer.noise.equal(noise)
    assert len(set(actions_of(model, 20)[:, 0])) == 1


@pytest.mark.parametrize("duration", [1, 1e9])
def test_an_action_that_the_policy_has_given_up_comes_back_with_epsilon(duration):
    """Of three actions the policy takes two, each half of the time, so that a third of the drawn ones are the third."""
    steps, given_up = 8_000, torch.tensor([0.5, 0.5, 1e-30])
    model = acting(duration, n_envs=4, length=50, steps=steps, probs=given_up, epsilon="linear:0.6:0")
    thirds = (actions_of(model, steps) == 2).reshape(2, -1).mean(1)
    assert thirds == pytest.approx([0.45 / 3, 0.15 / 3], abs=0.02)
    assert model.logger.name_to_value["rollout/epsilon"] == pytest.approx(0, abs=1e-3)
    never = actions_of(acting(duration, n_envs=4, length=50, steps=steps, probs=given_up), steps)
    assert not (never == 2).any()


@pytest.mark.parametrize(
    "space", [spaces.Discrete(7, start=-2), spaces.MultiDiscrete([4, 3], start=[1, -1]), spaces.MultiBinary(5)], ids=str
)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_masks_are_obeyed_by_warm_up_policy_and_epsilon(space, n_envs):
    env = DummyVecEnv([lambda: Monitor(Allowed(space, 2))] * n_envs)
    settings = ACTS_ONLY | {"epsilon": 0.5, "learning_starts": 30}
    model = GSAC("MlpPolicy", env, noise_duration=20, **settings).learn(150)
    assert sum(env.get_attr("actions_seen")) == model.num_timesteps >= 150


@pytest.mark.parametrize(("duration", "expected"), [(1.0, range(1)), (16.0, range(5, 13))])
def test_an_untrained_policy_climbs_the_mountain_only_with_noise_that_lasts(duration, expected):
    env = make_vec_env("MountainCar-v0", 16, seed=0)
    settings = ACTS_ONLY | {"train_freq": 1, "buffer_size": 1_000}
    model = GSAC("MlpPolicy", env, noise_duration=duration, gradient_steps=0, **settings).learn(16 * 200 * 8)
    lengths = [episode["l"] for episode in model.ep_info_buffer]  # of the last hundred, cut off after 200 steps
    assert len(lengths) == 100
    assert sum(length < 200 for length in lengths) in expected


def certain(action_space, probs):
    """A policy that is ``probs`` everywhere."""
    policy = MlpPolicy(spaces.Box(-1, 1, (2,)), action_space, lambda _: 1e-3, net_arch=[])
    with torch.no_grad():
        policy.actor.logits[-1].weight.zero_()
        policy.actor.logits[-1].bias.copy_(torch.tensor(probs).log())
    return policy


def test_an_explorer_needs_no_algorithm():
    space = spaces.Discrete(3, start=5)
    explorer, policy = Explorer(space), certain(space, [0.2, 0.3, 0.5])
    observation = np.zeros((4, 2), np.float32)
    first = explorer.act(policy, observation, 4, noise_duration=1e9)
    assert all((explorer.act(policy, observation, 4, noise_duration=1e9) == first).all() for _ in range(20))
    noise = explorer.noise
    explorer.observe(np.array([True, False, False, False]))
    explorer.act(policy, observation, 4, noise_duration=1e9)
    assert (explorer.noise != noise).any(1).tolist() == [True, False, False, False]
    explorer.restart()
    explorer.act(policy, observation, 4, noise_duration=1e9)
    assert (explorer.noise != noise).any(1).all()


def test_an_explorers_uniform_actions_obey_masks():
    space = spaces.MultiDiscrete([2, 3])
    explorer = Explorer(space)
    masks = np.tile([True, False, True, True, False], (3000, 1))
    drawn = explorer.uniform(3000, masks)
    assert set(drawn[:, 0]) == {0}
    assert np.bincount(drawn[:, 1], minlength=3) / 3000 == pytest.approx([0.5, 0.5, 0], abs=0.04)
    policy = certain(space, [0.5, 0.5, 0.01, 0.01, 0.98])
    acted = explorer.act(policy, np.zeros((3000, 2), np.float32), 3000, masks=masks, epsilon=1.0)
    assert np.bincount(acted[:, 1], minlength=3) / 3000 == pytest.approx([0.5, 0.5, 0], abs=0.04)
