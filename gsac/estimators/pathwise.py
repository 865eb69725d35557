"""Estimators that differentiate the critic with respect to the action."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gsac.checks import AT_LEAST_1, check_number, is_at_least_1
from gsac.estimators.base import ActionValue
from gsac.functional import relaxation
from gsac.functional.categorical import FactorisedCategorical


def gumbel_softmax(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at a relaxed sample, a point inside the simplex. [B]

    Bias: the critic is asked between the one-hots that it was trained on; vanishes as the temperature falls to 0.
    Variance: grows as the temperature's inverse. Cost: one evaluation and its gradient.
    Jang et al. 2017, https://arxiv.org/abs/1611.01144
    """
    perturbed = policy.logits + relaxation.gumbel_like(policy.logits)
    return q(relaxation.gumbel_softmax(perturbed, policy.groups, temperature))


def straight_through_gumbel(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample; backwards, the sample counts as its relaxation by the same noise. [B]

    Bias: a floor that no temperature removes, unless q is linear. Variance: grows as the temperature's inverse.
    Cost: one evaluation and its gradient. Jang et al. 2017, section 2.2, https://arxiv.org/abs/1611.01144
    """
    perturbed = policy.logits + relaxation.gumbel_like(policy.logits)
    soft = relaxation.gumbel_softmax(perturbed, policy.groups, temperature)
    return q(relaxation.straight_through(policy.harden(perturbed.detach()), soft))


@dataclass(frozen=True)
class GumbelRao:
    """:func:`straight_through_gumbel`, averaged over relaxations that could all have led to the sampled one-hot. [B]

    Bias: that of straight_through_gumbel. Variance: lower, the more so the more ``samples`` and the lower the
    temperature. Cost: one evaluation and its gradient; the samples cost a softmax each.
    Paulus et al. 2021, https://arxiv.org/abs/2010.04838

    :param samples: M, conditional Gumbel perturbations, at least 1
    """

    samples: int = 16

    def __post_init__(self) -> None:
        check_number("samples", self.samples, AT_LEAST_1, is_at_least_1, 16)

    def __call__(self, policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
        """As every estimator."""
        hard = policy.sample()
        logits = policy.log_probs
        perturbed = relaxation.conditional_gumbel(logits.detach(), hard, policy.groups, self.samples)
        # The noise, perturbed - logits, is held fixed while the logits move.
        soft = relaxation.gumbel_softmax(logits + (perturbed - logits.detach()), policy.groups, temperature).mean(0)
        return q(relaxation.straight_through(hard, soft))


def straight_through(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample; backwards, the sample counts as the probabilities. [B]

    Bias: none where q is linear in each group's action. Variance: none where q is linear, else that of the gradient of
    q over the samples. Cost: one evaluation and its gradient. Ignores ``temperature``.
    Bengio et al. 2013, https://arxiv.org/abs/1308.3432
    """
    return q(relaxation.straight_through(policy.sample(), policy.probs))


def reinmax(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample D; backwards, a second-order estimate from q's gradient there. [B]

    The gradient is (2 J_m - J_p / 2) grad q(D), where J_p is the softmax's Jacobian at the probabilities p and J_m that
    at their mean with the sample, m = (p + D) / 2. Bias: none where q is quadratic in a single group's action.
    Variance: above straight_through's. Cost: one evaluation and its gradient. Ignores ``temperature``.
    Liu et al. 2023, https://arxiv.org/abs/2304.08612
    """
    hard, probs, groups = policy.sample(), policy.probs.detach(), policy.groups
    at_mean = relaxation.softmax_tangent((probs + hard) / 2, policy.logits, groups)
    at_probs = relaxation.softmax_tangent(probs, policy.logits, groups)
    return q(relaxation.straight_through(hard, 2 * at_mean - at_probs / 2))
