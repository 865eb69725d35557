"""The only door between a replay buffer and the maths."""

from __future__ import annotations

from typing import Any, NamedTuple

from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from gsac.replay.masks import StoredMasks
from gsac.spaces.codec import ActionCodec


class Batch(NamedTuple):
    """Transitions, as the losses want them."""

    observations: PyTorchObs
    actions: Tensor
    """Flat one-hots [B, D]"""
    rewards: Tensor
    """[B]; for n-step samples the discounted sum over the steps"""
    discounts: Tensor
    """[B]: what the value of the next observation counts, gamma^n, or 0 where the episode terminated"""
    next_observations: PyTorchObs
    masks: Tensor | None = None
    """What is allowed, bool [B, D]; everything if None"""
    next_masks: Tensor | None = None
    weights: Tensor | None = None
    """[B]: what each transition counts in the critics' loss; None for the same"""

    @classmethod
    def from_replay(
        cls, samples: Any, codec: ActionCodec, gamma: float, stored_masks: StoredMasks | None = None
    ) -> Batch:
        """From the samples of any SB3 replay buffer.

        :param samples: ``ReplayBufferSamples``, ``DictReplayBufferSamples`` or ``PrioritizedSamples``
        :param gamma: the discount of one step, where the samples bring none of their own
        :param stored_masks: how the observations hold masks, if they do
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
