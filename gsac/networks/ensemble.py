"""Several networks of one shape as one batched network: the critics cost one matmul a layer, however many they are."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnsembleLinear(nn.Module):
    """C linear layers side by side: [C, B, in] -> [C, B, out]. A [B, in] input is given to each.

    Initialised as ``nn.Linear`` is, uniformly within 1 / sqrt(fan_in).

    :param fan_in: what the layer's outputs sum over, where this layer holds only a part of it; ``in_features`` if None
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
    """:class:`EnsembleLinear` for a last layer, of few columns: [C, B, in] -> [C, B, out]. What comes out is a view."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() == 2:
            inputs = inputs.expand(self.weight.shape[0], -1, -1)
        product: Tensor = _ThinProduct.apply(inputs, self.weight)
        return product if self.bias is None else product + self.bias


class _ThinProduct(torch.autograd.Function):
    """``torch.bmm`` with a second matrix of few columns, [C, B, H] and [C, H, D] -> [C, B, D].

    Libraries for the CPU are several times slower with a long and thin matrix on the right; so it stands on the left,
    in both directions, and the gradient of the long one comes out row by row, as the layer before wants it.
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
        # On the CPU, PyTorch's kernel takes twice as long without a scale and an offset as with them.
        self.register_buffer("one", torch.ones(features), persistent=False)
        self.register_buffer("zero", torch.zeros(features), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        normal = F.layer_norm(inputs, inputs.shape[-1:], self.one, self.zero)
        return torch.addcmul(self.bias, normal, self.weight)


def hidden_layers(n_members: int, widths: list[int], activation_fn: type[nn.Module], layer_norm: bool) -> nn.Sequential:
    """What follows a first linear layer: normalisation and activation, then linear layers from width to width."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        if i > 0:
            layers.append(EnsembleLinear(n_members, widths[i - 1], width))
        if layer_norm:
            layers.append(EnsembleLayerNorm(n_members, width))
        # What the normalisation returns is nobody else's, and its gradient needs no copy of it.
        in_place = layer_norm and activation_fn is nn.ReLU
        layers.append(nn.ReLU(inplace=True) if in_place else activation_fn())
    return nn.Sequential(*layers)
