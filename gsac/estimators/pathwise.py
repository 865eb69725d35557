"""Estimators that differentiate the critic with respect to a relaxed or one-hot action."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gsac.checks import AT_LEAST_1, check_number, is_at_least_1
from gsac.estimators.base import ActionValue
from gsac.functional import relaxation
from gsac.functional.categorical import FactorisedCategorical


def gumbel_softmax(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at a relaxed sample, a point inside the simplex. [B]

    Bias: that of evaluating the critic between the one-hots that it was trained on; vanishes as the temperature falls to
    0. Variance: grows as the temperature's inverse. Cost: one evaluation and its gradient.
    Jang et al. 2017, https://arxiv.org/abs/1611.01144
    """
    perturbed = policy.logits + relaxation.gumbel_like(policy.logits)
    return q(relaxation.gumbel_softmax(perturbed, policy.groups, temperature))


def straight_through_gumbel(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample; the gradient goes to the relaxation of the same perturbed logits. [B]

    Bias: does not vanish at any temperature, unless q is linear. Variance: grows as the temperature's inverse.
    Cost: one evaluation and its gradient. Jang et al. 2017, section 2.2, https://arxiv.org/abs/1611.01144
    """
    perturbed = policy.logits + relaxation.gumbel_like(policy.logits)
    soft = relaxation.gumbel_softmax(perturbed, policy.groups, temperature)
    return q(relaxation.straight_through(policy.harden(perturbed.detach()), soft))


@dataclass(frozen=True)
class GumbelRao:
    """:func:`straight_through_gumbel`, averaged over M relaxations drawn conditionally on the sampled one-hot. [B]

    Bias: that of straight_through_gumbel. Variance: lower; it falls with more ``samples``, most at low temperatures.
    Cost: one evaluation and its gradient, and M softmaxes.
    Paulus et al. 2021, https://arxiv.org/abs/2010.04838

    :param samples: M, at least 1
    :raises TypeError: ``samples`` is not a whole number
    :raises ValueError: ``samples`` is below 1
    """

    samples: int = 16

    def __post_init__(self) -> None:
        check_number("samples", self.samples, AT_LEAST_1, is_at_least_1, 16)

    def __call__(self, policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
        """See :class:`gsac.estimators.base.Estimator`."""
        hard = policy.sample()
        logits = policy.log_probs
        perturbed = relaxation.conditional_gumbel(logits.detach(), hard, policy.groups, self.samples)
        # The noise, perturbed - logits, is held fixed while the logits move.
        soft = relaxation.gumbel_softmax(logits + (perturbed - logits.detach()), policy.groups, temperature).mean(0)
        return q(relaxation.straight_through(hard, soft))


def straight_through(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample; the gradient goes to the probabilities. [B]

    Bias: none if q is linear in each group's action. Variance: none if q is linear, else that of q's gradient over the
    samples. Cost: one evaluation and its gradient. Ignores ``temperature``.
    Bengio et al. 2013, https://arxiv.org/abs/1308.3432
    """
    return q(relaxation.straight_through(policy.sample(), policy.probs))


def reinmax(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample a, with a second-order gradient estimate from q's gradient at a. [B]

    The gradient is (2 J_m - J_p / 2) grad q(a), where J_p is the softmax's Jacobian at the probabilities p and J_m at
    their mean with the sample, m = (p + a) / 2. Bias: none if there is one group and q is quadratic.
    Variance: above straight_through's. Cost: one evaluation and its gradient. Ignores ``temperature``.
    Liu et al. 2023, https://arxiv.org/abs/2304.08612
    """
    hard, probs, groups = policy.sample(), policy.probs.detach(), policy.groups
    at_mean = relaxation.softmax_tangent((probs + hard) / 2, policy.logits, groups)
    at_probs = relaxation.softmax_tangent(probs, policy.logits, groups)
    return q(relaxation.straight_through(hard, 2 * at_mean - at_probs / 2))
