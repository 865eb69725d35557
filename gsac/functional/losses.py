"""The losses of the soft actor-critic: tensors in, tensor out. Reductions happen here and nowhere else.

Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905; Christodoulou 2019 for discrete actions,
https://arxiv.org/abs/1910.07207.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Aggregation = Callable[[Tensor], Tensor]
"""Several critics' values become one. [C, ...] -> [...]"""


def lowest(values: Tensor) -> Tensor:
    """The least of the critics' values. [C, ...] -> [...]"""
    return values.amin(0)


def average(values: Tensor) -> Tensor:
    """The mean of the critics' values. [C, ...] -> [...]"""
    return values.mean(0)


Q_AGGREGATIONS: dict[str, Aggregation] = {"min": lowest, "mean": average}


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """Reward + discount * next_value, where discount = gamma^n * (1 - terminated). All [B]"""
    return reward + discount * next_value


def value_range(reward: Tensor, discount: Tensor, bonus: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The least and the greatest value that a process of nothing but such transitions could have. [B], [B] -> [], []

    The greatest repeats one transition for ever: it is max_i r_i / (1 - d_i), for sums of n rewards with d = gamma^n as
    well. A terminated transition, d = 0, is worth its reward; one with d = 1 is without a bound unless its reward is 0.
    Andrychowicz et al. 2017, section A, clip targets to the range that they know, https://arxiv.org/abs/1707.01495.

    :param bonus: the next state's value has between 0 and so much added to it; []
    """
    repeats = (1 - discount).clamp_min(torch.finfo(discount.dtype).tiny)
    least, greatest = torch.aminmax(reward / repeats)
    if bonus is not None:
        greatest = ((reward + discount * bonus) / repeats).amax()
    return least, greatest


def critic_loss(values: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Half the squared error, averaged over the batch and summed over critics. [C, B], [B] -> []

    :param weights: of each sample [B], if some count more than others; not normalised here
    """
    errors = (values - target).square()
    if weights is not None:
        errors = weights * errors
    return errors.sum() * (0.5 / errors.shape[-1])


def actor_loss(action_value: Tensor, entropy: Tensor, ent_coef: Tensor) -> Tensor:
    """-(E_pi[q] + ent_coef * H(pi)), averaged over the batch. [B], [B], [] -> []"""
    return -(action_value + ent_coef * entropy).mean()


def policy_gradient(advantage: Tensor, log_prob: Tensor) -> Tensor:
    """The score function: its gradient is advantage * grad log pi(a), so that it ascends as an action value does.

    No gradient reaches the advantage. [...], [...] -> [...]. Williams 1992, https://doi.org/10.1007/BF00992696
    """
    return advantage.detach() * log_prob


def ent_coef_gradient(entropy: Tensor, target_entropy: Tensor) -> Tensor:
    """Of the loss log(ent_coef) * (entropy - target_entropy), averaged over the batch, with respect to log(ent_coef).

    Descending it raises the coefficient while the entropy is below its target, and lowers it above. [B], [] or [B] -> []
    """
    return (entropy - target_entropy).mean()
