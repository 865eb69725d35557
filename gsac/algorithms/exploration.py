"""How actions are chosen in training: samples of the policy, whose noise can last, and now and then any action."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback

from gsac.algorithms.masking import MaskedActions
from gsac.algorithms.parsing import check_schedule, is_probability
from gsac.functional.relaxation import gumbel_like
from gsac.schedules import Schedule


class Exploration(MaskedActions):
    """Acts in training by argmax(logits + noise), with noise [n_envs, D] that lasts ``noise_duration`` steps on average.

    Each step it ends with probability 1 / ``noise_duration``, and with every episode. An action drawn with fresh noise at
    each step dithers: where 25 steps of the same action in a row are needed and its probability is 0.9, one attempt in
    fourteen succeeds. Under noise that is kept, the policy acts as a deterministic one does, and changes its mind only
    where its logits do. Dabney et al. 2020, https://arxiv.org/abs/2006.01782, let random actions last instead.

    With probability ``epsilon``, a step's action is drawn uniformly from those that are allowed. The noise cannot bring
    back an action that the policy has given up: where values differ by much more than the entropy coefficient, its
    probability is 0 in effect, nothing is learned about it any more, and the critics' guess stays what it was.

    Off-policy learning may act as it likes, so nothing has to be corrected for either; but returns of several steps count
    the steps as they were, whoever chose them.
    """

    noise_duration: float
    epsilon: float | str | Schedule
    _epsilon_schedule: Schedule
    _noise: torch.Tensor | None = None
    """Of the last actions [n_envs, D]; None before the first and with a duration of 1."""
    _ended: np.ndarray | None = None
    """Where the last step ended an episode. [n_envs]"""

    def _check_exploration(self) -> None:
        self._epsilon_schedule = check_schedule(
            "epsilon", self.epsilon, "a number within [0, 1], or a schedule of such", is_probability, 0.1
        )

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
        warm_up = self.num_timesteps < learning_starts
        if warm_up or self.noise_duration == 1:
            actions, _ = super()._sample_action(learning_starts, action_noise, n_envs)
        else:
            assert self._last_obs is not None
            self._noise = self._next_noise(n_envs)
            actions, _ = self.policy.predict(self._last_obs, action_masks=self._last_masks, noise=self._noise)
        if self.epsilon != 0 and not warm_up:
            epsilon = self._value_at(self._epsilon_schedule)
            self.logger.record("rollout/epsilon", epsilon)
            drawn = np.random.random(n_envs) < epsilon
            if drawn.any():
                actions[drawn] = self._uniform_actions(n_envs)[drawn]
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
