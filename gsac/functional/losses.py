"""The losses of the soft actor-critic: tensors in, tensor out. Batches are averaged here and nowhere else.

Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905; Christodoulou 2019 for discrete actions,
https://arxiv.org/abs/1910.07207.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Aggregation = Callable[[Tensor], Tensor]
"""Reduces the values of C critics to one. [C, ...] -> [...]"""


def lowest(values: Tensor) -> Tensor:
    """The minimum over the critics. [C, ...] -> [...]"""
    return values.amin(0)


def average(values: Tensor) -> Tensor:
    """The mean over the critics. [C, ...] -> [...]"""
    return values.mean(0)


Q_AGGREGATIONS: dict[str, Aggregation] = {"min": lowest, "mean": average}


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """Reward + discount * next_value, where discount = gamma^n * (1 - terminated). All [B]"""
    return reward + discount * next_value


def value_range(reward: Tensor, discount: Tensor, bonus: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The least and greatest return that is possible with transitions of this batch only. [B], [B] -> [], []

    The greatest return repeats one transition forever: max_i r_i / (1 - d_i), also for n-step rewards with
    d = gamma^n. A terminated transition, d = 0, returns its reward; one with d = 1 has no bound unless its reward is 0.
    Andrychowicz et al. 2017, section A, clip targets to a range known beforehand, https://arxiv.org/abs/1707.01495.

    :param bonus: the most that is added to each next value, such as an entropy bonus; at least 0, []
    """
    repeats = (1 - discount).clamp_min(torch.finfo(discount.dtype).tiny)
    least, greatest = torch.aminmax(reward / repeats)
    if bonus is not None:
        greatest = ((reward + discount * bonus) / repeats).amax()
    return least, greatest


def critic_loss(values: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Half the squared error, averaged over the batch and summed over the critics. [C, B], [B] -> []

    :param weights: weight of each sample [B], such as the importance weights of prioritised replay; not normalised here
    """
    errors = (values - target).square()
    if weights is not None:
        errors = weights * errors
    return errors.sum() * (0.5 / errors.shape[-1])


def actor_loss(action_value: Tensor, entropy: Tensor, ent_coef: Tensor) -> Tensor:
    """-(E_pi[q] + ent_coef * H(pi)), averaged over the batch. [B], [B], [] -> []"""
    return -(action_value + ent_coef * entropy).mean()


def policy_gradient(advantage: Tensor, log_prob: Tensor) -> Tensor:
    """Advantage * log pi(a), to be maximised; its gradient is the score-function estimate. [...], [...] -> [...]

    No gradient reaches the advantage. Williams 1992, https://doi.org/10.1007/BF00992696
    """
    return advantage.detach() * log_prob


def ent_coef_gradient(entropy: Tensor, target_entropy: Tensor) -> Tensor:
    """The batch's mean gradient of the loss log(ent_coef) * (entropy - target_entropy) with respect to log(ent_coef).

    A descent step raises the coefficient if the entropy is below its target and lowers it if above.
    [B], [] or [B] -> []
    """
    return (entropy - target_entropy).mean()
