"""A step of some parameters down the gradient of a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gsac.optim.adam import FusedAdam


def descend(
    optimizer: torch.optim.Optimizer, loss: Tensor, parameters: Sequence[Tensor], max_grad_norm: float | None = None
) -> None:
    """Moves these parameters alone: the loss leaves no gradient anywhere else, and none is computed elsewhere.

    :param loss: []
    :param parameters: of the optimiser; those that need no gradient stay
    :param max_grad_norm: clip the norm of the gradient, if given
    """
    take_step(optimizer, parameters, gradient(loss, parameters, max_grad_norm))


def gradient(loss: Tensor, parameters: Sequence[Tensor], max_grad_norm: float | None = None) -> list[Tensor | None]:
    """Of the loss with respect to each of these parameters; None for those that need none, or that it does not ask.

    Each is laid out in memory as its parameter, which fused optimisers take for granted.
    """
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    if not learned:
        return [None] * len(parameters)
    found = torch.autograd.grad(loss, learned, allow_unused=True)
    parts: list[Tensor | None] = [
        part if part is None or part.stride() == parameter.stride() else _laid_out_as(parameter, part)
        for parameter, part in zip(learned, found, strict=True)
    ]
    if max_grad_norm is not None:
        used = iter(clipped([part for part in parts if part is not None], max_grad_norm))
        parts = [None if part is None else next(used) for part in parts]
    if len(learned) == len(parameters):
        return parts
    of_learned = iter(parts)
    return [next(of_learned) if parameter.requires_grad else None for parameter in parameters]


def clipped(gradients: list[Tensor], max_norm: float) -> Sequence[Tensor]:
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
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def take_step(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> None:
    """A step of the optimiser with these gradients, which are kept as the parameters' ``grad``."""
    for parameter, part in zip(parameters, gradients, strict=True):
        parameter.grad = part
    if isinstance(optimizer, FusedAdam):
        optimizer.lean_step()
    else:
        optimizer.step()
