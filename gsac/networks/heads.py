"""How the critics read the action: at the first layer, or linearly at the last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from gsac.functional.groups import Groups
from gsac.networks.ensemble import EnsembleLinear, hidden_layers

ActionValues = Callable[[Tensor], Tensor]
"""The values of actions at a fixed batch of states. [..., B, D] -> [C, ..., B]"""


class Head(nn.Module, ABC):
    """Features and actions -> the values of C critics.

    :param features_dim: F
    :param groups: of the actions
    :param net_arch: widths of the hidden layers
    :param activation_fn: between them
    :param n_critics: C
    :param layer_norm: normalise each hidden layer
    """

    linear: ClassVar[bool]
    """Whether the values are linear in each group's action."""
    max_enumerated: ClassVar[int]
    """Up to so many joint actions, evaluating all of them at each state costs less than a sample's noise does harm."""

    @abstractmethod
    def forward(self, features: Tensor) -> ActionValues:
        """[B, F] -> the critics' values of actions there."""


class ActionInHead(Head):
    """q = MLP(features, action). Any interaction between the groups; the action's gradient is an extrapolation.

    The first layer is linear in the action, so the features' part of it is computed once for all actions.
    """

    linear: ClassVar[bool] = False
    max_enumerated: ClassVar[int] = 16

    def __init__(
        self,
        features_dim: int,
        groups: Groups,
        net_arch: list[int],
        activation_fn: type[nn.Module],
        n_critics: int,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        fan_in = features_dim + groups.flat_size
        width = net_arch[0] if net_arch else 1
        self.features_in = EnsembleLinear(n_critics, features_dim, width, fan_in=fan_in)
        self.action_in = EnsembleLinear(n_critics, groups.flat_size, width, bias=False, fan_in=fan_in)
        self.hidden = hidden_layers(n_critics, net_arch, activation_fn, layer_norm)
        self.out = EnsembleLinear(n_critics, net_arch[-1], 1) if net_arch else nn.Identity()

    def forward(self, features: Tensor) -> ActionValues:
        """[B, F] -> the critics' values of actions there."""
        from_features = self.features_in(features)

        def values(actions: Tensor) -> Tensor:
            if actions.dim() == 2:
                return self._rest(from_features + self.action_in(actions))
            from_actions = self.action_in(actions.flatten(0, -2)).unflatten(1, actions.shape[:-1])
            extra = (1,) * (actions.dim() - 2)
            first = from_actions + from_features.unflatten(1, (*extra, -1))
            return self._rest(first.flatten(1, -2)).unflatten(1, actions.shape[:-1])

        return values

    def _rest(self, first: Tensor) -> Tensor:
        values: Tensor = self.out(self.hidden(first))
        return values.squeeze(-1)


class LinearHead(Head):
    """q = <action, MLP(features)>: a value for each class, summed over the groups' choices.

    Linear in the action, so that a critic trained on one-hots is right between them as well, and the straight-through
    gradient is exact. For several groups it is additive: no interaction between them.
    """

    linear: ClassVar[bool] = True
    max_enumerated: ClassVar[int] = 256

    def __init__(
        self,
        features_dim: int,
        groups: Groups,
        net_arch: list[int],
        activation_fn: type[nn.Module],
        n_critics: int,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        widths = [*net_arch, groups.flat_size]
        self.features_in = EnsembleLinear(n_critics, features_dim, widths[0])
        self.hidden = hidden_layers(n_critics, net_arch, activation_fn, layer_norm)
        self.out = EnsembleLinear(n_critics, widths[-2], widths[-1]) if net_arch else nn.Identity()

    def forward(self, features: Tensor) -> ActionValues:
        """[B, F] -> the critics' values of actions there."""
        class_values = self.out(self.hidden(self.features_in(features)))
        return lambda actions: torch.einsum("...bd,cbd->c...b", actions, class_values)


def fitting_head(groups: Groups) -> str:
    """The name of the head that suits these groups by default.

    For a single choice the linear head holds any value there is. For several, a sum over the choices cannot say that
    one of them depends on another.
    """
    return "linear" if len(groups) == 1 else "action_in"


HEADS: dict[str, type[ActionInHead] | type[LinearHead]] = {"action_in": ActionInHead, "linear": LinearHead}
