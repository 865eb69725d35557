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
    gradients = torch.autograd.grad(loss, learned, allow_unused=True)
    if max_grad_norm is not None:
        clip_norm([gradient for gradient in gradients if gradient is not None], max_grad_norm)
    for parameter, gradient in zip(learned, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


def clip_norm(gradients: list[Tensor], max_norm: float) -> None:
    """Scales all of them in place such that the norm of them as one vector is ``max_norm`` at most.

    As ``torch.nn.utils.clip_grad_norm_``, without the sorting by device and type that takes it longer than the sums.
    Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp_max_(1.0))
