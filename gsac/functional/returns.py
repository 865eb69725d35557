"""Monte-Carlo returns of whole episodes, and a baseline for them. Episodes are rows [E, T], padded with zeros.

Sutton & Barto 2018, "Reinforcement Learning: An Introduction", sections 13.3 and 13.4,
http://incompleteideas.net/book/the-book-2nd.html
"""

from __future__ import annotations

import torch
from torch import Tensor


def returns_to_go(rewards: Tensor, gamma: float) -> Tensor:
    """The discounted return from each step on: G_t = r_t + gamma * G_{t+1}, 0 after the last step. [E, T] -> [E, T]"""
    returns = torch.empty_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = rewards[:, t] + gamma * following
        returns[:, t] = following
    return returns


def mean_of_others(returns: Tensor) -> Tensor:
    """The mean of the other episodes' returns at each step; an episode that has ended counts as 0. [E, T] -> [E, T]

    As a baseline it adds no bias, since it does not depend on the actions of its own episode; the mean of all episodes
    would shrink the expected gradient. Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE
    """
    return (returns.sum(0) - returns) / (returns.shape[0] - 1)


def unit_scale(advantage: Tensor) -> Tensor:
    """Divides by the root mean square; zeros stay zeros. [N] -> [N]

    The mean is not subtracted, as that would be another baseline.
    """
    return advantage / advantage.square().mean().sqrt().clamp_min(1e-8)
