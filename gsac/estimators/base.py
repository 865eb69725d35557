"""The interface of an estimator of the actor's gradient: it sees the policy and q, the value of an action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from gsac.functional.categorical import FactorisedCategorical
from gsac.functional.groups import Groups

ActionValue = Callable[[Tensor], Tensor]
"""q: the value of actions at a fixed batch of states. One-hot or relaxed [..., B, D] -> [..., B]

It may have methods ``neighbours`` and ``joint``, which :func:`neighbours` and :func:`joint` then call because they cost
less than one evaluation for each action.
"""


class Estimator(Protocol):
    """A function with this signature, or a frozen dataclass with such a ``__call__`` if it has settings."""

    def __call__(self, policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
        """Returns values [B] whose gradient with respect to the policy's logits estimates that of E_{a~pi}[q(a)].

        :param policy: logits [B, D]
        :param q: the critics' value of an action, differentiable in the action
        :param temperature: of the relaxation, 0-d
        """
        ...


def neighbours(q: ActionValue, action: Tensor, groups: Groups) -> Tensor:
    """The values of ``action`` with one group's class replaced, for each class of each group; without a gradient.

    Column d of the result is the value of the action that takes column d in d's group and equals ``action`` in all
    others. One-hot [..., B, D] -> [..., B, D]
    """
    with torch.no_grad():
        cheaper = getattr(q, "neighbours", None)
        values: Tensor = cheaper(action) if cheaper else q(groups.neighbours(action)).movedim(0, -1)
    return values


def joint(q: ActionValue, policy: FactorisedCategorical) -> Tensor:
    """The value of every joint action at each state, without a gradient. [N, B], in the order of ``policy.joint_probs()``"""
    with torch.no_grad():
        cheaper = getattr(q, "joint", None)
        values: Tensor = cheaper(policy.groups.joint_actions(policy.logits.device)) if cheaper else q(policy.joint()[0])
    return values
