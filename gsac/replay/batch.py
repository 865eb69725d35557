"""Converts the samples of a replay buffer to the tensors that the losses take. Nothing else converts them."""

from __future__ import annotations

from typing import Any, NamedTuple

from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from gsac.replay.masks import StoredMasks
from gsac.spaces.codec import ActionCodec


class Batch(NamedTuple):
    """A batch of transitions as the losses take them."""

    observations: PyTorchObs
    actions: Tensor
    """Flat one-hots [B, D]"""
    rewards: Tensor
    """[B]; of n-step samples the discounted sum of n rewards"""
    discounts: Tensor
    """[B]: the weight of the next observation's value: gamma^n, or 0 if the episode terminated"""
    next_observations: PyTorchObs
    masks: Tensor | None = None
    """Bool [B, D], True where a class may be chosen; None if all may"""
    next_masks: Tensor | None = None
    """The masks of the next observations, bool [B, D]"""
    weights: Tensor | None = None
    """[B]: the weight of each transition in the critics' loss; None if all are 1"""

    @classmethod
    def from_replay(
        cls, samples: Any, codec: ActionCodec, gamma: float, stored_masks: StoredMasks | None = None
    ) -> Batch:
        """Converts the samples of any SB3 replay buffer.

        :param samples: ``ReplayBufferSamples``, ``DictReplayBufferSamples`` or ``PrioritizedSamples``
        :param codec: of the environment's actions
        :param gamma: the discount of one step, for samples that have no ``discounts``
        :param stored_masks: separates masks from observations, if the buffer stores masks
        """
        discounts = gamma if samples.discounts is None else samples.discounts
        observations, next_observations, masks, next_masks = samples.observations, samples.next_observations, None, None
        if stored_masks is not None:
            observations, masks = stored_masks.split(observations)
            next_observations, next_masks = stored_masks.split(next_observations)
        return cls(
            observations=observations,
            actions=codec.encode(samples.actions),
            rewards=samples.rewards.reshape(-1),
            discounts=(discounts * (1.0 - samples.dones)).reshape(-1),
            next_observations=next_observations,
            masks=masks,
            next_masks=next_masks,
            weights=getattr(samples, "weights", None),
        )
