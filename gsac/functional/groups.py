"""Flat entries cut into groups: the layout of every factorised action in this package."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, product

import torch
from torch import Tensor

MAX_JOINT_ACTIONS = 2**12

NARROW = 16
"""Up to so many classes, PyTorch's softmax for the CPU is several times faster with the classes in the first dimension."""


class Groups:
    """G groups of K_g entries, laid side by side in D = sum of K_g flat columns.

    Every method works on the last dimension, keeps all leading ones, and costs time and memory in proportion to D.
    Groups of one size are handled as views; groups of unequal sizes by indexed reductions. Neither loops over groups.

    :param sizes: the number of entries of each group, all at least 1
    :raises ValueError: no group, or a group without entries
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
        """The sum of each group's entries. [..., D] -> [..., G]"""
        if self.equal:
            return self._split(flat).sum(-1)
        owner, _ = _index(self.sizes, flat.device)
        return flat.new_zeros(*flat.shape[:-1], len(self)).index_add(-1, owner, flat)

    def spread(self, grouped: Tensor) -> Tensor:
        """Each group's value, repeated for each of its entries. [..., G] -> [..., D]"""
        owner, _ = _index(self.sizes, grouped.device)
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
        """The class with the greatest entry in each group, the first of equals. [..., D] -> int64 [..., G]"""
        if self.equal:
            return self._split(flat).argmax(-1)
        if torch.compiler.is_dynamo_compiling():
            # Below, entries are compared with the greatest of them. Compiled code may compute them twice, in two ways.
            lowest = flat.new_full((*flat.shape[:-1], 1), -torch.inf)
            columns = _columns(self.sizes, flat.device)
            padded = torch.cat([flat, lowest], -1).index_select(-1, columns.flatten())
            return padded.reshape(*flat.shape[:-1], *columns.shape).argmax(-1)
        owner, offset = _index(self.sizes, flat.device)
        position = torch.arange(self.flat_size, device=flat.device)
        at_peak = flat == self.spread(self._amax(flat))
        candidates = torch.where(at_peak, position, self.flat_size)
        first = candidates.new_full((*flat.shape[:-1], len(self)), self.flat_size)
        return first.scatter_reduce(-1, owner.expand_as(candidates), candidates, "amin") - offset

    def one_hot(self, classes: Tensor) -> Tensor:
        """Flat one-hots of a class per group. int64 [..., G] -> float32 [..., D]"""
        _, offset = _index(self.sizes, classes.device)
        flat = torch.zeros(*classes.shape[:-1], self.flat_size, device=classes.device)
        return flat.scatter_(-1, classes + offset, 1.0)

    def neighbours(self, one_hot: Tensor) -> Tensor:
        """The D actions that differ in one group at most: action d chooses class d in its group. [..., D] -> [D, ..., D]

        D^2 numbers for each action.
        """
        owner, _ = _index(self.sizes, one_hot.device)
        batch = (1,) * (one_hot.dim() - 1)
        elsewhere = (owner[:, None] != owner).to(one_hot.dtype).reshape(-1, *batch, self.flat_size)
        chosen = torch.eye(self.flat_size, dtype=one_hot.dtype, device=one_hot.device)
        return one_hot * elsewhere + chosen.reshape(-1, *batch, self.flat_size)

    def unchosen(self, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """The columns of the classes not chosen, and for each the column chosen in its group. [..., D] -> [..., D - G]"""
        owner, offset = _index(self.sizes, one_hot.device)
        columns = one_hot.argsort(dim=-1, stable=True)[..., : self.flat_size - len(self)]
        return columns, (self.argmax(one_hot) + offset).gather(-1, owner[columns])

    def joint_actions(self, device: torch.device) -> Tensor:
        """Every joint choice of one class per group, as flat one-hots. [N, D] with N the product of the sizes.

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
        if flat.device.type == "cpu" and split.shape[-1] <= NARROW:
            return function(split.movedim(-1, 0).contiguous(), 0).movedim(0, -1).flatten(-2)
        return function(split, -1).flatten(-2)

    def _split(self, flat: Tensor) -> Tensor:
        return flat.reshape(*flat.shape[:-1], len(self.sizes), self.sizes[0])

    def _amax(self, flat: Tensor) -> Tensor:
        owner, _ = _index(self.sizes, flat.device)
        lowest = flat.new_full((*flat.shape[:-1], len(self)), -torch.inf)
        return lowest.scatter_reduce(-1, owner.expand_as(flat), flat, "amax")


def _index(sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The group of each flat entry [D], and the first entry of each group [G]. Kept, to spare a copy to the device."""
    return _made_index(sizes, device)


def _joint_actions(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    return _made_joint_actions(sizes, device)


def _columns(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """The column of each group's entries, and for groups that have fewer than the greatest the one after the last.
    [G, K]
    """
    return _made_columns(sizes, device)


@lru_cache(maxsize=256)
def _made_index(sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    owner = [group for group, size in enumerate(sizes) for _ in range(size)]
    offset = [0, *accumulate(sizes[:-1])]
    return torch.tensor(owner, device=device), torch.tensor(offset, device=device)


@lru_cache(maxsize=256)
def _made_columns(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    ends, width, beyond = list(accumulate(sizes)), max(sizes), sum(sizes)
    rows = [[*range(end - size, end), *[beyond] * (width - size)] for end, size in zip(ends, sizes, strict=True)]
    return torch.tensor(rows, device=device)


@lru_cache(maxsize=64)
def _made_joint_actions(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    classes = torch.tensor(list(product(*(range(size) for size in sizes))), device=device)
    return Groups(sizes).one_hot(classes)


def kept(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """The numbers on the device, int64. Kept, to spare a copy each time."""
    return _on_device(numbers, device)


@lru_cache(maxsize=256)
def _on_device(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(numbers, device=device)


# A compiler is not to look inside: what comes out is the same at every call. These are the marks that
# torch.compiler.assume_constant_result makes, which imports the whole compiler to make them.
_index._dynamo_marked_constant = True  # type: ignore[attr-defined]
_columns._dynamo_marked_constant = True  # type: ignore[attr-defined]
_joint_actions._dynamo_marked_constant = True  # type: ignore[attr-defined]
kept._dynamo_marked_constant = True  # type: ignore[attr-defined]
