"""Stores action masks as a part of the observations, so that every replay buffer can hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

MASK_KEY = "__action_masks__"

Observations = Any
"""An array, or a dictionary of arrays."""


class StoredMasks:
    """Joins masks to observations, and splits them again.

    A dictionary of observations gets one more entry. Arrays are flattened, and the mask's zeros and ones are appended in
    the same type. A buffer treats the masks as it treats the observations: n-step samples bring the mask of the last
    state, and hindsight goals leave it unchanged.

    :param observation_space: of the environment
    :param n_columns: D, the length of a mask
    """

    def __init__(self, observation_space: spaces.Space[Any], n_columns: int) -> None:
        self.n_columns = n_columns
        self.space: spaces.Space[Any]
        if isinstance(observation_space, spaces.Dict):
            masks = spaces.MultiBinary(n_columns)
            self.space = spaces.Dict({**observation_space.spaces, MASK_KEY: masks})
            self.shape: tuple[int, ...] | None = None
        else:
            shape = get_obs_shape(observation_space)
            assert isinstance(shape, tuple)
            self.shape = shape
            kind: Any = observation_space.dtype
            size = int(np.prod(shape)) + n_columns
            low, high = (-np.inf, np.inf) if np.issubdtype(kind, np.floating) else (0, 1)
            self.space = spaces.Box(low, high, (size,), dtype=kind)

    def join(self, observations: Observations, masks: np.ndarray) -> Observations:
        """Joins for the buffer: [n, ...] and bool [n, D] -> observations of ``space``."""
        if self.shape is None:
            return {**observations, MASK_KEY: masks.astype(np.int8)}
        rows = np.asarray(observations).reshape(len(masks), -1)
        return np.concatenate([rows, masks.astype(rows.dtype)], axis=1)

    def split(self, stored: PyTorchObs) -> tuple[PyTorchObs, Tensor]:
        """Splits samples of the buffer into observations [B, ...] and masks, bool [B, D]."""
        if isinstance(stored, dict):
            return {key: value for key, value in stored.items() if key != MASK_KEY}, stored[MASK_KEY] > 0
        assert self.shape is not None
        return stored[:, : -self.n_columns].reshape(-1, *self.shape), stored[:, -self.n_columns :] > 0

    def normaliser(self, env: Any) -> Any:
        """Adapts ``env``, a ``VecNormalize``, to stored observations: masks are left as they are. None stays None."""
        return None if env is None else _Normaliser(self, env)


class _Normaliser:
    def __init__(self, stored: StoredMasks, env: Any) -> None:
        self.stored, self.env = stored, env

    def normalize_obs(self, stored: Observations) -> Observations:
        if isinstance(stored, dict):
            return self.env.normalize_obs(stored)  # which leaves keys alone that it does not know
        assert self.stored.shape is not None
        rows, masks = stored[:, : -self.stored.n_columns], stored[:, -self.stored.n_columns :]
        observations = self.env.normalize_obs(rows.reshape(-1, *self.stored.shape))
        return self.stored.join(observations.astype(np.float32), masks > 0)

    def normalize_reward(self, rewards: np.ndarray) -> np.ndarray:
        return self.env.normalize_reward(rewards)


def all_allowed(n: int, n_columns: int) -> np.ndarray:
    """Masks that allow everything, bool [n, D]."""
    return np.ones((n, n_columns), dtype=bool)
