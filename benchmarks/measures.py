"""The job of every training benchmark: a trial, and a callback that measures something while it trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from arena import Trial

from gsac.experiments.runner import Line

EPISODES = 20


class Observer(Protocol):
    """An SB3 callback that measures something."""

    def line(self) -> Line:
        """Returns the results after training: the rest of the run's line."""


@dataclass(frozen=True)
class Measure:
    """A kind of measurement, with the file of its results.

    :param results: the file of its lines
    :param observer: makes the callback for a job
    :param summary: of a line, to be printed
    :param planned: problems, labels and variations of the trials that are made if none are named; the report's if empty
    :param seeds: of these
    :param one_at_a_time: the time is measured, so that nothing else may run
    """

    results: Path
    observer: Callable[[Job], Observer]
    summary: Callable[[Line], str]
    planned: tuple[tuple[str, str, str], ...] = ()
    seeds: tuple[int, ...] | None = None
    one_at_a_time: bool = False


@dataclass(frozen=True)
class Job:
    """A trial and what is measured while it trains.

    :param episodes: of each policy in an evaluation; no part of what tells runs apart
    :param launched: when its process was started, in seconds since the epoch
    """

    trial: Trial
    measure: Measure
    episodes: int = EPISODES
    launched: float = math.nan

    def __str__(self) -> str:
        return str(self.trial)

    def __reduce__(self) -> tuple[Any, ...]:
        """Records the time. A job is pickled at the moment when its process is started."""
        return type(self), (self.trial, self.measure, self.episodes, time.time())

    def described(self) -> Line:
        """Describes the run before it is made: the beginning of its line."""
        return self.trial.described() | {"episodes": self.episodes}

    def run(self) -> Line:
        """Trains the model. Returns the rest of its line."""
        model, observer = self.trial.model(), self.measure.observer(self)
        model.learn(self.trial.entry.timesteps, callback=observer)
        return observer.line() | {"updates": model._n_updates}
