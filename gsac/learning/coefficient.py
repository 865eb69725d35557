"""The entropy coefficient: learned towards a target entropy, or set from outside."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gsac.functional import losses
from gsac.optim.adam import FusedAdam
from gsac.optim.descent import take_step

LOG_ENT_COEF_RANGE = (-10.0, 2.0)
"""The logarithm of a learned coefficient is clamped to this range, so that the coefficient stays between 4.5e-5 and 7.4."""


class EntropyCoefficient:
    """The weight of the entropy, in reward per nat: a parameter with an optimiser, or a tensor that is filled in place.

    :param value: at the start, above 0 if it is learned
    :param learned: move it towards the value that gives the target entropy
    :param learning_rate: of its optimiser
    :param device: of its tensors
    """

    log_value: Tensor | None
    """The natural logarithm of a learned coefficient [1], a parameter; else None."""
    optimizer: torch.optim.Optimizer | None
    """The optimiser of ``log_value``; None if the coefficient is not learned."""
    scheduled_value: Tensor | None
    """The value [] of a coefficient that is not learned; the caller fills it in place as its schedule says."""
    target_fraction: Tensor
    """The target of a learned coefficient, as a fraction of the greatest entropy []."""

    def __init__(self, value: float, learned: bool, learning_rate: float, device: torch.device) -> None:
        self.log_value = self.optimizer = self.scheduled_value = None
        self.target_fraction = torch.zeros((), device=device)
        if learned:
            self.log_value = torch.full((1,), math.log(value), device=device, requires_grad=True)
            self.optimizer = FusedAdam([self.log_value], lr=learning_rate)
        else:
            self.scheduled_value = torch.tensor(float(value), device=device)

    @property
    def value(self) -> Tensor:
        """The coefficient now, without a gradient. []"""
        if self.log_value is None:
            assert self.scheduled_value is not None
            return self.scheduled_value
        return self.log_value.detach().exp().squeeze()

    def tune(self, entropy: Tensor, target_entropy: Tensor) -> Tensor:
        """Makes one gradient step towards the target entropy, if the coefficient is learned. Returns the loss, 0 if not. []

        Haarnoja et al. 2018, section 5, https://arxiv.org/abs/1812.05905

        :param entropy: of the policy at each observation, in nats [B]
        :param target_entropy: [B] or []
        """
        if self.log_value is None or self.optimizer is None:
            return torch.zeros_like(self.target_fraction)
        with torch.no_grad():
            slope = losses.ent_coef_gradient(entropy, target_entropy)
            loss = (self.log_value * slope).squeeze()
            take_step(self.optimizer, [self.log_value], [slope.expand(1)])
            self.log_value.clamp_(*LOG_ENT_COEF_RANGE)
        return loss
