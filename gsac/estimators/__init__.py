"""Floor 1: estimators of the gradient of E_{a~pi}[q(a)] with respect to the policy's logits.

To add one, write a function of the signature of :class:`~gsac.estimators.base.Estimator` and give it a line in
:data:`ESTIMATORS`; the command line and the parametrised tests pick it up from there.
"""

from __future__ import annotations

from difflib import get_close_matches

from gsac.estimators.base import ActionValue, Estimator
from gsac.estimators.exact import expected
from gsac.estimators.pathwise import gumbel_softmax, straight_through, straight_through_gumbel
from gsac.functional.groups import Groups

__all__ = ["ESTIMATORS", "ActionValue", "Estimator", "resolve_estimator"]

ESTIMATORS: dict[str, Estimator] = {
    "expected": expected,
    "gumbel_softmax": gumbel_softmax,
    "straight_through": straight_through,
    "straight_through_gumbel": straight_through_gumbel,
}


def fitting_estimator(groups: Groups) -> Estimator:
    """The estimator that suits these groups by default.

    For a single choice the critics are linear in the action, and straight-through is exact. For several they are not:
    at a sampled corner their gradient misleads, while relaxed samples average it over the inside.
    """
    return straight_through if len(groups) == 1 else gumbel_softmax


def resolve_estimator(estimator: str | Estimator, groups: Groups) -> Estimator:
    """The estimator of that name, or the callable itself; for ``"auto"`` the one that fits the groups.

    :raises ValueError: no estimator has this name
    :raises TypeError: neither a name nor a callable
    """
    if isinstance(estimator, str):
        if estimator == "auto":
            return fitting_estimator(groups)
        if estimator not in ESTIMATORS:
            close = get_close_matches(estimator, ESTIMATORS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"estimator={estimator!r} is unknown.{hint} Pass 'auto', one of {', '.join(map(repr, ESTIMATORS))}, "
                "or a function (policy, q, temperature) -> [B]."
            )
        return ESTIMATORS[estimator]
    if not callable(estimator):
        raise TypeError(
            f"estimator={estimator!r} is neither a name nor a function. Pass 'auto', one of "
            f"{', '.join(map(repr, ESTIMATORS))}, or a function (policy, q, temperature) -> [B]."
        )
    return estimator
