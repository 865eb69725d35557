"""The policy's distribution: one independent categorical for each group of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gsac.functional.groups import Groups
from gsac.functional.relaxation import gumbel_like

MASKED_LOGIT = -1e8
"""The logit of a masked class: its probability is exactly 0, and unlike minus infinity it gives no NaN when multiplied by 0."""


class FactorisedCategorical:
    """G independent categoricals of K_g classes: pi(a) = prod_g softmax(logits_g)[a_g].

    Actions are flat one-hots [..., D] with D = sum of K_g: one 1 in each group. Half-precision logits are converted to
    float32.

    :param logits: [..., D], unnormalised log-probabilities, group after group
    :param sizes: K_1 ... K_G, or a :class:`Groups`
    :param mask: bool [..., D], True where a class may be chosen; each group needs at least one True. Masked classes have
        probability 0 and are never sampled, and the gradient of their logits is exactly 0.
    :raises ValueError: ``logits`` or ``mask`` do not have D columns, or ``mask`` is not boolean

    >>> policy = FactorisedCategorical(torch.zeros(1, 5), sizes=[2, 3])
    >>> round(policy.entropy().item(), 4)  # log 2 + log 3
    1.7918
    """

    def __init__(self, logits: Tensor, sizes: Sequence[int] | Groups, mask: Tensor | None = None) -> None:
        self.groups = sizes if isinstance(sizes, Groups) else Groups(sizes)
        if logits.shape[-1] != self.groups.flat_size:
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} do not fit sizes={list(self.groups.sizes)}: the last dimension "
                f"must be their sum, {self.groups.flat_size}."
            )
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        if mask is not None:
            if mask.dtype != torch.bool or mask.shape[-1] != self.groups.flat_size:
                raise ValueError(
                    f"mask of shape {tuple(mask.shape)} and type {mask.dtype} does not fit "
                    f"sizes={list(self.groups.sizes)}: pass booleans with {self.groups.flat_size} columns, "
                    "True where a class may be chosen."
                )
            logits = logits.masked_fill(~mask, MASKED_LOGIT)
        self.logits = logits
        self.mask = mask
        self._log_probs: Tensor | None = None
        self._probs: Tensor | None = None

    @property
    def log_probs(self) -> Tensor:
        """The logarithm of each class's probability within its group. [..., D]"""
        if self._log_probs is None:
            with torch.enable_grad():  # cached, so it must have a gradient also if the first call is made without
                self._log_probs = self.groups.log_softmax(self.logits)
        return self._log_probs

    @property
    def probs(self) -> Tensor:
        """Each class's probability within its group. [..., D]"""
        if self._probs is None:
            with torch.enable_grad():
                self._probs = self.log_probs.exp()
        return self._probs

    def sample(self, n: int | None = None) -> Tensor:
        """Samples the policy exactly, without a gradient. Flat one-hots [..., D]; with ``n`` samples [n, ..., D]"""
        return self._one_hot(self.sample_classes(n))

    def sample_classes(self, n: int | None = None, noise: Tensor | None = None) -> Tensor:
        """Samples the class of each group exactly, by the Gumbel-max trick. int64 [..., G]; with ``n`` samples [n, ..., G]

        :param noise: standard Gumbel noise to add to the logits, [..., D] or [n, ..., D]; drawn if None
        """
        logits = self.logits.detach()
        if n is not None:
            logits = logits.expand(n, *logits.shape)
        return self.groups.argmax(logits + (gumbel_like(logits) if noise is None else noise))

    def mode(self) -> Tensor:
        """The most probable action; the first if several are equally probable. Flat one-hots [..., D]"""
        return self._one_hot(self.mode_classes())

    def mode_classes(self) -> Tensor:
        """The most probable class of each group; the first if several are equally probable. int64 [..., G]"""
        return self.groups.argmax(self.logits.detach())

    def harden(self, scores: Tensor) -> Tensor:
        """One-hots of the greatest score in each group. [..., D] -> [..., D]"""
        return self._one_hot(self.groups.argmax(scores))

    def _one_hot(self, classes: Tensor) -> Tensor:
        return self.groups.one_hot(classes).to(self.logits.dtype)

    def entropy(self) -> Tensor:
        """The exact entropy in nats: the sum of the groups' entropies. [...]"""
        return -(self.probs * self.log_probs).sum(-1)

    def max_entropy(self) -> Tensor | float:
        """The greatest entropy of any policy over the allowed classes, in nats: the uniform one's. [...]; a float without a mask"""
        if self.mask is None:
            return math.log(self.groups.n_joint)
        return self.groups.sum(self.mask.to(self.logits.dtype)).log().sum(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log pi(a) of actions as flat one-hots. [..., D] -> [...]"""
        return (action * self.log_probs).sum(-1)

    def joint(self) -> tuple[Tensor, Tensor]:
        """All N = prod K_g joint actions [N, ..., D] and their probabilities [N, ...]. N grows exponentially with G."""
        actions = self.groups.joint_actions(self.logits.device).to(self.logits.dtype)
        batch = (1,) * (self.logits.dim() - 1)
        return actions.reshape(-1, *batch, actions.shape[-1]).expand(-1, *self.logits.shape), self.joint_probs()

    def joint_probs(self) -> Tensor:
        """The probability of each of the N joint actions, in the order of :meth:`Groups.joint_actions`. [N, ...]"""
        actions = self.groups.joint_actions(self.logits.device).to(self.logits.dtype)
        return (self.log_probs @ actions.T).movedim(-1, 0).exp()
