"""Prioritised replay: transitions with a large TD error are drawn more often.

Schaul et al. 2016, Prioritized Experience Replay, https://arxiv.org/abs/1511.05952
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from gsac.checks import check_number, is_above_0, is_probability
from gsac.replay.n_step import check_steps
from gsac.replay.sum_tree import SumTree
from gsac.schedules import Schedule, check_schedule

BETA, EXAMPLE_BETA = "a number within [0, 1], or a schedule of such", "'linear:0.4:1'"
"""The allowed values of ``beta`` in words, and an example, for :func:`check_schedule`."""


class PrioritizedSamples(NamedTuple):
    """SB3's fields, importance weights and indices."""

    observations: PyTorchObs
    actions: Tensor
    next_observations: PyTorchObs
    dones: Tensor
    """[B, 1]: 1 if the episode terminated, 0 if a time limit truncated it"""
    rewards: Tensor
    """[B, 1]; with n-step returns the discounted sum"""
    discounts: Tensor | None
    """[B, 1]: gamma^m for a sum of m rewards; None if ``n_steps`` is 1"""
    weights: Tensor
    """[B]: importance weights, divided by the greatest of the batch"""
    indices: np.ndarray
    """[B]: to be passed to :meth:`PrioritizedReplayBuffer.update_priorities`"""


class PrioritizedReplayBuffer(ReplayBuffer):
    """Proportional prioritised replay, with 1-step or n-step returns.

    A transition with priority p = abs(TD error) + epsilon is drawn with a probability P proportional to p^alpha. Its
    weight in the critics' loss is (N * P)^-beta, divided by the greatest of the batch; with beta = 1 the expected
    gradient is that of uniform replay, up to this factor. New transitions get the greatest priority so far, so that each
    is soon drawn. The algorithm returns the TD errors to :meth:`update_priorities`.
    Schaul et al. 2016, https://arxiv.org/abs/1511.05952

    Pass it to GSAC as ``replay_buffer_class``; GSAC passes on its ``n_steps`` and ``gamma``, and sets ``beta`` by its
    schedule. SB3's own algorithms return no TD errors.

    :param buffer_size: transitions, over all environments
    :param observation_space: not a ``Dict``, which :class:`PrioritizedDictReplayBuffer` takes
    :param action_space: of the environment
    :param device: of the samples
    :param n_envs: environments; each transition of each has its own priority
    :param optimize_memory_usage: store each observation once, which halves the memory; only with ``n_steps=1`` and
        ``handle_timeout_termination=False``
    :param handle_timeout_termination: bootstrap from the last observation if a time limit truncated the episode
    :param n_steps: n of n-step returns; as in SB3's ``NStepReplayBuffer``, sums end with the episode or the newest step
    :param gamma: the discount of a step, used if ``n_steps`` is above 1
    :param alpha: exponent of the priorities, within [0, 1]; 0 is uniform replay. Lower it if TD errors are mostly noise
    :param beta: exponent of the importance weights, within [0, 1]: a number, or a schedule that can be pickled; 1 removes
        the bias, lower values let large errors count more at first
    :param epsilon: added to each priority, above 0, so that transitions without an error can still be drawn
    :raises ValueError: an argument out of its range, or two that exclude each other
    :raises TypeError: an argument or an observation space of another kind
    """

    n_steps: int
    gamma: float
    alpha: float
    epsilon: float
    beta_schedule: Schedule
    max_priority: float
    sum_tree: SumTree
    """The weights p^alpha. Step s of environment e has the index s * n_envs + e."""

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_steps: int = 1,
        gamma: float = 0.99,
        alpha: float = 0.6,
        beta: float | str | Schedule = "linear:0.4:1",
        epsilon: float = 1e-6,
    ) -> None:
        if isinstance(observation_space, spaces.Dict) and not isinstance(self, DictReplayBuffer):
            raise TypeError(
                f"{type(self).__name__} stores no Dict observations: pass "
                "replay_buffer_class=PrioritizedDictReplayBuffer."
            )
        check_steps(n_steps, gamma, optimize_memory_usage)
        check_number("alpha", alpha, "a number within [0, 1]", is_probability, 0.6)
        check_number("epsilon", epsilon, "a number above 0", is_above_0, 1e-6)
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage=optimize_memory_usage,
            handle_timeout_termination=handle_timeout_termination,
        )
        self.n_steps, self.gamma = n_steps, gamma
        self.alpha, self.epsilon = alpha, epsilon
        self.beta_schedule = check_schedule("beta", beta, BETA, is_probability, EXAMPLE_BETA)
        self.beta = self.beta_schedule(1.0)
        self.max_priority = 1.0
        self.sum_tree = SumTree(self.buffer_size * n_envs)

    @property
    def beta(self) -> float:
        """The current exponent of the importance weights, within [0, 1]; the algorithm sets it by the schedule."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        check_number("beta", value, BETA, is_probability, EXAMPLE_BETA)
        self._beta = float(value)

    def reset(self) -> None:
        super().reset()
        self.max_priority = 1.0
        self.sum_tree = SumTree(self.sum_tree.size)

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Adds a transition of each environment, as SB3 does, with the greatest priority so far."""
        added = self.pos * self.n_envs + np.arange(self.n_envs)
        super().add(*args, **kwargs)
        self.sum_tree[added] = self.max_priority**self.alpha
        if self.optimize_memory_usage:
            # The newest transition's next observation has overwritten the observation of the oldest transition.
            self.sum_tree[self.pos * self.n_envs + np.arange(self.n_envs)] = 0.0

    def sample(self, batch_size: int, env: Any = None) -> PrioritizedSamples:  # type: ignore[override]
        """Draws transitions in proportion to p^alpha, one from each of ``batch_size`` equal intervals of the total.

        :param env: the ``VecNormalize`` that normalises observations and rewards, if there is one
        :raises ValueError: nothing is stored
        """
        if self.sum_tree.total == 0:
            raise ValueError("There is nothing to sample: add() transitions to the replay buffer first.")
        return self._get_samples(self.sum_tree.draw(batch_size), env)

    def update_priorities(self, indices: np.ndarray, td_errors: np.ndarray) -> None:
        """Sets the priorities of sampled transitions. Those of transitions that cannot be drawn any more stay 0.

        :param indices: of the samples [B]
        :param td_errors: with either sign [B]
        :raises ValueError: an error is NaN or infinite
        """
        priorities = np.abs(np.asarray(td_errors, dtype=np.float64)) + self.epsilon
        if not np.isfinite(priorities).all():
            raise ValueError(
                f"td_errors={td_errors} are not all finite, and cannot be priorities: training has diverged. Try a "
                "smaller learning_rate, or set max_grad_norm."
            )
        valid = self.sum_tree[indices] > 0
        self.sum_tree[indices[valid]] = priorities[valid] ** self.alpha
        self.max_priority = max(self.max_priority, float(priorities.max(initial=0.0)))

    def _get_samples(  # type: ignore[override]
        self, batch_inds: np.ndarray, env: Any = None
    ) -> PrioritizedSamples:
        """The transitions at indices s * n_envs + e for step s of environment e. [B]"""
        steps, envs = np.divmod(batch_inds, self.n_envs)
        last, returns, discounts = self._returns(steps, envs, env)
        if self.optimize_memory_usage:
            next_observations = self._observations(self.observations, (last + 1) % self.buffer_size, envs, env)
        else:
            next_observations = self._observations(self.next_observations, last, envs, env)
        terminated = self.dones[last, envs] * (1 - self.timeouts[last, envs])
        # (N * P)^-beta, divided by the greatest of the batch: N and the sum of all p^alpha cancel.
        powers = self.sum_tree[batch_inds]
        weights = (powers / powers.min()) ** -self.beta
        return PrioritizedSamples(
            observations=self._observations(self.observations, steps, envs, env),
            actions=self.to_torch(self.actions[steps, envs]),
            next_observations=next_observations,
            dones=self.to_torch(terminated[:, None]),
            rewards=self.to_torch(returns[:, None]),
            discounts=None if self.n_steps == 1 else self.to_torch(discounts[:, None]),
            weights=self.to_torch(weights.astype(np.float32)),
            indices=batch_inds,
        )

    def _returns(self, steps: np.ndarray, envs: np.ndarray, env: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The last step in each n-step return, the return, and the discount of the value after it. Each [B]"""
        ahead = np.arange(self.n_steps)
        window = (steps[:, None] + ahead) % self.buffer_size
        newest = (self.pos - 1) % self.buffer_size
        ends = (self.dones[window, envs[:, None]] + self.timeouts[window, envs[:, None]] > 0) | (window == newest)
        counted = np.cumsum(ends, axis=1) - ends == 0  # the step is in the sum if there is no end before it
        rewards = self._normalize_reward(self.rewards[window, envs[:, None]], env)
        powers = self.gamma ** np.arange(self.n_steps + 1, dtype=np.float32)
        n_counted = counted.sum(1)
        last = (steps + n_counted - 1) % self.buffer_size
        return last, (rewards * powers[:-1] * counted).sum(1), powers[n_counted]

    def _observations(
        self, stored: np.ndarray | dict[str, np.ndarray], steps: np.ndarray, envs: np.ndarray, env: Any
    ) -> PyTorchObs:
        if isinstance(stored, dict):
            found = self._normalize_obs({key: values[steps, envs] for key, values in stored.items()}, env)
            assert isinstance(found, dict)
            return {key: self.to_torch(values) for key, values in found.items()}
        found = self._normalize_obs(stored[steps, envs], env)
        assert isinstance(found, np.ndarray)
        return self.to_torch(found)


class PrioritizedDictReplayBuffer(PrioritizedReplayBuffer, DictReplayBuffer):  # type: ignore[misc]
    """:class:`PrioritizedReplayBuffer` for ``Dict`` observations."""
