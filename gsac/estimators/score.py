"""Score-function estimators: grad log pi(a), weighted by the critic's value. No gradient passes through the critic."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gsac.checks import check_choice, check_number, is_probability
from gsac.estimators.base import ActionValue, joint
from gsac.functional.categorical import FactorisedCategorical
from gsac.functional.losses import policy_gradient
from gsac.functional.relaxation import straight_through
from gsac.schedules import Schedule, check_schedule

BASELINES = ("none", "sample", "exact")


@dataclass(frozen=True)
class Reinforce:
    """(q(a) - b) grad log pi(a), at one sample. [B]

    Bias: none. Variance: high; without a baseline it grows with the square of q's mean. Cost: one evaluation, and for
    the baseline one more (``"sample"``) or prod K_g more (``"exact"``). Ignores the temperature.
    Williams 1992, https://doi.org/10.1007/BF00992696

    :param baseline: b: ``"none"``, ``"sample"`` for q at an independent sample, ``"exact"`` for the mean of q under the
        policy
    :raises ValueError: another baseline
    """

    baseline: str = "sample"

    def __post_init__(self) -> None:
        check_choice("baseline", self.baseline, BASELINES)

    def __call__(self, policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
        """See :class:`gsac.estimators.base.Estimator`."""
        action = policy.sample()
        with torch.no_grad():
            value = q(action)
            advantage = value - self._baseline(policy, q)
        return straight_through(value, policy_gradient(advantage, policy.log_prob(action)))

    def _baseline(self, policy: FactorisedCategorical, q: ActionValue) -> Tensor | float:
        if self.baseline == "sample":
            return q(policy.sample())
        if self.baseline == "exact":
            return (policy.joint_probs() * joint(q, policy)).sum(0)
        return 0.0


@dataclass(frozen=True)
class RLOO:
    """REINFORCE over several samples, each with the mean of the others as its baseline. [B]

    Bias: none. Variance: falls as 1 / ``samples``. Cost: ``samples`` evaluations. Ignores the temperature.
    Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE

    :param samples: M, at least 2
    :raises TypeError: ``samples`` is not a whole number
    :raises ValueError: ``samples`` is below 2
    """

    samples: int = 4

    def __post_init__(self) -> None:
        allowed = "a whole number of at least 2, as the baseline is the mean of the others"
        check_number("samples", self.samples, allowed, lambda value: value >= 2, 4)

    def __call__(self, policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
        """See :class:`gsac.estimators.base.Estimator`."""
        actions = policy.sample(self.samples)
        with torch.no_grad():
            values = q(actions)
            others = (values.sum(0) - values) / (self.samples - 1)
        return straight_through(values, policy_gradient(values - others, policy.log_prob(actions))).mean(0)


@dataclass(frozen=True)
class Mixed:
    """rho * REINFORCE + (1 - rho) * straight-through, both at one sample. [B]

    Bias: 1 - rho times that of straight_through. Variance: between the two; close to straight-through's if rho is
    small. Cost: two evaluations, one for the baseline, and one gradient. Ignores the temperature.
    DreamerV2: Hafner et al. 2021, https://arxiv.org/abs/2010.02193

    :param rho: the share of REINFORCE, within [0, 1]: a number, or a schedule that GSAC evaluates in training
    :raises TypeError: ``rho`` is neither
    :raises ValueError: ``rho`` is or becomes less than 0 or more than 1
    """

    rho: float | str | Schedule | Tensor = field(default=0.1, metadata={"schedule": True})

    def __post_init__(self) -> None:
        if not isinstance(self.rho, Tensor):
            allowed = "a number within [0, 1], or a schedule of such"
            check_schedule("rho", self.rho, allowed, is_probability, "'linear:1:0'")

    def __call__(self, policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
        """See :class:`gsac.estimators.base.Estimator`.

        :raises TypeError: ``rho`` is a schedule, which :func:`gsac.estimators.extract_schedules` has not replaced by a tensor
        """
        rho = self.rho
        if not isinstance(rho, Tensor | numbers.Real):
            raise TypeError(
                f"rho={rho!r} is a schedule, and only GSAC can say how far it is: pass a number, or let "
                "gsac.estimators.extract_schedules() put a tensor in its place."
            )
        action = policy.sample()
        value = q(straight_through(action, policy.probs))
        with torch.no_grad():
            advantage = value - q(policy.sample())
        score = straight_through(value.detach(), policy_gradient(advantage, policy.log_prob(action)))
        return rho * score + (1 - rho) * value
