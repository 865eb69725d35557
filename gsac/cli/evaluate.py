"""``gsac evaluate``: plays episodes with a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gsac.checks import AT_LEAST_0, AT_LEAST_1, check_number, is_at_least_0, is_at_least_1
from gsac.cli.messages import one_line_errors, print_returns
from gsac.experiments.evaluation import evaluate_model
from gsac.experiments.models import load


@dataclass
class Evaluate:
    """Evaluate a trained model."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """A run's folder, or a model's .zip or .safetensors file."""
    env: str | None = None
    """The environment; None reads it from config.json beside the model."""
    algo: str | None = None
    """The algorithm; None reads it from the file or config.json, and takes gsac if neither names it."""
    episodes: int = 20
    """How many episodes."""
    stochastic: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample the actions, in place of the most probable ones."""
    seed: int = 0
    """Of the episodes; the seed of the run repeats those of its final evaluation."""
    device: str = "auto"
    """Where the networks run: auto, cpu, cuda."""

    def run(self) -> None:
        """Plays the episodes and prints their mean return."""
        with one_line_errors(ValueError):
            check_number("--episodes", self.episodes, AT_LEAST_1, is_at_least_1, 20)
            check_number("--seed", self.seed, AT_LEAST_0, is_at_least_0, 0)
            model, env_id, env = load(self.path, self.env, self.seed, self.device, self.algo)
        deterministic = not self.stochastic
        print_returns(env_id, evaluate_model(model, env, self.episodes, deterministic), deterministic)
