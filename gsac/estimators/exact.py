"""Estimators without bias and without variance."""

from __future__ import annotations

import torch
from torch import Tensor

from gsac.estimators.base import ActionValue
from gsac.functional.categorical import FactorisedCategorical


def expected(policy: FactorisedCategorical, q: ActionValue, temperature: Tensor) -> Tensor:
    """The sum over all joint actions of pi(a) q(a). [B]

    No bias, no variance, no gradient of q. Ignores ``temperature``. Its prod K_g critic evaluations rule it out for
    large factorised spaces. Christodoulou 2019, https://arxiv.org/abs/1910.07207
    """
    actions, probs = policy.joint()
    with torch.no_grad():
        values = q(actions)
    return (probs * values).sum(0)
