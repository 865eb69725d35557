"""What stops training before it goes wrong unseen: numbers that are none, and observations that do not fit their space."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq
from stable_baselines3.common.vec_env import VecEnv

from gsac.learning.metrics import RunningMean

UPDATES_BETWEEN_CHECKS = 200
"""On a GPU, of the losses: a check waits for the device."""


class GuardedExperience(BaseAlgorithm):
    """Refuses rewards and observations that are none, and says where and at which step. To be named before SB3's own class."""

    def _check_observation(self, observation: np.ndarray | dict[str, np.ndarray], env: int | None = None) -> None:
        """
        :param observation: of all environments, or of the environment ``env``
        :raises ValueError: a number in it is none, or a class that its space does not have
        """
        if isinstance(observation, dict):
            assert isinstance(self.observation_space, spaces.Dict)
            for name, values in observation.items():
                self._check_values(f"the observation {name!r}", values, self.observation_space[name], env)
        else:
            self._check_values("an observation", observation, self.observation_space, env)

    def _check_values(self, what: str, values: np.ndarray, space: spaces.Space[Any], env: int | None) -> None:
        self._check_finite(what, values, env)
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            classes = np.asarray(values)
            n = space.n if isinstance(space, spaces.Discrete) else space.nvec
            self._check_all(
                what, classes, (classes >= space.start) & (classes < space.start + n), env, f", not in {space}"
            )

    def _check_finite(self, what: str, values: np.ndarray, env: int | None = None) -> None:
        """:raises ValueError: one of them is infinite or not a number"""
        values = np.asarray(values)
        if values.dtype.kind == "f":
            self._check_all(what, values, np.isfinite(values), env)

    def _check_all(self, what: str, values: np.ndarray, holds: np.ndarray, env: int | None, why: str = "") -> None:
        """
        :param values: [n_envs, ...], or [...] of the environment ``env``
        :param holds: for each of them, of the same shape
        """
        if holds.all():
            return
        place = np.argwhere(~holds)[0].tolist()
        value = values[tuple(place)]
        if env is None:
            env, *place = place
        entry = f" in entry {place}" if place else ""
        raise ValueError(
            f"At step {self.num_timesteps}, environment {env} gave {what} with {value}{entry}{why}. Nothing was learned from "
            "it: correct the environment, and go on from the last checkpoint if there is one."
        )


class GuardedTraining(GuardedExperience, OffPolicyAlgorithm):
    """Stops with an error that says what is wrong, where, and at which step. To be named before SB3's own class."""

    _metrics: RunningMean
    _updates_checked = 0

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        if self.env is None:
            raise ValueError(
                "learn() needs an environment, and this model has none: pass one to load(..., env=env), or call "
                "set_env(env) first."
            )
        with self._observations_must_fit(ahead=0):
            ready = super()._setup_learn(*args, **kwargs)
        assert self._last_obs is not None
        self._check_observation(self._last_obs)
        return ready

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        *args: Any,
        **kwargs: Any,
    ) -> RolloutReturn:
        """As SB3's, with a clear error where the environment's observations do not fit their space.

        :raises ValueError: an observation of another shape
        """
        with self._observations_must_fit(ahead=env.num_envs):
            return super().collect_rollouts(env, callback, train_freq, replay_buffer, *args, **kwargs)

    @contextmanager
    def _observations_must_fit(self, ahead: int) -> Iterator[None]:
        """
        :param ahead: steps that are not counted yet when an observation comes
        :raises ValueError: an observation that an array of the space's shape cannot take
        """
        try:
            yield
        except ValueError as error:
            if "could not broadcast" not in str(error):
                raise
            raise ValueError(
                f"At step {self.num_timesteps + ahead}, the environment gave an observation that does not fit its "
                f"observation_space, {self.observation_space}: {error}. Correct the environment's observation or its "
                "space."
            ) from error

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        self._check_finite("a reward", reward)
        self._check_observation(new_obs)
        for i in np.flatnonzero(dones):
            if infos[i].get("terminal_observation") is not None:
                self._check_observation(infos[i]["terminal_observation"], env=int(i))
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def check_losses(self, every: int = 1) -> None:
        """Whether all losses since the last log are numbers; at most after so many updates.

        :raises ValueError: one of them is not, and then neither are the weights
        """
        if self._n_updates - self._updates_checked < every:
            return
        not_finite = self._metrics.not_finite()
        if not_finite:
            raise ValueError(
                f"{' and '.join(not_finite)} became infinite or not a number between the updates "
                f"{self._updates_checked} and {self._n_updates}, at step {self.num_timesteps}, and so did the weights. "
                "Go on from the last checkpoint with a lower learning_rate, or with smaller rewards."
            )
        self._updates_checked = self._n_updates
