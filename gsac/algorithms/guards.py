"""Stops training on NaN, infinity, or an observation outside of its space, with an error that says where and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces


class ExperienceGuard:
    """Checks the environments' rewards and observations before they are stored.

    :param observation_space: of the environments
    """

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        self.observation_space = observation_space

    def check_transition(
        self,
        step: int,
        new_observation: np.ndarray | dict[str, np.ndarray],
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Refuses NaN and infinity in rewards and observations, and classes that the observation space does not have.

        :param step: of the training, for the error
        :param new_observation: [n_envs, ...]
        :param rewards: [n_envs]
        :param dones: [n_envs]
        :param infos: of each environment; its ``terminal_observation`` is checked where an episode ended
        :raises ValueError: says which environment gave what, and at which step
        """
        self.check_rewards(step, rewards)
        self.check_observation(step, new_observation)
        for i in np.flatnonzero(dones):
            if infos[i].get("terminal_observation") is not None:
                self.check_observation(step, infos[i]["terminal_observation"], env=int(i))

    def check_rewards(self, step: int, rewards: np.ndarray) -> None:
        """Refuses NaN and infinity in rewards.

        :param rewards: [n_envs]
        :raises ValueError: says which environment gave what, and at which step
        """
        _check_finite(step, "a reward", np.asarray(rewards))

    def check_observation(
        self, step: int, observation: np.ndarray | dict[str, np.ndarray], env: int | None = None
    ) -> None:
        """Refuses NaN, infinity, and classes that the observation space does not have.

        :param observation: of all environments [n_envs, ...], or [...] of the environment ``env``
        :raises ValueError: says which environment gave what, and at which step
        """
        if isinstance(observation, dict):
            assert isinstance(self.observation_space, spaces.Dict)
            for name, values in observation.items():
                _check_values(step, f"the observation {name!r}", values, self.observation_space[name], env)
        else:
            _check_values(step, "an observation", observation, self.observation_space, env)

    @contextmanager
    def shapes_must_fit(self, step: int) -> Iterator[None]:
        """Explains the error that NumPy raises where an observation has another shape than its space.

        :param step: of the training, for the error
        :raises ValueError: an observation that an array of the space's shape cannot take
        """
        try:
            yield
        except ValueError as error:
            if "could not broadcast" not in str(error):
                raise
            raise ValueError(
                f"At step {step}, the environment gave an observation that does not fit its "
                f"observation_space, {self.observation_space}: {error}. Correct the environment's observation or its "
                "space."
            ) from error


def _check_values(step: int, what: str, values: np.ndarray, space: spaces.Space[Any], env: int | None) -> None:
    values = np.asarray(values)
    _check_finite(step, what, values, env)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        n = space.n if isinstance(space, spaces.Discrete) else space.nvec
        _check_all(step, what, values, (values >= space.start) & (values < space.start + n), env, f", not in {space}")


def _check_finite(step: int, what: str, values: np.ndarray, env: int | None = None) -> None:
    if values.dtype.kind == "f":
        _check_all(step, what, values, np.isfinite(values), env)


def _check_all(step: int, what: str, values: np.ndarray, allowed: np.ndarray, env: int | None, why: str = "") -> None:
    """Raises an error for the first value that is not allowed.

    :param values: [n_envs, ...], or [...] of the environment ``env``
    :param allowed: bool, of the same shape as ``values``
    """
    if allowed.all():
        return
    place = np.argwhere(~allowed)[0].tolist()
    value = values[tuple(place)]
    if env is None:
        env, *place = place
    entry = f" in entry {place}" if place else ""
    raise ValueError(
        f"At step {step}, environment {env} gave {what} with {value}{entry}{why}. Nothing was learned from "
        "it: correct the environment, and go on from the last checkpoint if there is one."
    )
