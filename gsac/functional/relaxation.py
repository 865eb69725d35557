"""Gumbel noise, and functions that pass a gradient through a discrete choice."""

from __future__ import annotations

import torch
from torch import Tensor

from gsac.functional.groups import Groups

MIN_FOR_INVERSION = 1024
"""The fewest numbers for which sampling by inversion, several vectorised calls, is faster than ``exponential_()``."""


def gumbel_like(logits: Tensor) -> Tensor:
    """Draws standard Gumbel noise in float32, with the shape and on the device of ``logits``.

    It is minus the logarithm of an exponential variate, clamped to the smallest normal number to stay finite. The usual
    -log(-log(u)) is infinite if u rounds to 0 or 1.
    """
    return _exponential_like(logits).clamp_min_(torch.finfo(torch.float32).tiny).log_().neg_()


def _exponential_like(tensor: Tensor) -> Tensor:
    """Draws standard exponential variates in float32."""
    if tensor.device.type == "cpu" and tensor.numel() >= MIN_FOR_INVERSION:
        # By inversion in double precision: three times faster than exponential_(), which is not vectorised on the CPU.
        uniform = torch.rand(tensor.shape, dtype=torch.float64)
        return uniform.neg_().log1p_().neg_().to(torch.float32)
    return torch.empty_like(tensor, dtype=torch.float32).exponential_()


def gumbel_softmax(perturbed: Tensor, groups: Groups, temperature: Tensor) -> Tensor:
    """Relaxes Gumbel-perturbed logits to points of each group's simplex, by a softmax. [..., D] -> [..., D]

    Jang et al. 2017, https://arxiv.org/abs/1611.01144; Maddison et al. 2017, https://arxiv.org/abs/1611.00712
    """
    return groups.softmax(perturbed / temperature)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Returns ``hard`` exactly and passes the gradient on to ``soft``. Any shape."""
    return hard + (soft - soft.detach())


def softmax_tangent(probs: Tensor, logits: Tensor, groups: Groups) -> Tensor:
    """Returns values whose Jacobian with respect to the logits is diag(p) - p p', a softmax's at probabilities p.

    Only the gradient has a meaning, not the values. [..., D], [..., D] -> [..., D]
    """
    return probs * (logits - groups.spread(groups.sum(probs * logits)))


def conditional_gumbel(log_probs: Tensor, hard: Tensor, groups: Groups, samples: int) -> Tensor:
    """Samples Gumbel-perturbed log-probabilities, given that ``hard`` marks the greatest of each group.

    If ``hard`` is a sample of the policy, they are distributed as log-probabilities plus independent Gumbel noise.
    Nothing is rejected: the greatest value is a Gumbel variate, and the others are Gumbel variates truncated at it.
    Maddison et al. 2014, https://arxiv.org/abs/1411.0030; Paulus et al. 2021, https://arxiv.org/abs/2010.04838

    :param log_probs: logarithms of probabilities that sum to 1 in each group, [..., D]
    :param hard: flat one-hots [..., D]
    :param samples: S, how many
    :return: [S, ..., D]
    """
    log_exponential = -gumbel_like(log_probs.expand(samples, *log_probs.shape))
    log_greatest = groups.spread(groups.sum(torch.where(hard > 0, log_exponential, 0.0)))
    others = torch.logaddexp(log_exponential - log_probs, log_greatest)
    return -torch.where(hard > 0, log_greatest, others)
