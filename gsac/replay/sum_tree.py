"""Draws indices with probabilities proportional to weights that change often."""

from __future__ import annotations

import numpy as np


class SumTree:
    """A binary tree whose leaves are weights and whose inner nodes are the sums of their two children.

    Setting or drawing B weights takes log2(size) vectorised operations. Sums are recomputed from the children, not
    updated by differences, so that rounding errors do not accumulate.

    :param size: the number of leaves; their weights are 0 at first
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
        """Sets the weights of these indices; the last one counts if an index comes twice. [B], and [B] or a number"""
        nodes = indices + self._leaves
        self._nodes[nodes] = weights
        for _ in range(self.depth):
            nodes = nodes >> 1
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, values: np.ndarray) -> np.ndarray:
        """Finds the leaf at which the cumulative sum of the weights exceeds each value. [B] -> [B]

        Leaves of weight 0 are never found.

        :param values: within [0, total)
        """
        values, nodes = values.copy(), np.ones(len(values), dtype=np.int64)
        for _ in range(self.depth):
            left, right = self._nodes[2 * nodes], self._nodes[2 * nodes + 1]
            # By rounding, a value may reach the sum of all weights, past the last leaf with a weight.
            goes_right = (values >= left) & (right > 0)
            values -= left * goes_right
            nodes = 2 * nodes + goes_right
        return nodes - self._leaves

    def draw(self, n: int) -> np.ndarray:
        """Draws indices in proportion to their weights, one from each of n equal intervals of the total: stratified. [n]"""
        shares = np.arange(n) + np.random.random(n)
        return self.find(shares * (self.total / n))
