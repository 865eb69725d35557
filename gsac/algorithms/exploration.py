"""Chooses actions in training: samples of the policy, whose noise is kept for several steps, and some uniform actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from gsac.functional.categorical import FactorisedCategorical
from gsac.functional.relaxation import gumbel_like
from gsac.networks.policies import GSACPolicy
from gsac.spaces.codec import ActionCodec


class Explorer:
    """Acts by argmax(logits + noise), with Gumbel noise [n_envs, D] that is kept for ``noise_duration`` steps on average.

    At each step the noise is drawn anew with probability 1 / ``noise_duration``, and at the start of each episode. With
    fresh noise at each step, a policy dithers: where 25 steps of the same action in a row are needed and its probability is 0.9, one
    attempt in fourteen succeeds. With noise that lasts, it acts as a deterministic one does, and changes its mind only
    where its logits do. Dabney et al. 2020, https://arxiv.org/abs/2006.01782, let random actions last instead.

    Uniform actions, with probability epsilon, bring back what the noise cannot: where values differ by much more than the
    entropy coefficient, an action's probability is 0 in effect, and the critics learn nothing more about it.

    Learning is off-policy, so neither needs a correction; but n-step returns count the steps as they were taken.

    :param action_space: of the environment; its generator draws uniform actions
    """

    noise: torch.Tensor | None
    """The Gumbel noise of the last actions [n_envs, D]; None before the first, and always with a duration of 1."""
    ended: np.ndarray | None
    """Whether the last step ended the episode of each environment, bool [n_envs]; None before the first step."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space
        self.codec = ActionCodec(action_space)
        self.noise, self.ended = None, None

    def restart(self) -> None:
        """Drops the noise; call it when all environments start new episodes."""
        self.noise = None

    def observe(self, dones: np.ndarray) -> None:
        """Notes where the last step ended an episode. [n_envs]"""
        self.ended = dones.astype(bool)

    def uniform(self, n_envs: int, masks: np.ndarray | None = None) -> np.ndarray:
        """Draws an action for each environment, all of the allowed ones with equal probability.

        :param masks: bool [n_envs, D]; everything is allowed if None
        """
        if masks is None:
            return np.array([self.action_space.sample() for _ in range(n_envs)])
        uniform = FactorisedCategorical(
            torch.zeros(n_envs, self.codec.groups.flat_size),
            self.codec.groups,
            torch.as_tensor(masks, dtype=torch.bool),
        )
        return self.codec.decode(uniform.sample_classes()).numpy()

    def act(
        self,
        policy: GSACPolicy,
        observation: np.ndarray | dict[str, np.ndarray],
        n_envs: int,
        noise_duration: float = 1,
        masks: np.ndarray | None = None,
        epsilon: float | None = None,
    ) -> np.ndarray:
        """Samples the policy, and replaces each action by a uniform one with probability ``epsilon``.

        :param observation: of all environments [n_envs, ...]
        :param noise_duration: mean number of steps for which noise is kept, at least 1; 1 draws fresh noise at each step
        :param masks: bool [n_envs, D]; everything is allowed if None
        :param epsilon: within [0, 1]; None draws no random numbers for it
        """
        self.noise = self._next_noise(n_envs, noise_duration) if noise_duration > 1 else None
        actions, _ = policy.predict(observation, action_masks=masks, noise=self.noise)
        if epsilon is not None:
            replaced = np.random.random(n_envs) < epsilon
            if replaced.any():
                actions[replaced] = self.uniform(n_envs, masks)[replaced]
        return actions

    def _next_noise(self, n_envs: int, noise_duration: float) -> torch.Tensor:
        fresh = gumbel_like(torch.zeros(n_envs, self.codec.groups.flat_size))
        if self.noise is None:
            return fresh
        ends = torch.rand(n_envs) < 1 / noise_duration
        if self.ended is not None:
            ends |= torch.from_numpy(self.ended)
        return torch.where(ends[:, None], fresh, self.noise)
