"""Wrappers that discretise actions and report episodes, and a function that applies wrappers named in plain data."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor

from gsac.checks import check_number

WARN_AFTER_STEPS = 10_000
"""The length of an episode without a limit at which a warning says that it may never end."""

EXAMPLE = '[{"gsac.envs.wrappers.DiscretizeAction": {"bins": 7}}]'


class DiscretizeAction(gymnasium.ActionWrapper, RecordConstructorArgs):
    """Cuts each entry of a bounded ``Box`` action into evenly spaced values, both ends included.

    The new space is ``MultiDiscrete`` with one choice for each entry, also if there is only one. An odd number of bins
    includes the middle, often the action that does nothing. A ``Box`` of several dimensions is flattened row by row.
    (``gymnasium.wrappers.DiscretizeAction`` takes the middles of intervals, which never reach the ends.)
    Tang & Agrawal 2020, https://arxiv.org/abs/1901.10500

    >>> env = DiscretizeAction(gymnasium.make("Pendulum-v1"), bins=5)
    >>> env.action_space, env.values[0].tolist()
    (MultiDiscrete([5]), [-2.0, -1.0, 0.0, 1.0, 2.0])
    >>> env.action([4]), env.reverse_action([0.6])
    (array([2.], dtype=float32), array([3]))

    :param env: with a bounded ``Box`` of floats as its action space
    :param bins: how many values, at least 2: one number for all entries, or one for each. More are finer and slower to
        learn
    :raises TypeError: another action space, or bins that are not whole numbers
    :raises ValueError: an entry without bounds, bins below 2, or not one number for each entry
    """

    def __init__(self, env: gymnasium.Env, bins: int | Sequence[int]) -> None:
        box = env.action_space
        if not isinstance(box, spaces.Box) or not np.issubdtype(box.dtype, np.floating):
            raise TypeError(
                f"DiscretizeAction cannot cut the action space {box}: it takes a Box of fractional numbers. Leave the "
                "wrapper out where the actions are classes already."
            )
        low, high = box.low.ravel(), box.high.ravel()  # in C order
        unbounded = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
        if len(unbounded) > 0:
            raise ValueError(
                f"DiscretizeAction cannot cut the action space {box}: entry {unbounded[0]} has no bound. Give it bounds "
                "first, as in gymnasium.wrappers.RescaleAction or TransformAction(env, lambda action: action, "
                f"gymnasium.spaces.Box(-1, 1, {box.shape}))."
            )
        numbers = _numbers_of_bins(bins, box.shape, len(low))
        RecordConstructorArgs.__init__(self, bins=int(bins) if isinstance(bins, int | np.integer) else numbers)
        gymnasium.ActionWrapper.__init__(self, env)
        self.action_space = spaces.MultiDiscrete(numbers)
        self.values = tuple(_evenly_spaced(*entry) for entry in zip(low, high, numbers, strict=True))
        """The value of each class, an array for each entry, in the ``Box``'s type."""
        self._box = box

    def action(self, action: Any) -> np.ndarray:
        """Classes, int [n] -> the ``Box``'s action

        :raises ValueError: not an action of :attr:`action_space`
        """
        if not self.action_space.contains(action):
            raise ValueError(
                f"action={action!r} is not in {self.action_space}: pass a class for each entry, counted from 0."
            )
        chosen = [values[i] for values, i in zip(self.values, action, strict=True)]
        return np.array(chosen, self._box.dtype).reshape(self._box.shape)

    def reverse_action(self, action: Any) -> np.ndarray:
        """The ``Box``'s action -> the classes with the nearest values, int64 [n]; beyond the bounds the first or last."""
        entries = np.reshape(action, len(self.values)).astype(float)
        return np.array([np.abs(values - x).argmin() for values, x in zip(self.values, entries, strict=True)])


def _numbers_of_bins(bins: int | Sequence[int], shape: tuple[int, ...], n: int) -> list[int]:
    """The number of bins of each of the ``n`` entries."""
    numbers: list[Any] = list(bins) if isinstance(bins, Sequence | np.ndarray) and np.ndim(bins) > 0 else [bins] * n
    if len(numbers) != n:
        raise ValueError(
            f"bins={bins!r} has {len(numbers)} numbers, and an action of the shape {shape} has {n} entries: pass one "
            "number for each, or one for all, such as bins=7."
        )
    for i, number in enumerate(numbers):
        name = f"bins[{i}]" if number is not bins else "bins"
        check_number(name, number, "a whole number of at least 2, both ends", lambda number: number >= 2, 7)
    return [int(number) for number in numbers]


def _evenly_spaced(low: np.floating, high: np.floating, number: int) -> np.ndarray:
    """``number`` values from ``low`` to ``high`` in their type, with exact ends and middle. [number]"""
    middle, half = float(low) / 2 + float(high) / 2, float(high) / 2 - float(low) / 2
    from_the_middle = np.arange(1 - number, number, 2) / (number - 1)
    values = (middle + half * from_the_middle).astype(low.dtype)
    values[0], values[-1] = low, high
    return values


class EpisodeStatistics(gymnasium.Wrapper):
    """Writes ``info["episode"]`` also for episodes that a wrapper truncates, and warns of an episode that may not end.

    SB3's ``Monitor`` writes it when the environment ends an episode. It stands below the wrappers, so that returns are the
    environment's own, and does not see that a wrapper above it, such as a ``TimeLimit``, truncates an episode;
    ``evaluate_policy``, which counts episodes by ``info["episode"]``, would then wait forever. The same happens if nothing
    limits an episode and the policy never ends it, so a warning says so once, after :data:`WARN_AFTER_STEPS` steps.

    :param env: a ``Monitor``, perhaps in other wrappers
    :raises ValueError: there is no ``Monitor``
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        monitor = unwrap_wrapper(env, Monitor)
        if not isinstance(monitor, Monitor):
            raise ValueError(f"{env} has no Monitor: wrap Monitor(env), as stable_baselines3's make_vec_env does.")
        self._monitor = monitor
        self._warned = False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step; at the end of each episode ``info["episode"]`` has its return, length and seconds."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        rewards = self._monitor.rewards
        if (terminated or truncated) and "episode" not in info:
            seconds = time.time() - self._monitor.t_start
            info["episode"] = {"r": round(sum(rewards), 6), "l": len(rewards), "t": round(seconds, 6)}
        if (
            len(rewards) == WARN_AFTER_STEPS
            and not self._warned
            and (self.spec is None or self.spec.max_episode_steps is None)
        ):
            self._warned = True
            warnings.warn(
                f"An episode of {self.spec.id if self.spec else self.unwrapped} has gone on for {WARN_AFTER_STEPS:,} steps, and nothing limits "
                "it. An evaluation waits until its episodes end, and may never be done. To limit them, wrap the environment in "
                "gymnasium.wrappers.TimeLimit, in gsac train "
                """--env-wrapper '{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 1000}}'.""",
                stacklevel=2,
            )
        return observation, reward, terminated, truncated, info


def wrap(env: gymnasium.Env, wrappers: Any) -> gymnasium.Env:
    """Applies the wrappers that plain data name, the first one innermost.

    :param wrappers: as ``env_wrapper`` in RL Baselines3 Zoo: a name ``"module.Class"``, a dictionary from the name to
        the constructor's arguments, a list of such, or None
    :raises ValueError: another form, or a name that does not belong to a wrapper
    :raises Exception: what a wrapper's constructor raises
    """
    for name, arguments in _names_and_arguments(wrappers):
        env = _wrapper_class(name)(env, **arguments)
    return env


def _names_and_arguments(wrappers: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of each wrapper, and the arguments of its constructor."""
    for wrapper in [] if wrappers is None else wrappers if isinstance(wrappers, list) else [wrappers]:
        if isinstance(wrapper, str):
            yield wrapper, {}
            continue
        if isinstance(wrapper, dict) and len(wrapper) == 1:
            ((name, arguments),) = wrapper.items()
            if isinstance(name, str) and isinstance(arguments, dict | None):
                yield name, arguments or {}
                continue
        raise ValueError(f"env_wrapper: {wrapper!r} names no wrapper with its arguments. Write it as in {EXAMPLE}.")


def _wrapper_class(name: str) -> type[gymnasium.Wrapper]:
    module, _, class_name = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"env_wrapper: {name!r} cannot be imported ({error}). Write it as in {EXAMPLE}.") from None
    if not (isinstance(found, type) and issubclass(found, gymnasium.Wrapper)):
        raise ValueError(
            f"env_wrapper: {name!r} is not a gymnasium.Wrapper. Name a class that is one, as in {EXAMPLE}."
        )
    return found
