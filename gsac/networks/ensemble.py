"""Layers of C networks of one shape, computed as one batched network: one matrix product for each layer."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnsembleLinear(nn.Module):
    """C linear layers: [C, B, in] -> [C, B, out]. An input [B, in] is passed to all of them.

    Initialised as ``nn.Linear``: uniformly within 1 / sqrt(fan_in).

    :param n_members: C
    :param fan_in: the number of inputs that an output depends on, if another layer holds the weights of some; by default
        ``in_features``
    """

    def __init__(
        self, n_members: int, in_features: int, out_features: int, bias: bool = True, fan_in: int | None = None
    ) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(max(fan_in or in_features, 1))
        self.weight = nn.Parameter(torch.empty(n_members, in_features, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_members, 1, out_features).uniform_(-bound, bound)) if bias else None

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() == 2:
            inputs = inputs.expand(self.weight.shape[0], -1, -1)
        if self.bias is None:
            return torch.bmm(inputs, self.weight)
        return torch.baddbmm(self.bias, inputs, self.weight)


class EnsembleOutput(EnsembleLinear):
    """:class:`EnsembleLinear` for a last layer with few outputs: [C, B, in] -> [C, B, out], a view."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() == 2:
            inputs = inputs.expand(self.weight.shape[0], -1, -1)
        product: Tensor = _ThinProduct.apply(inputs, self.weight)
        return product if self.bias is None else product + self.bias


class _ThinProduct(torch.autograd.Function):
    """``torch.bmm`` for a second matrix with few columns, [C, B, H] and [C, H, D] -> [C, B, D].

    The CPU's libraries are several times slower if the matrix with few columns stands on the right. So both passes
    compute the transposed product, and the gradient of the long matrix is contiguous, as the layer before needs it.
    """

    @staticmethod
    def forward(ctx: Any, long: Tensor, thin: Tensor) -> Tensor:
        ctx.save_for_backward(long, thin)
        return torch.bmm(thin.transpose(1, 2), long.transpose(1, 2)).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        long, thin = ctx.saved_tensors
        right = thin.transpose(1, 2)
        of_long = gradient * right if thin.shape[2] == 1 else torch.bmm(gradient, right)
        return of_long, torch.bmm(gradient.transpose(1, 2), long).transpose(1, 2)


class EnsembleLayerNorm(nn.Module):
    """Layer normalisation [C, ..., H] -> [C, ..., H], with a scale and an offset for each of the C members.

    Ba et al. 2016, https://arxiv.org/abs/1607.06450
    """

    one: Tensor
    zero: Tensor

    def __init__(self, n_members: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_members, 1, features))
        self.bias = nn.Parameter(torch.zeros(n_members, 1, features))
        # On the CPU, PyTorch's kernel takes twice as long if it gets no scale and no offset.
        self.register_buffer("one", torch.ones(features), persistent=False)
        self.register_buffer("zero", torch.zeros(features), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        normal = F.layer_norm(inputs, inputs.shape[-1:], self.one, self.zero)
        return torch.addcmul(self.bias, normal, self.weight)


def hidden_layers(n_members: int, widths: list[int], activation_fn: type[nn.Module], layer_norm: bool) -> nn.Sequential:
    """Makes the layers after the first linear one: normalisation, activation, and a linear layer between each two widths."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        if i > 0:
            layers.append(EnsembleLinear(n_members, widths[i - 1], width))
        if layer_norm:
            layers.append(EnsembleLayerNorm(n_members, width))
        # In place is safe after a normalisation: its output is used nowhere else, nor by its own gradient.
        in_place = layer_norm and activation_fn is nn.ReLU
        layers.append(nn.ReLU(inplace=True) if in_place else activation_fn())
    return nn.Sequential(*layers)
