"""The algorithms whose speed is compared, on environments of one size and with episodes of one length."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from arena import PLAIN
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from problems import Match
from sb3_soft import SDSAC
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from gsac import GSAC

EPISODE = 500
FILLED = 2000
"""Transitions in the replay buffer before updates are timed."""


class Cart(CartPoleEnv):
    """CartPole in which nothing ends the episode, so that it is as long for every policy."""

    def __init__(self) -> None:
        super().__init__()
        self.x_threshold = self.theta_threshold_radians = float("inf")


def cart() -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Cart(), EPISODE)


def continuous_cart() -> gymnasium.Env:
    """The same, pushed to the right by a number above 0."""
    number = spaces.Box(-1.0, 1.0, (1,), np.float32)
    return gymnasium.wrappers.TransformAction(cart(), lambda action: int(action[0] > 0), number)


def several_choices() -> gymnasium.Env:
    """Five choices among four."""
    return Match(spaces.MultiDiscrete([4] * 5), EPISODE)


@dataclass(frozen=True)
class Contender:
    """An algorithm in an environment.

    :param mode: GSAC's ``acceleration``; None where there is no such choice, or for its default
    """

    name: str
    algorithm: type[OffPolicyAlgorithm]
    env: Callable[[], gymnasium.Env]
    mode: str | None = None

    def __str__(self) -> str:
        return f"{self.name}, {self.mode}" if self.mode else self.name


GSAC_ONE = Contender("GSAC, `Discrete(2)`", GSAC, cart)
GSAC_SEVERAL = Contender("GSAC, `MultiDiscrete([4] * 5)`", GSAC, several_choices)
SB3_SAC = Contender("SB3 SAC, `Box(1)`", SAC, continuous_cart)
PEERS = (SB3_SAC, Contender("SB3 DQN, `Discrete(2)`", DQN, cart), Contender("SDSAC, `Discrete(2)`", SDSAC, cart))

MODES = {"cpu": ("compile",), "cuda": ("compile", "cudagraph")}
"""GSAC's ways of running an update beside "eager", by the kind of the device."""


def built(contender: Contender, env: VecEnv, width: int, device: str, **arguments: Any) -> OffPolicyAlgorithm:
    """The algorithm with two hidden layers of this width everywhere, and its own defaults otherwise; GSAC acts on samples."""
    if contender.algorithm is GSAC:
        arguments = PLAIN | arguments
    if contender.mode:
        arguments["acceleration"] = contender.mode
    net_arch = [width] * 2
    model = contender.algorithm(
        "MlpPolicy",
        env,
        policy_kwargs=copy.deepcopy({"net_arch": net_arch}),
        buffer_size=100_000,
        seed=0,
        device=device,
        **arguments,
    )
    model.set_logger(configure(None, []))
    return model


def ready_to_update(contender: Contender, width: int, batch: int, device: str) -> OffPolicyAlgorithm:
    """With a buffer filled by random actions."""
    env = make_vec_env(contender.env, 1, seed=0)
    return built(contender, env, width, device, batch_size=batch, learning_starts=FILLED).learn(FILLED)


def ready_to_collect(contender: Contender, n_envs: int, width: int, device: str) -> OffPolicyAlgorithm:
    """One whose policy chooses every action and which never updates; each step by itself, as an update would follow it."""
    exploration = {"exploration_initial_eps": 0.05} if contender.algorithm is DQN else {}
    env = make_vec_env(contender.env, n_envs, seed=0)
    return built(contender, env, width, device, learning_starts=0, train_freq=1, gradient_steps=0, **exploration)


def collect(model: OffPolicyAlgorithm, env_steps: int) -> None:
    """Steps of all environments together."""
    model.learn(env_steps, log_interval=10**9, reset_num_timesteps=False)


def step_alone(env: VecEnv, actions: list[Any], env_steps: int) -> None:
    """The environments without an algorithm, with actions that were drawn beforehand."""
    for number in range(-(-env_steps // env.num_envs)):
        env.step(actions[number % len(actions)])
