"""What the algorithms of this package share, whichever of SB3's they build upon."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import FloatSchedule, update_learning_rate

from gsac.algorithms.arguments import check_number, check_schedule, is_learning_rate
from gsac.files import atomic_write
from gsac.schedules import Schedule, value_at
from gsac.training.threads import choose_threads, torch_threads


class Algorithm(BaseAlgorithm):
    """Schedules from strings, files written whole, a fitting number of threads. To be named before SB3's own class."""

    max_grad_norm: Any  # a number or None; SB3's on-policy algorithms declare a number
    num_threads: int | str

    def _check_shared_arguments(self) -> None:
        if self.max_grad_norm is not None:
            check_number(
                "max_grad_norm", self.max_grad_norm, "a number above 0, or None", lambda value: value > 0, 10.0
            )
        if self.num_threads != "auto":
            check_number("num_threads", self.num_threads, "'auto', 1, 2, ...", lambda value: value >= 1, 1)
        self._learning_rate_schedule = check_learning_rate("learning_rate", self.learning_rate)

    def _setup_lr_schedule(self) -> None:
        self.lr_schedule = FloatSchedule(self._learning_rate_schedule)

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        # Whoever wants to freeze a model replaces lr_schedule, as in SB3; inside ours is the schedule with its own clock.
        learning_rate = self._value_at(getattr(self.lr_schedule, "value_schedule", self.lr_schedule))
        self.logger.record("train/learning_rate", learning_rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            update_learning_rate(optimizer, learning_rate)

    def _value_at(self, schedule: Schedule) -> float:
        # The last steps may go beyond the run's end, and no schedule was made for that.
        return value_at(schedule, max(self._current_progress_remaining, 0.0), self._n_updates)

    def _limited_threads(self) -> AbstractContextManager[None]:
        n_parameters = sum(parameter.numel() for parameter in self.policy.parameters())
        return torch_threads(choose_threads(self.num_threads, n_parameters, self.device))

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Saves as SB3 does, and writes the file whole or not at all: an older one is kept until then."""
        if not isinstance(path, str | pathlib.Path):
            return super().save(path, exclude, include)
        path = pathlib.Path(path)
        with atomic_write(path if path.suffix else path.with_suffix(".zip")) as file:
            return super().save(file, exclude, include)


def check_learning_rate(name: str, value: float | str | Schedule) -> Schedule:
    """The schedule that ``value`` stands for.

    :raises TypeError: neither a number, a string nor a callable
    :raises ValueError: a string that describes no schedule, or a value below 0
    """
    return check_schedule(name, value, "a number of at least 0, or a schedule of such", is_learning_rate, 1e-3)
