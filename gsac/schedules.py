"""Schedules of values that change in training: temperature, learning rate, entropy coefficient and its target.

A schedule is called with the remaining progress, from 1 to 0, and returns the value. SB3's schedules are the same, so
these can be passed to SB3's algorithms as well. By default the progress is that of the run. With ``updates=N`` it is
that of the first N gradient steps, and the value stays at its end afterwards; only this package counts those, in
:func:`value_at`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gsac.checks import check_number, is_at_least_1

CHECKED_AT = tuple(1 - i / 20 for i in range(21))
"""The remaining progress at which :func:`check_schedule` evaluates a schedule."""

Schedule = Callable[[float], float]
"""Maps the remaining progress, from 1 to 0, to the value."""


@dataclass(frozen=True)
class Constant:
    """The same value throughout.

    >>> Constant(0.5)(0.3)
    0.5
    """

    value: float

    def __call__(self, progress_remaining: float) -> float:
        return self.value


@dataclass(frozen=True)
class _FromStartToEnd:
    start: float
    end: float
    updates: int | None = None

    def __post_init__(self) -> None:
        _check_updates(self.updates)


class Linear(_FromStartToEnd):
    """A straight line from ``start`` to ``end``.

    >>> [Linear(1.0, 0.0)(p) for p in (1.0, 0.75, 0.0)]
    [1.0, 0.75, 0.0]
    """

    def __call__(self, progress_remaining: float) -> float:
        return self.end + (self.start - self.end) * progress_remaining


class Exponential(_FromStartToEnd):
    """Geometric interpolation from ``start`` to ``end``, both above 0.

    >>> [round(Exponential(1.0, 0.01)(p), 3) for p in (1.0, 0.5, 0.0)]
    [1.0, 0.1, 0.01]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.start > 0 and self.end > 0):
            raise ValueError(
                f"Exponential(start={self.start}, end={self.end}) is not defined: both must be above 0. "
                "To end at 0, use Linear or Cosine."
            )

    def __call__(self, progress_remaining: float) -> float:
        return self.end * math.pow(self.start / self.end, progress_remaining)


class Cosine(_FromStartToEnd):
    """Half a cosine from ``start`` to ``end``: flat at both ends.

    DALL-E anneals its Gumbel-Softmax with ``Cosine(1.0, 1 / 16, updates=150_000)``.
    Ramesh et al. 2021, https://arxiv.org/abs/2102.12092

    >>> [round(Cosine(1.0, 0.0)(p), 3) for p in (1.0, 0.5, 0.0)]
    [1.0, 0.5, 0.0]
    """

    def __call__(self, progress_remaining: float) -> float:
        return self.end + (self.start - self.end) * (1.0 - math.cos(math.pi * progress_remaining)) / 2.0


@dataclass(frozen=True)
class Piecewise:
    """Straight lines between points (fraction of the progress made, value); constant before the first and after the last.

    >>> schedule = Piecewise(((0.0, 1.0), (0.5, 0.4), (1.0, 0.4)))
    >>> [round(schedule(p), 3) for p in (1.0, 0.75, 0.5, 0.2)]
    [1.0, 0.7, 0.4, 0.4]
    """

    points: tuple[tuple[float, float], ...]
    updates: int | None = None

    def __post_init__(self) -> None:
        _check_updates(self.updates)
        made = [point[0] for point in self.points]
        if not made or made[0] < 0 or made[-1] > 1 or any(a >= b for a, b in pairwise(made)):
            raise ValueError(
                f"Piecewise(points={self.points}) is not defined: pass points (fraction of the progress made, value) "
                "whose fractions rise within [0, 1], such as ((0.0, 1.0), (0.5, 0.25))."
            )

    def __call__(self, progress_remaining: float) -> float:
        made = 1.0 - progress_remaining
        if made <= self.points[0][0]:
            return self.points[0][1]
        for (left, start), (right, end) in pairwise(self.points):
            if made <= right:
                return start + (end - start) * (made - left) / (right - left)
        return self.points[-1][1]


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "exponential": Exponential,
    "cosine": Cosine,
    "piecewise": Piecewise,
}

SCHEDULE_FORMS = (
    "'constant:VALUE', 'linear:START:END', 'exponential:START:END', 'cosine:START:END' or "
    "'piecewise:0=V0,0.5=V1,1=V2', each with ':UPDATES' at its end to run over that many updates"
)


def value_at(schedule: Schedule, progress_remaining: float, n_updates: int) -> float:
    """Evaluates a schedule at the current progress: of the run, or of its first ``updates`` gradient steps if it has any.

    :param progress_remaining: of the run, from 1 to 0
    :param n_updates: gradient steps made so far
    """
    updates = getattr(schedule, "updates", None)
    if updates is not None:
        progress_remaining = 1.0 - min(n_updates / updates, 1.0)
    return float(schedule(progress_remaining))


def parse_schedule(text: str, name: str = "schedule") -> Schedule:
    """Makes a schedule from a string, as YAML files and the command line give it.

    >>> parse_schedule("0.5")
    Constant(value=0.5)
    >>> parse_schedule("cosine:1:0.0625:150000")
    Cosine(start=1.0, end=0.0625, updates=150000)
    >>> parse_schedule("piecewise:0=1,0.5=0.25")
    Piecewise(points=((0.0, 1.0), (0.5, 0.25)), updates=None)

    :param name: of the argument, for the error
    :raises ValueError: the string has none of the forms in :data:`SCHEDULE_FORMS`
    """
    kind, *values = text.strip().split(":")
    try:
        if not values:
            return Constant(float(kind))
        if kind == "piecewise":
            points = tuple(
                (float(at), float(value)) for at, value in (pair.split("=") for pair in values[0].split(","))
            )
            return Piecewise(points, *map(int, values[1:]))
        n_values = 1 if kind == "constant" else 2
        return SCHEDULES[kind](*map(float, values[:n_values]), *map(int, values[n_values:]))
    except (KeyError, TypeError, ValueError) as error:
        reason = f" ({error})" if "not defined" in str(error) or "updates=" in str(error) else ""
        raise ValueError(
            f"{name}={text!r} is not a schedule{reason}. Write a number, or {SCHEDULE_FORMS}; "
            "for example 'cosine:1:0.0625:150000'."
        ) from None


def as_schedule(value: float | str | Schedule, name: str = "schedule") -> Schedule:
    """Makes a schedule from a number, a string, or a function of the remaining progress.

    :raises ValueError: a string that :func:`parse_schedule` refuses
    :raises TypeError: none of the three
    """
    if isinstance(value, str):
        return parse_schedule(value, name)
    if callable(value):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"{name}={value!r} is not a number or a schedule. Write a number, a function of the remaining progress, "
            f"or a string: {SCHEDULE_FORMS}."
        )
    return Constant(float(value))


def check_schedule(name: str, value: Any, allowed: str, is_allowed: Callable[[float], bool], example: Any) -> Schedule:
    """Makes a schedule from an argument and raises an error unless ``is_allowed`` is true for its values.

    :param name: of the argument
    :param value: a number, a string, or a function of the remaining progress
    :param allowed: which values ``is_allowed`` accepts, in words that follow "pass"
    :param example: a value to write
    :raises TypeError: neither a number, a string nor a callable, or a function that does not return numbers
    :raises ValueError: a string that describes no schedule, or ``is_allowed`` is false for a value
    """
    schedule = as_schedule(value, name)
    for progress_remaining, now in values_of(schedule, name):
        if not is_allowed(now):
            when = f", {now:.6g} with {progress_remaining:.0%} of its progress left," if now != value else ""
            raise ValueError(f"{name}={value!r}{when} is out of range: pass {allowed}, such as {name}={example}.")
    return schedule


def values_of(schedule: Schedule, name: str) -> list[tuple[float, float]]:
    """Pairs of remaining progress and value: at the points of a :class:`Piecewise` schedule, otherwise at :data:`CHECKED_AT`.

    :param name: of the argument, for the error
    :raises TypeError: a value is not a number
    """
    points = [1.0 - made for made, _ in schedule.points] if isinstance(schedule, Piecewise) else CHECKED_AT
    values = []
    for progress_remaining in points:
        value = schedule(progress_remaining)
        try:
            values.append((progress_remaining, float(value)))
        except (TypeError, ValueError):
            raise TypeError(
                f"{name}: the schedule gives {value!r} with {progress_remaining:.0%} of its progress left: let it return a number."
            ) from None
    return values


def _check_updates(updates: int | None) -> None:
    if updates is not None:
        allowed = "a number of at least 1, or None for the whole run"
        check_number("updates", updates, allowed, is_at_least_1, "100_000")
