"""Monte-Carlo returns of whole episodes, and what they are compared with. Episodes are rows, padded with zeros.

Sutton & Barto 2018, "Reinforcement Learning: An Introduction", sections 13.3 and 13.4,
http://incompleteideas.net/book/the-book-2nd.html
"""

from __future__ import annotations

import torch
from torch import Tensor


def returns_to_go(rewards: Tensor, gamma: float) -> Tensor:
    """From each step on: G_t = r_t + gamma * G_{t+1}, and 0 after the last step. [E, T] -> [E, T]"""
    returns = torch.empty_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = rewards[:, t] + gamma * following
        returns[:, t] = following
    return returns


def mean_of_others(returns: Tensor) -> Tensor:
    """At each step the mean of the other episodes' returns; one that has ended counts as 0. [E, T] -> [E, T]

    It does not depend on the actions of the episode that it is subtracted from, and so leaves the expected gradient as
    it is; the mean of all episodes would shrink it. Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE
    """
    return (returns.sum(0) - returns) / (returns.shape[0] - 1)


def unit_scale(advantage: Tensor) -> Tensor:
    """Divided by its root mean square. All zeros stay so. [N] -> [N]

    The mean is not subtracted: that would be another baseline.
    """
    return advantage / advantage.square().mean().sqrt().clamp_min(1e-8)
