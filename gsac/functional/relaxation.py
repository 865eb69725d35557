"""Gumbel noise, and the ways of letting a gradient through a discrete choice."""

from __future__ import annotations

import torch
from torch import Tensor

from gsac.functional.groups import Groups


def gumbel_like(logits: Tensor) -> Tensor:
    """Standard Gumbel noise in float32, of the shape and on the device of ``logits``.

    It is minus the logarithm of an exponential variate, clamped to the smallest normal number, and therefore finite;
    the usual -log(-log(u)) is infinite when u rounds to 0 or 1.
    """
    exponential = torch.empty_like(logits, dtype=torch.float32).exponential_()
    return exponential.clamp_min_(torch.finfo(torch.float32).tiny).log_().neg_()


def gumbel_softmax(perturbed: Tensor, groups: Groups, temperature: Tensor) -> Tensor:
    """The relaxed one-hots of Gumbel-perturbed logits. [..., D] -> [..., D], each group a point of the simplex.

    Jang et al. 2017, https://arxiv.org/abs/1611.01144; Maddison et al. 2017, https://arxiv.org/abs/1611.00712
    """
    return groups.softmax(perturbed / temperature)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """``hard`` forwards, exactly; backwards, the gradient goes to ``soft``. Any shape."""
    return hard + (soft - soft.detach())
