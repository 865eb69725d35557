"""Evaluates models by whole episodes, after and during training."""

from __future__ import annotations

import statistics
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from gsac.callbacks.evaluation import masked

N_EVALUATIONS = 20
"""During a run."""


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of whole episodes."""

    returns: list[float]
    lengths: list[int]

    @property
    def mean(self) -> float:
        """The mean return."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        """The population standard deviation of the returns."""
        return statistics.pstdev(self.returns)


def evaluate_model(model: BaseAlgorithm, env: VecEnv, episodes: int, deterministic: bool) -> Evaluation:
    """Plays whole episodes, within the environment's action masks if it has any.

    sb3-contrib has an ``evaluate_policy`` with masks too; it is no dependency of this package.
    """
    returns, lengths = evaluate_policy(masked(model, env), env, episodes, deterministic, return_episode_rewards=True)
    assert isinstance(returns, list)
    assert isinstance(lengths, list)
    return Evaluation([float(value) for value in returns], [int(length) for length in lengths])


def evaluation_steps(total_timesteps: int) -> list[int]:
    """About twenty steps, evenly spaced, the last one included.

    >>> evaluation_steps(10)
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    return sorted({max(total_timesteps * i // N_EVALUATIONS, 1) for i in range(1, N_EVALUATIONS + 1)})


class AtSteps(BaseCallback):
    """Measures something at given steps, and ends the training at the last of them; ``curve`` collects what it finds.

    A step that is not a multiple of the number of environments is taken to be the next one that is. The measurement comes
    after the updates that the experience up to that step made possible.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        super().__init__()
        self.waiting = list(steps)
        self.curve: list[dict[str, Any]] = []
        self.steps_made = 0

    @abstractmethod
    def point(self) -> dict[str, Any]:
        """What is measured now, without the step."""

    def _on_rollout_start(self) -> None:
        self._catch_up(self.model.num_timesteps)

    def _on_step(self) -> bool:
        # What the algorithm does with a step comes after this call, so the steps before this one count.
        self._catch_up(self.steps_made)
        self.steps_made = self.num_timesteps
        return bool(self.waiting)

    def _on_training_end(self) -> None:
        self._catch_up(self.model.num_timesteps)

    def _catch_up(self, steps_made: int) -> None:
        point = None
        while self.waiting and self.waiting[0] <= steps_made:
            point = self.point() if point is None else point
            self.curve.append({"step": self.waiting.pop(0)} | point)


class EvaluateAtSteps(AtSteps):
    """Evaluates the deterministic policy at given steps."""

    def __init__(self, steps: Sequence[int], eval_env: VecEnv, episodes: int) -> None:
        super().__init__(steps)
        self.eval_env = eval_env
        self.episodes = episodes

    def evaluate(self, episodes: int) -> Evaluation:
        """Plays episodes; where observations are normalised, by the statistics of the training."""
        sync_envs_normalization(self.training_env, self.eval_env)
        return evaluate_model(self.model, self.eval_env, episodes, deterministic=True)

    def point(self) -> dict[str, Any]:
        """The mean return."""
        return {"mean": self.evaluate(self.episodes).mean}
