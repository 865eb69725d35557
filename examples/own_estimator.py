"""Trains with an estimator of your own: a function of the policy, the critics' value and the temperature.

    python examples/own_estimator.py

This one averages straight-through over four samples: the same bias and less variance, for four evaluations of the critics
instead of one.
"""

from __future__ import annotations

import argparse

import torch
from stable_baselines3.common.evaluation import evaluate_policy

from gsac import ESTIMATORS, GSAC


def four_straight_through(policy, q, temperature):
    """The mean of four straight-through values. [B]"""
    return torch.stack([ESTIMATORS["straight_through"](policy, q, temperature) for _ in range(4)]).mean(0)


def main(timesteps: int = 10_000, seed: int = 0) -> float:
    """Trains on CartPole-v1, and returns the mean return of the deterministic policy."""
    model = GSAC("MlpPolicy", "CartPole-v1", estimator=four_straight_through, seed=seed)
    model.learn(timesteps)
    mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
    print(f"CartPole-v1: {mean:.1f} +/- {std:.1f}")
    return mean


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.timesteps, options.seed)
