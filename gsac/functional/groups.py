"""Groups of columns, the layout of all actions in this package: sums, softmax, argmax and one-hots within each group."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from itertools import accumulate, product
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

MAX_JOINT_ACTIONS = 2**12
"""The most joint actions that are enumerated."""

SOFTMAX_FIRST_UP_TO = 16
"""The most classes for which PyTorch's softmax on the CPU is several times faster over the first dimension than the last."""


class Groups:
    """G groups of K_g classes, side by side in the D = sum of K_g columns of the last dimension.

    Every method keeps all leading dimensions and, unless it says otherwise, costs time and memory in proportion to D.
    Groups of equal sizes are views of the columns, groups of unequal sizes are reduced by index; no method loops over
    groups.

    :param sizes: K_g, the number of classes of each group, each at least 1
    :raises ValueError: no group, or a group without classes
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(
                f"sizes={list(self.sizes)} does not describe groups of classes: pass one or more sizes, "
                "each at least 1, such as sizes=[4] or sizes=[2, 3, 3]."
            )
        self.flat_size = sum(self.sizes)
        self.n_joint = math.prod(self.sizes)
        self.equal = len(set(self.sizes)) == 1

    def __len__(self) -> int:
        return len(self.sizes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and self.sizes == other.sizes

    def __hash__(self) -> int:
        return hash(self.sizes)

    def __repr__(self) -> str:
        return f"Groups({list(self.sizes)})"

    def sum(self, flat: Tensor) -> Tensor:
        """Sums within each group. [..., D] -> [..., G]"""
        if self.equal:
            return self._split(flat).sum(-1)
        owner, _ = _owner_and_offset(self.sizes, flat.device)
        return flat.new_zeros(*flat.shape[:-1], len(self)).index_add(-1, owner, flat)

    def spread(self, grouped: Tensor) -> Tensor:
        """Repeats each group's value for each of its classes. [..., G] -> [..., D]"""
        owner, _ = _owner_and_offset(self.sizes, grouped.device)
        return grouped.index_select(-1, owner)

    def log_softmax(self, flat: Tensor) -> Tensor:
        """Log-softmax within each group. [..., D] -> [..., D]"""
        if self.equal:
            return self._over_classes(torch.log_softmax, flat)
        shifted = flat - self.spread(self._amax(flat.detach()))
        return shifted - self.spread(self.sum(shifted.exp()).log())

    def softmax(self, flat: Tensor) -> Tensor:
        """Softmax within each group. [..., D] -> [..., D]"""
        if self.equal:
            return self._over_classes(torch.softmax, flat)
        return self.log_softmax(flat).exp()

    def argmax(self, flat: Tensor) -> Tensor:
        """The class with the greatest value in each group, the first of equals. [..., D] -> int64 [..., G]"""
        if self.equal:
            return self._split(flat).argmax(-1)
        if torch.compiler.is_dynamo_compiling():
            # Not by comparing with the maximum, as below: compiled code may round the two sides differently.
            lowest = flat.new_full((*flat.shape[:-1], 1), -torch.inf)
            columns = _padded_columns(self.sizes, flat.device)
            padded = torch.cat([flat, lowest], -1).index_select(-1, columns.flatten())
            return padded.reshape(*flat.shape[:-1], *columns.shape).argmax(-1)
        owner, offset = _owner_and_offset(self.sizes, flat.device)
        position = torch.arange(self.flat_size, device=flat.device)
        at_peak = flat == self.spread(self._amax(flat))
        candidates = torch.where(at_peak, position, self.flat_size)
        first = candidates.new_full((*flat.shape[:-1], len(self)), self.flat_size)
        return first.scatter_reduce(-1, owner.expand_as(candidates), candidates, "amin") - offset

    def one_hot(self, classes: Tensor) -> Tensor:
        """Flat one-hots of a class per group. int64 [..., G] -> float32 [..., D]"""
        _, offset = _owner_and_offset(self.sizes, classes.device)
        flat = torch.zeros(*classes.shape[:-1], self.flat_size, device=classes.device)
        return flat.scatter_(-1, classes + offset, 1.0)

    def neighbours(self, one_hot: Tensor) -> Tensor:
        """The D actions that differ in one group at most: the d-th takes column d in d's group. [..., D] -> [D, ..., D]

        Costs D^2 for each action.
        """
        owner, _ = _owner_and_offset(self.sizes, one_hot.device)
        batch = (1,) * (one_hot.dim() - 1)
        elsewhere = (owner[:, None] != owner).to(one_hot.dtype).reshape(-1, *batch, self.flat_size)
        chosen = torch.eye(self.flat_size, dtype=one_hot.dtype, device=one_hot.device)
        return one_hot * elsewhere + chosen.reshape(-1, *batch, self.flat_size)

    def unchosen(self, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """The D - G columns that an action does not take, and for each the column that it takes in the same group.

        [..., D] -> int64 [..., D - G], int64 [..., D - G]
        """
        owner, offset = _owner_and_offset(self.sizes, one_hot.device)
        columns = one_hot.argsort(dim=-1, stable=True)[..., : self.flat_size - len(self)]
        return columns, (self.argmax(one_hot) + offset).gather(-1, owner[columns])

    def joint_actions(self, device: torch.device) -> Tensor:
        """Every joint action: one class for each group, as flat one-hots. [N, D] with N = prod K_g

        :raises ValueError: N is above :data:`MAX_JOINT_ACTIONS`
        """
        if self.n_joint > MAX_JOINT_ACTIONS:
            raise ValueError(
                f"2^{math.log2(self.n_joint):.4g} joint actions are too many to enumerate (2^12 at most): use an "
                "estimator that does not, such as estimator='gumbel_softmax'."
            )
        return _joint_actions(self.sizes, device)

    def _over_classes(self, function: Callable[[Tensor, int], Tensor], flat: Tensor) -> Tensor:
        split = self._split(flat)
        if flat.device.type == "cpu" and split.shape[-1] <= SOFTMAX_FIRST_UP_TO:
            return function(split.movedim(-1, 0).contiguous(), 0).movedim(0, -1).flatten(-2)
        return function(split, -1).flatten(-2)

    def _split(self, flat: Tensor) -> Tensor:
        return flat.reshape(*flat.shape[:-1], len(self.sizes), self.sizes[0])

    def _amax(self, flat: Tensor) -> Tensor:
        owner, _ = _owner_and_offset(self.sizes, flat.device)
        lowest = flat.new_full((*flat.shape[:-1], len(self)), -torch.inf)
        return lowest.scatter_reduce(-1, owner.expand_as(flat), flat, "amax")


def cached_on_device(
    make: Callable[[tuple[int, ...], torch.device], T],
) -> Callable[[tuple[int, ...], torch.device], T]:
    """Caches the tensors that ``make`` returns for the same numbers and device, to spare a copy to the device at each call.

    A compiler takes the result for a constant and does not trace ``make``.
    """
    cached = lru_cache(maxsize=64)(make)

    @wraps(make)
    def constant(numbers: tuple[int, ...], device: torch.device) -> T:
        return cached(numbers, device)

    # The mark of torch.compiler.assume_constant_result, which would import the whole compiler to make it.
    constant._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return constant


@cached_on_device
def constant_tensor(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """The numbers as a tensor on the device. int64 [len(numbers)]"""
    return torch.tensor(numbers, device=device)


@cached_on_device
def _owner_and_offset(sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The group that each column belongs to [D], and the first column of each group [G]."""
    owner = [group for group, size in enumerate(sizes) for _ in range(size)]
    offset = [0, *accumulate(sizes[:-1])]
    return torch.tensor(owner, device=device), torch.tensor(offset, device=device)


@cached_on_device
def _padded_columns(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """The columns of each group, filled up to K = max K_g with column D, one past the last. [G, K]"""
    ends, width, beyond = list(accumulate(sizes)), max(sizes), sum(sizes)
    rows = [[*range(end - size, end), *[beyond] * (width - size)] for end, size in zip(ends, sizes, strict=True)]
    return torch.tensor(rows, device=device)


@cached_on_device
def _joint_actions(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    classes = torch.tensor(list(product(*(range(size) for size in sizes))), device=device)
    return Groups(sizes).one_hot(classes)
