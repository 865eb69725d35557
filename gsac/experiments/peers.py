"""Stable-Baselines3's own algorithms to compare with, at their best published settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import NatureCNN

from gsac.networks.small_cnn import fitting_extractor
from gsac.schedules import parse_schedule

PEERS: dict[str, type[BaseAlgorithm]] = {"dqn": DQN, "ppo": PPO}


@dataclass(frozen=True)
class Settings:
    """What an algorithm is built with.

    :param arguments: of the constructor; schedules as strings, so that they can be written down
    :param n_envs: environments side by side
    :param normalize: whether running statistics normalise observations and rewards (SB3's ``VecNormalize``)
    :param source: where the settings are from
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 1
    normalize: bool = False
    source: str = "defaults"


SIZE_256 = {"net_arch": [256, 256]}
ZOO: dict[str, dict[str, Settings]] = {
    "dqn": {
        "CartPole-v1": Settings(
            {
                **{"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000},
                **{"gamma": 0.99, "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128},
                **{"exploration_fraction": 0.16, "exploration_final_eps": 0.04, "policy_kwargs": SIZE_256},
            },
            source="zoo 2.9.2, for 50,000 steps",
        ),
        "MountainCar-v0": Settings(
            {
                **{"learning_rate": 4e-3, "batch_size": 128, "buffer_size": 10_000, "learning_starts": 1000},
                **{"gamma": 0.98, "target_update_interval": 600, "train_freq": 16, "gradient_steps": 8},
                **{"exploration_fraction": 0.2, "exploration_final_eps": 0.07, "policy_kwargs": SIZE_256},
            },
            source="zoo 2.9.2, for 120,000 steps",
        ),
        "LunarLander-v3": Settings(
            {
                **{"learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0},
                **{"gamma": 0.99, "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1},
                **{"exploration_fraction": 0.12, "exploration_final_eps": 0.1, "policy_kwargs": SIZE_256},
            },
            source="zoo 2.9.2, for 100,000 steps",
        ),
        "Acrobot-v1": Settings(
            {
                **{"learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0},
                **{"gamma": 0.99, "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1},
                **{"exploration_fraction": 0.12, "exploration_final_eps": 0.1, "policy_kwargs": SIZE_256},
            },
            source="zoo 2.9.2, for 100,000 steps",
        ),
    },
    "ppo": {
        "CartPole-v1": Settings(
            {
                **{"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gae_lambda": 0.8, "gamma": 0.98},
                **{"ent_coef": 0.0, "learning_rate": "linear:0.001:0", "clip_range": "linear:0.2:0"},
            },
            n_envs=8,
            source="zoo 2.9.2, for 100,000 steps",
        ),
        "MountainCar-v0": Settings(
            {"n_steps": 16, "n_epochs": 4, "gae_lambda": 0.98, "gamma": 0.99, "ent_coef": 0.0},
            n_envs=16,
            normalize=True,
            source="zoo 2.9.2, for 1,000,000 steps",
        ),
        "Acrobot-v1": Settings(
            {"n_steps": 256, "n_epochs": 4, "gae_lambda": 0.94, "gamma": 0.99, "ent_coef": 0.0},
            n_envs=16,
            normalize=True,
            source="zoo 2.9.2, for 1,000,000 steps",
        ),
        "LunarLander-v3": Settings(
            {"n_steps": 1024, "batch_size": 64, "n_epochs": 4, "gae_lambda": 0.98, "gamma": 0.999, "ent_coef": 0.01},
            n_envs=16,
            source="zoo 2.9.2, for 1,000,000 steps",
        ),
    },
}
"""The figures of RL Baselines3 Zoo 2.9.2, https://github.com/DLR-RM/rl-baselines3-zoo (hyperparams/dqn.yml, ppo.yml)."""

SCHEDULED = ("learning_rate", "clip_range")
"""Arguments of the peers that take schedules; SB3 reads functions only."""


def peer_settings(algo: str, env_id: str) -> Settings:
    """The published settings for this environment, or SB3's defaults where there are none."""
    return ZOO[algo].get(env_id, Settings(source="SB3 defaults"))


def peer_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as SB3's constructors take them: schedules as functions.

    >>> peer_arguments({"learning_rate": "linear:0.001:0", "n_steps": 32})
    {'learning_rate': Linear(start=0.001, end=0.0, updates=None), 'n_steps': 32}
    """
    return {
        name: parse_schedule(value, name) if name in SCHEDULED and isinstance(value, str) else value
        for name, value in arguments.items()
    }


def with_fitting_extractor(arguments: dict[str, Any], space: spaces.Space[Any]) -> dict[str, Any]:
    """The arguments, and for images that SB3 refuses as too small an extractor that reads them, unless one is given.

    :param space: of the observations, images channels first
    """
    extractor = fitting_extractor(NatureCNN, space)
    if extractor is NatureCNN:
        return arguments
    policy_kwargs = {"features_extractor_class": extractor} | (arguments.get("policy_kwargs") or {})
    return arguments | {"policy_kwargs": policy_kwargs}
