"""Returns of several steps, computed on the device.

Sutton & Barto 2018, "Reinforcement Learning: An Introduction", section 7.1, http://incompleteideas.net/book/the-book-2nd.html
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gsac.checks import AT_LEAST_1, check_number, is_at_least_1, is_probability


class Summed(NamedTuple):
    """Rewards that were summed up to the end of the episode, of what was stored, or of the number of steps."""

    last: Tensor
    """[B, 1]: how many steps after the first the last one is that counts"""
    returns: Tensor
    """[B, 1]"""
    discounts: Tensor
    """[B, 1]: gamma^n for n rewards"""


class NStepReturns:
    """Sums n discounted rewards, or fewer where an end comes before. What it needs is on the device beforehand.

    :param n_steps: n
    :param gamma: the discount of a step
    """

    def __init__(self, n_steps: int, gamma: float, device: torch.device) -> None:
        powers = torch.from_numpy(np.float32(gamma) ** np.arange(n_steps + 1, dtype=np.float32)).to(device)
        self._steps = torch.arange(n_steps, device=device)
        self._powers, self._discounts = powers[:-1], powers[1:]

    def __call__(self, rewards: Tensor, ends: Tensor) -> Summed:
        """Of the rewards from each step on [B, n], and whether each was the last that counts: bool [B, n]."""
        last = torch.where(ends, self._steps, self._steps[-1]).amin(1, keepdim=True)
        counted = self._steps <= last
        return Summed(last, (rewards * self._powers * counted).sum(1, keepdim=True), self._discounts.take(last))


def check_steps(n_steps: int, gamma: float, optimize_memory_usage: bool) -> None:
    """What a replay buffer with returns of several steps is given.

    :raises TypeError: an argument of another kind
    :raises ValueError: an argument out of its range, or next observations are needed that are not stored
    """
    check_number("n_steps", n_steps, AT_LEAST_1, is_at_least_1, 3)
    check_number("gamma", gamma, "a number within [0, 1]", is_probability, 0.99)
    if n_steps > 1 and optimize_memory_usage:
        raise ValueError(
            f"n_steps={n_steps} needs the next observations that optimize_memory_usage=True leaves out: pass "
            "n_steps=1 or optimize_memory_usage=False."
        )
