"""Exploration whose noise lasts: the Gumbel noise that picks an action is kept for a while."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback

from gsac.algorithms.masking import MaskedActions
from gsac.functional.relaxation import gumbel_like


class HeldNoise(MaskedActions):
    """Acts in training by argmax(logits + noise), with noise [n_envs, D] that lasts ``noise_duration`` steps on average.

    Each step it ends with probability 1 / ``noise_duration``, and with every episode. An action drawn with fresh noise at
    each step dithers: where 25 steps of the same action in a row are needed and its probability is 0.9, one attempt in
    fourteen succeeds. Under noise that is kept, the policy acts as a deterministic one does, and changes its mind only
    where its logits do. Off-policy learning may act as it likes, so nothing has to be corrected for it.
    """

    noise_duration: float
    _noise: torch.Tensor | None = None
    """Of the last actions [n_envs, D]; None before the first and with a duration of 1."""
    _ended: np.ndarray | None = None
    """Where the last step ended an episode. [n_envs]"""

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if reset_num_timesteps or self._last_obs is None:
            self._noise = None  # new episodes begin
        ready: tuple[int, BaseCallback] = super()._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        return ready

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.noise_duration == 1 or self.num_timesteps < learning_starts:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        assert self._last_obs is not None
        self._noise = self._next_noise(n_envs)
        actions, _ = self.policy.predict(self._last_obs, action_masks=self._last_masks, noise=self._noise)
        return actions, actions

    def _next_noise(self, n_envs: int) -> torch.Tensor:
        fresh = gumbel_like(torch.zeros(n_envs, self._codec.groups.flat_size))
        if self._noise is None:
            return fresh
        ends = torch.rand(n_envs) < 1 / self.noise_duration
        if self._ended is not None:
            ends |= torch.from_numpy(self._ended)
        return torch.where(ends[:, None], fresh, self._noise)

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        self._ended = dones.astype(bool)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
