"""Algorithms of Stable-Baselines3 to compare with, at their best published settings."""

from __future__ import annotations

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from gsac.experiments.settings import Settings

PEERS: dict[str, type[BaseAlgorithm]] = {"dqn": DQN, "ppo": PPO}


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


def peer_settings(algo: str, env_id: str) -> Settings:
    """The published settings for this environment, or SB3's defaults where there are none."""
    return ZOO[algo].get(env_id, Settings(source="SB3 defaults"))
