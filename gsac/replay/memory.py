"""Stores transitions with the action masks of both states, and samples batches of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from gsac.replay.batch import Batch
from gsac.replay.masks import StoredMasks
from gsac.replay.prioritized import PrioritizedReplayBuffer
from gsac.spaces.codec import ActionCodec


class Sampled(NamedTuple):
    """A batch, and its places in the replay buffer."""

    batch: Batch
    indices: np.ndarray | None
    """The places of the batch in a prioritised buffer, for :meth:`ReplayMemory.reprioritise` [B]; None in others."""


class ReplayMemory:
    """Adds transitions to a replay buffer of any class of SB3, with action masks if the environment has them, and samples it.

    :param codec: of the actions
    :param observation_space: of the environment, without masks
    """

    def __init__(self, codec: ActionCodec, observation_space: spaces.Space[Any]) -> None:
        self.codec = codec
        self.mask_layout = StoredMasks(observation_space, codec.groups.flat_size)
        self._buffer: ReplayBuffer | None = None

    @property
    def buffer(self) -> ReplayBuffer | None:
        """The replay buffer. Another one may be assigned at any time, with masks or without."""
        return self._buffer

    @buffer.setter
    def buffer(self, buffer: ReplayBuffer | None) -> None:
        self._buffer = buffer
        self.stores_masks = buffer is not None and buffer.observation_space == self.mask_layout.space

    @buffer.deleter
    def buffer(self) -> None:
        del self._buffer

    def make_room_for_masks(self, make_buffer: Callable[[], ReplayBuffer]) -> None:
        """Replaces an empty buffer without masks by one with masks.

        :param make_buffer: makes an empty buffer of the space ``mask_layout.space``
        :raises ValueError: the buffer holds transitions without masks
        """
        if self.stores_masks:
            return
        if self._buffer is not None and self._buffer.size() > 0:
            raise ValueError(
                f"The replay buffer holds {self._buffer.size()} transitions without masks, and the "
                "environment has them: make a new model for it, or pass use_masking=False to ignore them."
            )
        self.buffer = None  # frees its memory before the new one is allocated
        self.buffer = make_buffer()

    def writer(self, buffer: ReplayBuffer, masks: np.ndarray, next_masks: np.ndarray) -> Any:
        """Returns an object with the ``add()`` of a replay buffer, which adds transitions to ``buffer`` with these masks.

        :param masks: of the observations, bool [n_envs, D]
        :param next_masks: of the next observations, bool [n_envs, D]
        """
        return _WriterWithMasks(buffer, self.mask_layout, masks, next_masks)

    def sample(self, batch_size: int, gamma: float, vec_normalize: Any = None) -> Sampled:
        """Draws transitions.

        :param gamma: discount of a step, for buffers whose samples have no discounts
        :param vec_normalize: SB3's ``VecNormalize``, if one normalises observations and rewards
        """
        assert self._buffer is not None
        layout = self.mask_layout if self.stores_masks else None
        if layout is not None:
            vec_normalize = layout.normaliser(vec_normalize)
        samples = self._buffer.sample(batch_size, env=vec_normalize)
        return Sampled(Batch.from_replay(samples, self.codec, gamma, layout), getattr(samples, "indices", None))

    def reprioritise(self, sampled: Sampled, td_errors: torch.Tensor | None) -> None:
        """Updates the priorities of a prioritised buffer, for which the TD errors are read from the device. Else does nothing.

        :param td_errors: absolute [B]
        """
        if isinstance(self._buffer, PrioritizedReplayBuffer):
            assert sampled.indices is not None
            assert td_errors is not None
            self._buffer.update_priorities(sampled.indices, td_errors.cpu().numpy())

    def truncate_last_episodes(self) -> None:
        """Marks the newest transition of each environment as truncated. Call it when environments are reset from outside."""
        buffer = self._buffer
        if buffer is None or buffer.size() == 0:
            return
        last = (buffer.pos - 1) % buffer.buffer_size
        if isinstance(buffer, HerReplayBuffer):
            buffer.truncate_last_trajectory()
        elif buffer.optimize_memory_usage:
            buffer.dones[last] = True
        else:
            # True where it was, and where the episode went on; in arithmetic that arrays and tensors share
            buffer.timeouts[last] = 1 - buffer.dones[last] * (1 - buffer.timeouts[last])


class _WriterWithMasks:
    """Joins masks to the observations of a transition, and adds it to a replay buffer."""

    def __init__(self, buffer: ReplayBuffer, layout: StoredMasks, masks: np.ndarray, next_masks: np.ndarray) -> None:
        self.buffer, self.layout, self.masks, self.next_masks = buffer, layout, masks, next_masks

    def add(self, obs: Any, next_obs: Any, *transition: Any) -> None:
        self.buffer.add(self.layout.join(obs, self.masks), self.layout.join(next_obs, self.next_masks), *transition)
