"""Trains on twenty switches at once: a million joint actions, too many for an algorithm that enumerates them.

    python examples/many_joint_actions.py

Each step shows twenty numbers and asks for twenty switches. A switch earns 1/20 if it is on exactly where its number is
positive, so a random policy earns 5 in an episode of ten steps, and the best policy 10.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from gsac import GSAC


class Switches(gymnasium.Env):
    """``n`` switches, ten steps an episode."""

    def __init__(self, n: int = 20) -> None:
        self.action_space = spaces.MultiBinary(n)
        self.observation_space = spaces.Box(-1.0, 1.0, (n,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        reward = float(np.mean(action == self.right))
        self.steps += 1
        return self._observe(), reward, False, self.steps == 10, {}

    def _observe(self):
        numbers = self.np_random.uniform(-1.0, 1.0, self.observation_space.shape).astype(np.float32)
        self.right = numbers > 0
        return numbers


def main(timesteps: int = 20_000, seed: int = 0) -> float:
    """Trains, and returns the mean return of the deterministic policy."""
    model = GSAC("MlpPolicy", Switches(), seed=seed, verbose=1)
    model.learn(timesteps, log_interval=250)
    mean, _ = evaluate_policy(model, Monitor(Switches()), n_eval_episodes=50)
    print(f"2^20 = {2**20:,} joint actions, mean return {mean:.2f} of 10")
    return mean


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.timesteps, options.seed)
