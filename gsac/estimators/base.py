"""The seam between the policy and the critics: what an estimator of the actor's gradient is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from gsac.functional.categorical import FactorisedCategorical

ActionValue = Callable[[Tensor], Tensor]
"""q: the value of actions at a fixed batch of states. [..., B, D] (one-hot or relaxed) -> [..., B]"""


class Estimator(Protocol):
    """A function of this signature, or a frozen dataclass with it where there are knobs to set."""

    def __call__(self, policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
        """[B] values whose gradient with respect to the policy's logits estimates that of E_{a~pi}[q(a)].

        :param policy: logits [B, D]
        :param q: the critics' value of an action, differentiable in the action
        :param temperature: of the relaxation, 0-d
        """
        ...
