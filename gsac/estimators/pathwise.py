"""Estimators that differentiate the critic with respect to the action."""

from __future__ import annotations

from torch import Tensor

from gsac.estimators.base import ActionValue
from gsac.functional import relaxation
from gsac.functional.categorical import FactorisedCategorical


def gumbel_softmax(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at a relaxed sample, a point inside the simplex. [B]

    Biased, since the critic is asked between the one-hots it was trained on: the bias vanishes as the temperature
    falls to 0, while the variance grows as its inverse. One critic evaluation.
    Jang et al. 2017, https://arxiv.org/abs/1611.01144
    """
    perturbed = policy.logits + relaxation.gumbel_like(policy.logits)
    return q(relaxation.gumbel_softmax(perturbed, policy.groups, temperature))


def straight_through_gumbel(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample; backwards, the sample counts as its relaxation by the same noise. [B]

    Biased, with a floor that no temperature removes unless q is linear; the variance grows as the temperature falls.
    One critic evaluation. Jang et al. 2017, section 2.2, https://arxiv.org/abs/1611.01144
    """
    perturbed = policy.logits + relaxation.gumbel_like(policy.logits)
    soft = relaxation.gumbel_softmax(perturbed, policy.groups, temperature)
    return q(relaxation.straight_through(policy.harden(perturbed.detach()), soft))


def straight_through(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """Q at an exact one-hot sample; backwards, the sample counts as the probabilities. [B]

    Unbiased when q is linear in each group's action, and then without variance for a single group. Ignores
    ``temperature``. One critic evaluation. Bengio et al. 2013, https://arxiv.org/abs/1308.3432
    """
    return q(relaxation.straight_through(policy.sample(), policy.probs))
