"""The critics' heads: the action enters at the first layer, or linearly at the last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from gsac.functional.groups import Groups
from gsac.functional.losses import Aggregation
from gsac.networks.ensemble import EnsembleLinear, EnsembleOutput, hidden_layers

MAX_ACTIVATIONS = 2**22
"""The most activations of a layer that ``neighbours`` computes at a time, which bounds its memory."""


class ActionValues(Protocol):
    """The C critics' values of actions at a fixed batch of states."""

    def __call__(self, actions: Tensor) -> Tensor:
        """One-hot or relaxed [..., B, D] -> [C, ..., B]"""
        ...

    def neighbours(self, action: Tensor) -> Tensor:
        """Values of a one-hot action with one group's class replaced by each of its classes. [..., B, D] -> [C, ..., B, D]"""
        ...

    def joint(self, actions: Tensor) -> Tensor:
        """Values of the same N actions at each state. [N, D] -> [C, N, B]"""
        ...

    def frozen(self) -> ActionValues:
        """The same values without a gradient to what was computed from the states."""
        ...


@dataclass(frozen=True)
class AggregatedValues:
    """Aggregates the C critics' values to one: the ``q`` that estimators take.

    :param aggregate: the mean or minimum over critics, [C, ...] -> [...]
    """

    values: ActionValues
    aggregate: Aggregation

    def __call__(self, actions: Tensor) -> Tensor:
        """[..., B, D] -> [..., B]"""
        return self.aggregate(self.values(actions))

    def neighbours(self, action: Tensor) -> Tensor:
        """See :func:`gsac.estimators.base.neighbours`. [..., B, D] -> [..., B, D]"""
        return self.aggregate(self.values.neighbours(action))

    def joint(self, actions: Tensor) -> Tensor:
        """See :func:`gsac.estimators.base.joint`. [N, D] -> [N, B]"""
        return self.aggregate(self.values.joint(actions))


class Head(nn.Module, ABC):
    """Maps features and actions to the values of C critics.

    :param features_dim: F
    :param groups: of the actions
    :param net_arch: widths of the hidden layers
    :param activation_fn: between the layers
    :param n_critics: C
    :param layer_norm: normalise each hidden layer
    """

    linear: ClassVar[bool]
    """Whether the values are linear in each group's action."""
    max_enumerated: ClassVar[int]
    """The most joint actions for which the expected next value is computed exactly, which costs more and has no variance."""

    @abstractmethod
    def forward(self, features: Tensor) -> ActionValues:
        """[B, F] -> a function from actions to the C critics' values at these features."""


class ActionInHead(Head):
    """q = MLP(features, action): any interaction between groups; gradients with respect to the action are extrapolated.

    The first layer is linear, so its part for the features is computed once for all actions.
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
        self.groups = groups
        fan_in = features_dim + groups.flat_size
        width = net_arch[0] if net_arch else 1
        self.features_in = EnsembleLinear(n_critics, features_dim, width, fan_in=fan_in)
        self.action_in = EnsembleLinear(n_critics, groups.flat_size, width, bias=False, fan_in=fan_in)
        self.hidden = hidden_layers(n_critics, net_arch, activation_fn, layer_norm)
        self.out = EnsembleOutput(n_critics, net_arch[-1], 1) if net_arch else nn.Identity()

    def forward(self, features: Tensor) -> ActionValues:
        """[B, F] -> a function from actions to the C critics' values at these features."""
        return _ActionInValues(self, self.features_in(features))

    def after_first(self, first: Tensor) -> Tensor:
        """Applies all layers after the first linear one. [C, ..., H] -> [C, ...]"""
        values: Tensor = self.out(self.hidden(first.flatten(1, -2)))
        return values.squeeze(-1).unflatten(1, first.shape[1:-1])


@dataclass(frozen=True, eq=False)
class _ActionInValues:
    head: ActionInHead
    from_features: Tensor
    """[C, B, H]"""

    def __call__(self, actions: Tensor) -> Tensor:
        return self.head.after_first(self._first(actions))

    def neighbours(self, action: Tensor) -> Tensor:
        """Replaces a class by adding the difference of two rows of the first layer, which is linear in the action.

        The later layers are computed for ``action`` and for the D - G actions that differ from it.
        """
        first = self._first(action)
        columns, instead_of = self.head.groups.unchosen(action)
        rows = self.head.action_in.weight
        at_once = max(1, MAX_ACTIVATIONS // first.numel())
        changed = [
            self.head.after_first(first.unsqueeze(-2) + rows[:, to] - rows[:, of])
            for to, of in zip(columns.split(at_once, -1), instead_of.split(at_once, -1), strict=True)
        ]
        unchanged = self.head.after_first(first).unsqueeze(-1).expand(-1, *action.shape)
        return unchanged.scatter(-1, columns.expand(len(rows), *columns.shape), torch.cat(changed, -1))

    def joint(self, actions: Tensor) -> Tensor:
        """Computes the first layer's part for the actions once, as it is the same at every state."""
        return self.head.after_first(self.from_features.unsqueeze(1) + self.head.action_in(actions).unsqueeze(2))

    def frozen(self) -> ActionValues:
        """Detaches the first layer's part for the features; the later layers are computed for each action anyway."""
        return _ActionInValues(self.head, self.from_features.detach())

    def _first(self, actions: Tensor) -> Tensor:
        """[..., B, D] -> [C, ..., B, H]"""
        from_actions = self.head.action_in(actions.flatten(0, -2)).unflatten(1, actions.shape[:-1])
        extra = (1,) * (actions.dim() - 2)
        return from_actions + self.from_features.unflatten(1, (*extra, -1))


class LinearHead(Head):
    """q = <action, MLP(features)>: a value for each class, summed over the chosen ones.

    It is linear in the action, so that a critic trained on one-hots is correct at relaxed actions as well, and the
    straight-through gradient is exact. The groups' values add up: there is no interaction between groups.
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
        self.groups = groups
        widths = [*net_arch, groups.flat_size]
        self.features_in = EnsembleLinear(n_critics, features_dim, widths[0])
        self.hidden = hidden_layers(n_critics, net_arch, activation_fn, layer_norm)
        self.out = EnsembleOutput(n_critics, widths[-2], widths[-1]) if net_arch else nn.Identity()

    def forward(self, features: Tensor) -> ActionValues:
        """[B, F] -> a function from actions to the C critics' values at these features."""
        return _LinearValues(self.groups, self.out(self.hidden(self.features_in(features))))


@dataclass(frozen=True, eq=False)
class _LinearValues:
    groups: Groups
    class_values: Tensor
    """[C, B, D]"""

    def __call__(self, actions: Tensor) -> Tensor:
        extra = (1,) * (actions.dim() - 2)
        return (actions * self.class_values.unflatten(1, (*extra, -1))).sum(-1)

    def neighbours(self, action: Tensor) -> Tensor:
        """The action's value, minus the value of the group's chosen class, plus that of the class that replaces it."""
        extra = (1,) * (action.dim() - 2)
        class_values = self.class_values.unflatten(1, (*extra, -1))
        chosen = self.groups.sum(action * class_values)
        return chosen.sum(-1, keepdim=True) - self.groups.spread(chosen) + class_values

    def joint(self, actions: Tensor) -> Tensor:
        """One matrix product."""
        return (self.class_values @ actions.T).transpose(1, 2)

    def frozen(self) -> ActionValues:
        """Detaches the classes' values."""
        return _LinearValues(self.groups, self.class_values.detach())


def choose_head(groups: Groups) -> str:
    """The name of the default head: ``"linear"`` for one group, ``"action_in"`` for several.

    With one group the linear head represents any values. With several it cannot represent interactions between groups.
    """
    return "linear" if len(groups) == 1 else "action_in"


HEADS: dict[str, type[ActionInHead] | type[LinearHead]] = {"action_in": ActionInHead, "linear": LinearHead}
