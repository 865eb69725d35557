"""A trial with something that is measured while it trains: the job that every training benchmark is made of."""

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
    """A callback of SB3 that measures."""

    def line(self) -> Line:
        """What was found, when the training is over."""


@dataclass(frozen=True)
class Measure:
    """What is measured while a trial trains.

    :param results: the file of its lines
    :param observer: makes the callback for a job
    :param summary: of a line, to be printed
    :param planned: problems, labels and variations of the trials that are made if none are named; the report's if empty
    :param seeds: of these
    :param one_at_a_time: the time is measured, so that nothing else may run
    """

    results: Path
    observer: Callable[[Job], Any]
    summary: Callable[[Line], str]
    planned: tuple[tuple[str, str, str], ...] = ()
    seeds: tuple[int, ...] | None = None
    one_at_a_time: bool = False


@dataclass(frozen=True)
class Job:
    """A trial and what is measured.

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
        """Notes the time: a job is pickled when its process is started."""
        return type(self), (self.trial, self.measure, self.episodes, time.time())

    def described(self) -> Line:
        """The trial, and how many episodes evaluate it."""
        return self.trial.described() | {"episodes": self.episodes}

    def run(self) -> Line:
        """Trains."""
        model, observer = self.trial.model(), self.measure.observer(self)
        model.learn(self.trial.entry.timesteps, callback=observer)
        return observer.line() | {"updates": model._n_updates}
