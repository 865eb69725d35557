"""The seam between the policy and the critics: what an estimator of the actor's gradient is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from gsac.functional.categorical import FactorisedCategorical
from gsac.functional.groups import Groups

ActionValue = Callable[[Tensor], Tensor]
"""q: the value of actions at a fixed batch of states. [..., B, D] (one-hot or relaxed) -> [..., B]

It may have methods ``neighbours`` and ``joint`` that do what :func:`neighbours` and :func:`joint` do, if it knows a
shorter way.
"""


class Estimator(Protocol):
    """A function of this signature, or a frozen dataclass with it where there are knobs to set."""

    def __call__(self, policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
        """[B] values whose gradient with respect to the policy's logits estimates that of E_{a~pi}[q(a)].

        :param policy: logits [B, D]
        :param q: the critics' value of an action, differentiable in the action
        :param temperature: of the relaxation, 0-d
        """
        ...


def neighbours(q: ActionValue, action: Tensor, groups: Groups) -> Tensor:
    """The value of ``action`` with one group's choice changed to each of its classes in turn, without a gradient.

    Column d holds q of the action that takes class d in d's group and is ``action`` in all others. One-hot
    [..., B, D] -> [..., B, D]
    """
    with torch.no_grad():
        shorter = getattr(q, "neighbours", None)
        values: Tensor = shorter(action) if shorter else q(groups.neighbours(action)).movedim(0, -1)
    return values


def joint(q: ActionValue, policy: FactorisedCategorical) -> Tensor:
    """The value of every joint action in each state, without a gradient. [N, B], as ``policy.joint_probs()``"""
    with torch.no_grad():
        shorter = getattr(q, "joint", None)
        values: Tensor = shorter(policy.groups.joint_actions(policy.logits.device)) if shorter else q(policy.joint()[0])
    return values
