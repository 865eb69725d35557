"""Floor 1: estimators of the gradient of E_{a~pi}[q(a)] with respect to the policy's logits.

To add one, write a function of the signature of :class:`~gsac.estimators.base.Estimator` and give it a line in
:data:`ESTIMATORS`; the command line and the parametrised tests pick it up from there.
"""

from __future__ import annotations

from difflib import get_close_matches

from gsac.estimators.base import ActionValue, Estimator
from gsac.estimators.exact import expected
from gsac.estimators.pathwise import gumbel_softmax, straight_through, straight_through_gumbel

__all__ = ["ESTIMATORS", "ActionValue", "Estimator", "resolve_estimator"]

ESTIMATORS: dict[str, Estimator] = {
    "expected": expected,
    "gumbel_softmax": gumbel_softmax,
    "straight_through": straight_through,
    "straight_through_gumbel": straight_through_gumbel,
}


def resolve_estimator(estimator: str | Estimator, linear: bool) -> Estimator:
    """The estimator of that name, or the callable itself; for ``"auto"`` the one that suits the critics.

    Where they are linear in each choice, straight-through is unbiased. Elsewhere their gradient at a sampled corner
    misleads, while relaxed samples average it over the inside.

    :param linear: whether the critics are linear in each group's action
    :raises ValueError: no estimator has this name
    :raises TypeError: neither a name nor a callable
    """
    if isinstance(estimator, str):
        if estimator == "auto":
            return straight_through if linear else gumbel_softmax
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
