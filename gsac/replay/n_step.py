"""N-step returns, computed on the device.

Sutton & Barto 2018, "Reinforcement Learning: An Introduction", section 7.1, http://incompleteideas.net/book/the-book-2nd.html
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gsac.checks import AT_LEAST_1, check_number, is_at_least_1, is_probability


class NStepReturns(NamedTuple):
    """Sums of up to n discounted rewards, fewer if the episode or the stored steps end before."""

    last: Tensor
    """[B, 1]: the index of the last reward in the sum, from 0 to n - 1"""
    returns: Tensor
    """[B, 1]"""
    discounts: Tensor
    """[B, 1]: gamma^m for a sum of m rewards"""


class NStepSum:
    """Sums discounted rewards over n steps, or up to the first end. Its constants are copied to the device once.

    :param n_steps: n
    :param gamma: the discount of a step
    :param device: of the rewards
    """

    def __init__(self, n_steps: int, gamma: float, device: torch.device) -> None:
        powers = torch.from_numpy(np.float32(gamma) ** np.arange(n_steps + 1, dtype=np.float32)).to(device)
        self._steps = torch.arange(n_steps, device=device)
        self._powers, self._discounts = powers[:-1], powers[1:]

    def __call__(self, rewards: Tensor, ends: Tensor) -> NStepReturns:
        """Sums the rewards of up to n steps.

        :param rewards: of the n steps from each first one on [B, n]
        :param ends: whether the sum must end with this step, bool [B, n]
        """
        last = torch.where(ends, self._steps, self._steps[-1]).amin(1, keepdim=True)
        counted = self._steps <= last
        return NStepReturns(last, (rewards * self._powers * counted).sum(1, keepdim=True), self._discounts.take(last))


def check_steps(n_steps: int, gamma: float, optimize_memory_usage: bool) -> None:
    """Raises an error unless a replay buffer can compute n-step returns with these arguments.

    :raises TypeError: an argument of another kind
    :raises ValueError: an argument out of its range, or n above 1 without stored next observations
    """
    check_number("n_steps", n_steps, AT_LEAST_1, is_at_least_1, 3)
    check_number("gamma", gamma, "a number within [0, 1]", is_probability, 0.99)
    if n_steps > 1 and optimize_memory_usage:
        raise ValueError(
            f"n_steps={n_steps} needs the next observations that optimize_memory_usage=True leaves out: pass "
            "n_steps=1 or optimize_memory_usage=False."
        )
