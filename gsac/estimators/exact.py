"""Estimators that sum over classes instead of sampling them, and never differentiate the critic."""

from __future__ import annotations

from torch import Tensor

from gsac.estimators.base import ActionValue, joint, neighbours
from gsac.functional.categorical import FactorisedCategorical
from gsac.functional.relaxation import straight_through


def expected(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """The sum over all joint actions of pi(a) q(a). [B]

    Bias: none. Variance: none. Cost: prod K_g evaluations, which rules it out for large factorised spaces. Ignores
    ``temperature``. Christodoulou 2019, https://arxiv.org/abs/1910.07207
    """
    return (policy.joint_probs() * joint(q, policy)).sum(0)


def local_expectation(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Each group summed over its classes, the other groups sampled. [B]

    Bias: none. Variance: none for a single group, where it is :func:`expected`; else that of the other groups' choices
    alone. Cost: q at sum K_g neighbours of one sample; critics whose first layer is linear in the action need far less
    than so many passes. Ignores ``temperature``. Titsias & Lazaro-Gredilla 2015, https://arxiv.org/abs/1503.01494
    """
    action = policy.sample()
    values = neighbours(q, action, policy.groups)
    sampled = (values * action).sum(-1) / len(policy.groups)  # each group's column holds q(action) once
    return straight_through(sampled, (policy.probs * values).sum(-1))
