"""Estimators that sum over classes instead of sampling them. No gradient passes through the critic."""

from __future__ import annotations

from torch import Tensor

from gsac.estimators.base import ActionValue, joint, neighbours
from gsac.functional.categorical import FactorisedCategorical
from gsac.functional.relaxation import straight_through


def expected(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """The sum over all joint actions of pi(a) q(a). [B]

    Bias: none. Variance: none. Cost: N = prod K_g evaluations, too many for large factorised spaces. Ignores
    ``temperature``. Christodoulou 2019, https://arxiv.org/abs/1910.07207
    """
    return (policy.joint_probs() * joint(q, policy)).sum(0)


def local_expectation(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Sums over the classes of each group in turn, with the other groups sampled. [B]

    Bias: none. Variance: for one group none, where it is :func:`expected`; for several, that of the other groups' sampled
    classes. Cost: q at the D = sum K_g neighbours of one sample; this package's critics need less than a pass for each.
    Ignores ``temperature``. Titsias & Lazaro-Gredilla 2015, https://arxiv.org/abs/1503.01494
    """
    action = policy.sample()
    values = neighbours(q, action, policy.groups)
    sampled = (values * action).sum(-1) / len(policy.groups)  # each group's column holds q(action) once
    return straight_through(sampled, (policy.probs * values).sum(-1))
