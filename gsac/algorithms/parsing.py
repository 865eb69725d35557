"""Reads the arguments that take a schedule, the entropy coefficient and its target."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gsac.learning.coefficient import LOG_ENT_COEF_RANGE
from gsac.schedules import Constant, Linear, Piecewise, Schedule, as_schedule

DEFAULT_TARGET = Linear(0.8, 0.2)
"""What ``target_entropy="auto"`` aims at, as fractions of the greatest entropy: actions that nobody values yet are tried, and
the policy that learns to choose among them has given up the others in the end."""

DEFAULT_INITIAL_ENT_COEF = 0.1

TRIED_AT = tuple(1 - i / 20 for i in range(21))
"""The remaining progress at which the values of a schedule are checked."""


def is_temperature(value: float) -> bool:
    """Above 0 and finite."""
    return 0 < value < math.inf


def is_probability(value: float) -> bool:
    """Within [0, 1]."""
    return 0 <= value <= 1


def is_learning_rate(value: float) -> bool:
    """At least 0 and finite."""
    return 0 <= value < math.inf


def check_schedule(name: str, value: Any, allowed: str, holds: Callable[[float], bool], example: float) -> Schedule:
    """The schedule that ``value`` stands for, tried where its values can be greatest and least.

    :raises TypeError: neither a number, a string nor a callable, or one that gives something else than numbers
    :raises ValueError: a string that describes no schedule, or a value outside of what is allowed
    """
    schedule = as_schedule(value, name)
    for progress_remaining, now in values_of(schedule, name):
        if not holds(now):
            when = f", {now!r} with {progress_remaining:.0%} of its progress left," if now != value else ""
            raise ValueError(f"{name}={value!r}{when} is out of range: pass {allowed}, such as {name}={example}.")
    return schedule


def values_of(schedule: Schedule, name: str) -> list[tuple[float, float]]:
    """The remaining progress and the schedule's values there: at its corners, if it has any, or in steps of a twentieth.

    :raises TypeError: something else than a number
    """
    tried_at = [1.0 - made for made, _ in schedule.points] if isinstance(schedule, Piecewise) else TRIED_AT
    values = []
    for progress_remaining in tried_at:
        value = schedule(progress_remaining)
        try:
            values.append((progress_remaining, float(value)))
        except (TypeError, ValueError):
            raise TypeError(
                f"{name}: the schedule gives {value!r} with {progress_remaining:.0%} of its progress left: let it return a number."
            ) from None
    return values


def parse_ent_coef(ent_coef: float | str | Schedule) -> tuple[bool, Schedule]:
    """Whether the entropy coefficient is learned, and its values: where it is learned, that at which it starts.

    :raises ValueError: a string of no such form, a start at or below 0, a value below 0
    :raises TypeError: neither a number, a string nor a callable
    """
    least, greatest = map(math.exp, LOG_ENT_COEF_RANGE)
    advice = (
        f"Pass 'auto', 'auto_0.1' to start at 0.1 (or at any number within [{least:.2g}, {greatest:.2g}], where it stays), a "
        "number of at least 0 such as 0.01, or a schedule of such, as in 'linear:0.2:0.02'."
    )
    if ent_coef == "auto":
        return True, Constant(DEFAULT_INITIAL_ENT_COEF)
    learned = isinstance(ent_coef, str) and ent_coef.startswith("auto")
    schedule: Schedule
    try:
        if learned:
            schedule = Constant(float(str(ent_coef).removeprefix("auto_")))
        else:
            schedule = as_schedule(ent_coef, "ent_coef")
    except (TypeError, ValueError) as error:
        raise type(error)(f"ent_coef={ent_coef!r} is not a coefficient. {advice}") from None
    for _, value in values_of(schedule, "ent_coef"):
        if not math.isfinite(value) or value < 0 or (learned and not least <= value <= greatest):
            raise ValueError(f"ent_coef={ent_coef!r} is out of range. {advice}")
    return learned, schedule


def parse_target_entropy(target_entropy: str | float | Schedule, max_entropy: float) -> Schedule:
    """The target as a schedule of its fraction of the greatest entropy.

    :param target_entropy: ``"auto"``, ``"auto_F"`` for the fraction F, a number of nats, or a schedule of the fraction
    :param max_entropy: in nats, the logarithm of the number of joint actions
    :raises ValueError: a target that no policy has, or a string of no such form
    :raises TypeError: none of these
    """
    if target_entropy == "auto":
        return DEFAULT_TARGET
    if max_entropy <= 0:
        raise ValueError(
            f"target_entropy={target_entropy!r} cannot be reached: there is one action to choose from, and its entropy "
            "is 0. Pass 'auto', which then leaves the coefficient as it is."
        )
    name = "target_entropy"
    schedule: Schedule
    if target_entropy is None:
        raise TypeError(
            f"{name}=None is no target: pass 'auto', a fraction such as 'auto_0.3', a number of nats, or a schedule."
        )
    if isinstance(target_entropy, str) and target_entropy.startswith("auto_"):
        try:
            schedule = Constant(float(target_entropy.removeprefix("auto_")))
        except ValueError:
            raise ValueError(
                f"{name}={target_entropy!r} names no fraction: write a number, as in 'auto_0.3'."
            ) from None
    elif callable(target_entropy) or (isinstance(target_entropy, str) and ":" in target_entropy):
        schedule = as_schedule(target_entropy, name)
    else:
        schedule = Constant(as_schedule(target_entropy, name)(1.0) / max_entropy)
    for _, fraction in values_of(schedule, "target_entropy"):
        if not 0 < fraction < 1:
            raise ValueError(
                f"target_entropy={target_entropy!r} cannot be reached: it asks for {fraction * max_entropy:.4g} nats, "
                f"and policies over these actions have between 0 and {max_entropy:.4g}, both excluded. "
                f"Pass 'auto', a fraction such as 'auto_0.3', or nats such as target_entropy={0.3 * max_entropy:.3g}."
            )
    return schedule
