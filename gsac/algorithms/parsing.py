"""Reads the arguments that take a schedule, the entropy coefficient and its target."""

from __future__ import annotations

import math

from gsac.learning.coefficient import LOG_ENT_COEF_RANGE
from gsac.schedules import Constant, Linear, Schedule, as_schedule, values_of

DEFAULT_TARGET = Linear(0.8, 0.2)
"""What ``target_entropy="auto"`` stands for, as fractions of the greatest entropy: the policy tries much at first, and has
settled on its best actions in the end."""

DEFAULT_INITIAL_ENT_COEF = 0.1


def parse_ent_coef(ent_coef: float | str | Schedule) -> tuple[bool, Schedule]:
    """Reads ``ent_coef``: whether the coefficient is learned, and its schedule; of a learned one, the value at the start.

    :raises ValueError: a string of another form, a start out of range, a value below 0
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
    """Reads ``target_entropy``: a schedule of the fraction of the greatest entropy.

    :param target_entropy: ``"auto"``, ``"auto_F"`` for the fraction F, a number of nats, or a schedule of the fraction
    :param max_entropy: in nats, the logarithm of the number of joint actions
    :raises ValueError: a target that no policy can reach, or a string of another form
    :raises TypeError: neither a number, a string nor a callable
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
