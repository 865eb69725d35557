"""A step of some parameters down the gradient of a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def descend(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    parameters: Sequence[Tensor],
    max_grad_norm: float | None = None,
) -> None:
    """Moves these parameters alone: the loss leaves no gradient anywhere else, and none is computed elsewhere.

    :param loss: []
    :param parameters: of the optimiser; those that need no gradient stay
    :param max_grad_norm: clip the norm of the gradient, if given
    """
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    if len(learned) < len(parameters):
        for parameter in parameters:
            parameter.grad = None  # an earlier one would move what has been frozen since
    if not learned:
        return
    found = torch.autograd.grad(loss, learned, allow_unused=True)
    gradients = [
        gradient if gradient is None or gradient.stride() == parameter.stride() else _laid_out_as(parameter, gradient)
        for parameter, gradient in zip(learned, found, strict=True)
    ]
    if max_grad_norm is not None:
        used = iter(clipped([gradient for gradient in gradients if gradient is not None], max_grad_norm))
        gradients = [None if gradient is None else next(used) for gradient in gradients]
    for parameter, gradient in zip(learned, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


def clipped(gradients: list[Tensor], max_norm: float) -> tuple[Tensor, ...] | list[Tensor]:
    """All of them, scaled such that the norm of them as one vector is ``max_norm`` at most.

    As ``torch.nn.utils.clip_grad_norm_``, without the sorting by device and type that takes it longer than the sums; and
    not in place, as two parameters may have been given the same tensor. Pascanu et al. 2013,
    https://arxiv.org/abs/1211.5063
    """
    if not gradients:
        return gradients
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return torch._foreach_mul(gradients, (max_norm / (norm + 1e-6)).clamp_max_(1.0))


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The same numbers in the order in memory that the parameter has, as fused optimisers take for granted."""
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)
