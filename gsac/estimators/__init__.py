"""Estimators of the gradient of E_{a~pi}[q(a)] with respect to the policy's logits. No networks and no updates.

To add one, write a function with the signature of :class:`~gsac.estimators.base.Estimator`, or a frozen dataclass with
such a ``__call__`` if it has settings, and add a line to :data:`ESTIMATORS`, which the command line, the benchmarks and
the parametrised tests read.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from gsac.checks import did_you_mean
from gsac.estimators.base import ActionValue, Estimator
from gsac.estimators.exact import expected, local_expectation
from gsac.estimators.pathwise import GumbelRao, gumbel_softmax, reinmax, straight_through, straight_through_gumbel
from gsac.estimators.score import RLOO, Mixed, Reinforce
from gsac.schedules import Schedule, as_schedule

__all__ = [
    "ESTIMATORS",
    "RLOO",
    "ActionValue",
    "Estimator",
    "GumbelRao",
    "Mixed",
    "Reinforce",
    "enumerates_actions",
    "extract_schedules",
    "resolve_estimator",
]

ESTIMATORS: dict[str, Estimator] = {
    "expected": expected,
    "local_expectation": local_expectation,
    "gumbel_softmax": gumbel_softmax,
    "straight_through": straight_through,
    "straight_through_gumbel": straight_through_gumbel,
    "gumbel_rao": GumbelRao(),
    "reinmax": reinmax,
    "reinforce": Reinforce(),
    "rloo": RLOO(),
    "mixed": Mixed(),
}


def resolve_estimator(estimator: str | Estimator, linear: bool) -> Estimator:
    """Looks up an estimator by its name and sets its settings; ``"auto"`` is the one that suits the critics.

    ``"auto"`` is straight-through if the critics are linear in each group's action, where it is unbiased. Otherwise it
    is Gumbel-Softmax: the critics' gradient at a one-hot says little about the other classes, and relaxed samples
    average it over the inside of the simplex.

    >>> resolve_estimator("rloo:samples=8", linear=True)
    RLOO(samples=8)

    :param estimator: a name, perhaps with settings, as in ``"gumbel_rao:samples=32"`` or ``"mixed:rho=linear:1:0"``; or
        a callable, which is returned as it is
    :param linear: whether the critics are linear in each group's action
    :raises ValueError: no estimator has this name or these settings
    :raises TypeError: neither a name nor a callable
    """
    names = f"'auto', one of {', '.join(map(repr, ESTIMATORS))}, or a function (policy, q, temperature) -> [B]."
    if isinstance(estimator, str):
        if estimator == "auto":
            return straight_through if linear else gumbel_softmax
        name, _, settings = estimator.partition(":")
        if name not in ESTIMATORS:
            raise ValueError(f"estimator={estimator!r} is unknown.{did_you_mean(name, ESTIMATORS)} Pass {names}")
        return _configured(estimator, ESTIMATORS[name], settings) if settings else ESTIMATORS[name]
    if not callable(estimator):
        raise TypeError(f"estimator={estimator!r} is neither a name nor a function. Pass {names}")
    return estimator


def extract_schedules(
    estimator: Estimator, device: torch.device
) -> tuple[Estimator, dict[str, tuple[Schedule, Tensor]]]:
    """Replaces each setting that is a schedule by a 0-d tensor, which the caller fills as training proceeds.

    :return: the estimator with tensors, and for each such setting by name its schedule and its tensor
    """
    if not is_dataclass(estimator):
        return estimator, {}
    changing = {
        setting.name: (as_schedule(getattr(estimator, setting.name), setting.name), torch.zeros((), device=device))
        for setting in fields(estimator)
        if setting.metadata.get("schedule")
    }
    return replace(cast(Any, estimator), **{name: tensor for name, (_, tensor) in changing.items()}), changing


def enumerates_actions(estimator: Estimator) -> bool:
    """Whether it evaluates every joint action, which only small action spaces allow."""
    return estimator is expected or (isinstance(estimator, Reinforce) and estimator.baseline == "exact")


def _configured(text: str, estimator: Estimator, settings: str) -> Estimator:
    """Sets the settings of an estimator that a string gives: ``"a=1,b=x"``."""
    known: dict[str, Any] = {}
    if is_dataclass(estimator):
        known = {setting.name: getattr(estimator, setting.name) for setting in fields(estimator)}
    changes: dict[str, Any] = {}
    for setting in re.split(r",(?=[a-z_]+=)", settings):
        name, _, value = setting.partition("=")
        if name not in known:
            takes = f"takes {', '.join(f'{name}=...' for name in known)}" if known else "takes no settings"
            raise ValueError(f"estimator={text!r}: {setting!r} is not one of its settings; it {takes}.")
        try:
            changes[name] = type(known[name])(value)
        except ValueError:
            changes[name] = value
    try:
        return cast(Estimator, replace(cast(Any, estimator), **changes))
    except (TypeError, ValueError) as error:
        raise ValueError(f"estimator={text!r}: {error}") from None
