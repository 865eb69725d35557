"""Gumbel noise, and the ways of letting a gradient through a discrete choice."""

from __future__ import annotations

import torch
from torch import Tensor

from gsac.functional.groups import Groups

MANY = 1024
"""From so many numbers on, vectorised operations are worth their calls."""


def gumbel_like(logits: Tensor) -> Tensor:
    """Standard Gumbel noise in float32, of the shape and on the device of ``logits``.

    It is minus the logarithm of an exponential variate, clamped to the smallest normal number, and therefore finite;
    the usual -log(-log(u)) is infinite when u rounds to 0 or 1.
    """
    return _exponential_like(logits).clamp_min_(torch.finfo(torch.float32).tiny).log_().neg_()


def _exponential_like(tensor: Tensor) -> Tensor:
    """Standard exponential variates in float32."""
    if tensor.device.type == "cpu" and tensor.numel() >= MANY:
        # By inversion in double precision: three times faster than exponential_(), which takes them one by one.
        uniform = torch.rand(tensor.shape, dtype=torch.float64)
        return uniform.neg_().log1p_().neg_().to(torch.float32)
    return torch.empty_like(tensor, dtype=torch.float32).exponential_()


def gumbel_softmax(perturbed: Tensor, groups: Groups, temperature: Tensor) -> Tensor:
    """The relaxed one-hots of Gumbel-perturbed logits. [..., D] -> [..., D], each group a point of the simplex.

    Jang et al. 2017, https://arxiv.org/abs/1611.01144; Maddison et al. 2017, https://arxiv.org/abs/1611.00712
    """
    return groups.softmax(perturbed / temperature)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """``hard`` forwards, exactly; backwards, the gradient goes to ``soft``. Any shape."""
    return hard + (soft - soft.detach())


def softmax_tangent(probs: Tensor, logits: Tensor, groups: Groups) -> Tensor:
    """A function of the logits whose Jacobian is that of a softmax with these probabilities, diag(p) - p p'.

    Only its gradient has a meaning. [..., D], [..., D] -> [..., D]
    """
    return probs * (logits - groups.spread(groups.sum(probs * logits)))


def conditional_gumbel(log_probs: Tensor, hard: Tensor, groups: Groups, samples: int) -> Tensor:
    """Gumbel-perturbed log-probabilities, given that the greatest of each group stands where ``hard`` is 1.

    Over hard samples of the policy they are distributed as log-probabilities plus independent Gumbel noise. They need
    no rejection: the greatest is a Gumbel variate by itself, and the others are truncated at it.
    Maddison et al. 2014, https://arxiv.org/abs/1411.0030; Paulus et al. 2021, https://arxiv.org/abs/2010.04838

    :param log_probs: normalised in each group, [..., D]
    :param hard: flat one-hots [..., D]
    :return: [samples, ..., D]
    """
    log_exponential = -gumbel_like(log_probs.expand(samples, *log_probs.shape))
    log_greatest = groups.spread(groups.sum(torch.where(hard > 0, log_exponential, 0.0)))
    others = torch.logaddexp(log_exponential - log_probs, log_greatest)
    return -torch.where(hard > 0, log_greatest, others)
