"""Weights to draw indices by, that change all the time."""

from __future__ import annotations

import numpy as np


class SumTree:
    """A binary tree whose leaves are weights and whose inner nodes are the sums below them.

    Writing and drawing B weights takes log2(size) steps, each for all B at once. Sums are made anew from their two
    parts, so that no rounding error builds up however often weights change.

    :param size: the number of leaves, all 0 at first
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.depth = (size - 1).bit_length()
        self._leaves = 1 << self.depth  # leaves beyond the size stay 0
        # Node 1 is the root, and the children of node i are 2i and 2i + 1.
        self._nodes = np.zeros(2 * self._leaves)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._nodes[1])

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        return self._nodes[self._leaves : self._leaves + self.size][indices]

    def __setitem__(self, indices: np.ndarray, weights: np.ndarray | float) -> None:
        """Of an index that comes twice, the last weight counts. [B], [B] or one for all"""
        nodes = indices + self._leaves
        self._nodes[nodes] = weights
        for _ in range(self.depth):
            nodes = nodes >> 1
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, values: np.ndarray) -> np.ndarray:
        """The leaves in which the running sum of the weights passes these values. [B] -> [B]

        A leaf of weight 0 is never found.

        :param values: within [0, total)
        """
        values, nodes = values.copy(), np.ones(len(values), dtype=np.int64)
        for _ in range(self.depth):
            left, right = self._nodes[2 * nodes], self._nodes[2 * nodes + 1]
            # Rounding may leave a value at the very end of its range, where the right branch can be empty.
            goes_right = (values >= left) & (right > 0)
            values -= left * goes_right
            nodes = 2 * nodes + goes_right
        return nodes - self._leaves

    def draw(self, n: int) -> np.ndarray:
        """Indices with a chance proportional to their weights, one from each of n equal shares of the total. [n]"""
        shares = np.arange(n) + np.random.random(n)
        return self.find(shares * (self.total / n))
