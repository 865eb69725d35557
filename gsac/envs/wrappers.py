"""Wrappers that give an environment actions with classes, wrappers by their names, and what is told of their episodes."""

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

LONG = 10_000
"""Steps of an episode that make one ask whether it ends."""

EXAMPLE = '[{"gsac.envs.wrappers.DiscretizeAction": {"bins": 7}}]'


class DiscretizeAction(gymnasium.ActionWrapper, RecordConstructorArgs):
    """Cuts each entry of a bounded ``Box`` action into evenly spaced values, both ends included.

    The new space is ``MultiDiscrete``, with one choice for each entry, also where there is only one. With an odd number
    of bins the middle is among the values, which is often the action that does nothing. A ``Box`` of several dimensions
    is read row by row. (``gymnasium.wrappers.DiscretizeAction`` takes the middles of intervals, which never reach the
    ends.) Tang & Agrawal 2020, https://arxiv.org/abs/1901.10500

    >>> env = DiscretizeAction(gymnasium.make("Pendulum-v1"), bins=5)
    >>> env.action_space, env.values[0].tolist()
    (MultiDiscrete([5]), [-2.0, -1.0, 0.0, 1.0, 2.0])
    >>> env.action([4]), env.reverse_action([0.6])
    (array([2.], dtype=float32), array([3]))

    :param env: with a ``Box`` of bounded fractional numbers as its action space
    :param bins: how many values, at least 2: one number, or one for each entry
    :raises TypeError: another action space, or a number of bins that is not a whole one
    :raises ValueError: an entry without bounds, or a number of bins below 2, or not one for each entry
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
        """What each class of each entry stands for, in the ``Box``'s own type."""
        self._box = box

    def action(self, action: Any) -> np.ndarray:
        """Classes, int [n] -> the ``Box``'s action

        :raises ValueError: not such classes
        """
        if not self.action_space.contains(action):
            raise ValueError(
                f"action={action!r} is not in {self.action_space}: pass a class for each entry, counted from 0."
            )
        chosen = [values[i] for values, i in zip(self.values, action, strict=True)]
        return np.array(chosen, self._box.dtype).reshape(self._box.shape)

    def reverse_action(self, action: Any) -> np.ndarray:
        """The ``Box``'s action -> the classes nearest to it, int64 [n]. Outside of the bounds, the ends are nearest."""
        entries = np.reshape(action, len(self.values)).astype(float)
        return np.array([np.abs(values - x).argmin() for values, x in zip(self.values, entries, strict=True)])


def _numbers_of_bins(bins: int | Sequence[int], shape: tuple[int, ...], n: int) -> list[int]:
    """One for each of the ``n`` entries."""
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
    """``number`` values from ``low`` to ``high`` in their type: [number]. Ends and middle are exact."""
    middle, half = float(low) / 2 + float(high) / 2, float(high) / 2 - float(low) / 2
    from_the_middle = np.arange(1 - number, number, 2) / (number - 1)
    values = (middle + half * from_the_middle).astype(low.dtype)
    values[0], values[-1] = low, high
    return values


class ToldEpisodes(gymnasium.Wrapper):
    """Tells of every episode's return, also of one that a wrapper ends before the environment does, and of one without an end.

    SB3's ``Monitor`` tells of an episode by ``info["episode"]`` when the environment ends it. It is below the wrappers, so that
    its returns are the environment's own; but it does not see that, say, a ``TimeLimit`` above it cut an episode off, and
    ``evaluate_policy``, which counts the episodes it is told of, would wait for one forever. It does so, too, where nothing
    limits an episode and the policy goes nowhere; a warning says that after ``LONG`` steps, once.

    :param env: in a ``Monitor``, and perhaps in wrappers around that
    :raises ValueError: no ``Monitor``
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        monitor = unwrap_wrapper(env, Monitor)
        if not isinstance(monitor, Monitor):
            raise ValueError(f"{env} has no Monitor: wrap Monitor(env), as stable_baselines3's make_vec_env does.")
        self._monitor = monitor
        self._warned = False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment, with ``info["episode"]`` at the end of each episode: its return, length and seconds."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        rewards = self._monitor.rewards
        if (terminated or truncated) and "episode" not in info:
            seconds = time.time() - self._monitor.t_start
            info["episode"] = {"r": round(sum(rewards), 6), "l": len(rewards), "t": round(seconds, 6)}
        if len(rewards) == LONG and not self._warned and (self.spec is None or self.spec.max_episode_steps is None):
            self._warned = True
            warnings.warn(
                f"An episode of {self.spec.id if self.spec else self.unwrapped} has gone on for {LONG:,} steps, and nothing limits "
                "it. An evaluation waits for the ends of episodes, and may never be done. To limit them, wrap the environment in "
                "gymnasium.wrappers.TimeLimit, in gsac train "
                """--env-wrapper '{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 1000}}'.""",
                stacklevel=2,
            )
        return observation, reward, terminated, truncated, info


def wrap(env: gymnasium.Env, wrappers: Any) -> gymnasium.Env:
    """The environment in wrappers that plain data name, the first innermost.

    :param wrappers: in the form of ``env_wrapper`` in RL Baselines3 Zoo: a name ``"module.Class"``, a dictionary of it
        with the constructor's arguments, a list of such, or None
    :raises ValueError: another form, or a name that is not a wrapper's
    :raises Exception: whatever a wrapper raises itself
    """
    for name, arguments in _named(wrappers):
        env = _wrapper_class(name)(env, **arguments)
    return env


def _named(wrappers: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names, each with its arguments."""
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
