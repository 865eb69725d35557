"""The constructors' arguments: what their signatures do not say, in one table, and the checks of plain values."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gsac.checks import AT_LEAST_1, check_choice, check_number, check_truth  # noqa: F401
from gsac.estimators import ESTIMATORS
from gsac.functional.losses import Q_AGGREGATIONS
from gsac.learning.acceleration import MODES
from gsac.learning.learner import TARGETS

BASELINES = ("none", "mean", "value")
"""What REINFORCE subtracts from the returns."""


@dataclass(frozen=True)
class Argument:
    """What the signature does not say of a constructor argument.

    :param range: of a number: what is allowed in words, the test of it, and an example, as :func:`check_number` takes them
    :param choices: the only strings allowed
    :param names: strings that it takes beside other values, for help texts
    :param saved: written by ``save_weights()``; False for what says where a model runs, or has a place of its own in the file
    :param flag: a flag of ``gsac train`` that is passed on; False where the command line has its own way
    :param preset: a preset may set it; False for what YAML cannot say, and for what belongs to the single run
    :param setting: it changes what is learned, and so tells runs apart; False for what is only shown, and for what the
        program that compares runs sets itself
    :param set_by_runner: the program that compares runs sets it
    """

    range: tuple[str, Callable[[Any], bool], Any] | None = None
    choices: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    saved: bool = True
    flag: bool = True
    preset: bool = True
    setting: bool = True
    set_by_runner: bool = False


ARGUMENTS: dict[str, Argument] = {
    "policy": Argument(saved=False, flag=False, setting=False, set_by_runner=True),
    "env": Argument(saved=False, flag=False, preset=False, setting=False, set_by_runner=True),
    "seed": Argument(flag=False, preset=False, setting=False, set_by_runner=True),
    "device": Argument(saved=False, flag=False, preset=False, setting=False, set_by_runner=True),
    "stats_window_size": Argument(setting=False),
    "tensorboard_log": Argument(saved=False, flag=False, preset=False, setting=False),
    "verbose": Argument(flag=False, preset=False, setting=False),
    "buffer_size": Argument((AT_LEAST_1, lambda value: value >= 1, 100_000)),
    "learning_starts": Argument(("a whole number of at least 0", lambda value: value >= 0, 1000)),
    "batch_size": Argument((AT_LEAST_1, lambda value: value >= 1, 128)),
    "tau": Argument(("a number within [0, 1]", lambda value: 0 <= value <= 1, 0.05)),
    "gamma": Argument(("a number within [0, 1]", lambda value: 0 <= value <= 1, 0.99)),
    "gradient_steps": Argument(("-1 (as many as steps), 0, 1, ...", lambda value: value >= -1, 1)),
    "replay_buffer_class": Argument(preset=False),
    "n_steps": Argument((AT_LEAST_1, lambda value: value >= 1, 3)),
    "estimator": Argument(names=tuple(ESTIMATORS)),
    "target": Argument(choices=TARGETS),
    "noise_duration": Argument(("a number of at least 1", lambda value: 1 <= value < math.inf, 16.0)),
    "q_aggregation": Argument(choices=tuple(Q_AGGREGATIONS)),
    "target_update_interval": Argument((AT_LEAST_1, lambda value: value >= 1, 1)),
    "acceleration": Argument(choices=MODES, saved=False),
    "baseline": Argument(choices=BASELINES),
    "value_steps": Argument((AT_LEAST_1, lambda value: value >= 1, 50)),
}
"""By name, for every algorithm that has it. What is not named here is :class:`Argument` as it stands."""


def described(name: str) -> Argument:
    """What the table says of an argument."""
    return ARGUMENTS.get(name, Argument())


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """The constructor's arguments by name; with those of the base class where it passes ``**kwargs`` on to that."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            found |= {p.name: p for p in own if p.kind not in variadic and not p.name.startswith("_")}
            if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in own):
                break
    return found


def names(kind: type, which: Callable[[Argument], bool]) -> list[str]:
    """The constructor's arguments that the table describes so.

    >>> from gsac import REINFORCE
    >>> names(REINFORCE, lambda argument: argument.choices != ())
    ['baseline']
    """
    return [name for name in parameters(kind) if which(described(name))]


def check_table(algorithm: Any) -> None:
    """Refuses attributes outside the ranges and choices of the table.

    :raises TypeError: not a number, or not a whole one
    :raises ValueError: out of range, or not one of the choices
    """
    for name in parameters(type(algorithm)):
        argument = described(name)
        if argument.range is not None:
            check_number(name, getattr(algorithm, name), *argument.range)
        if argument.choices:
            check_choice(name, getattr(algorithm, name), argument.choices)


def upgraded(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of version 0.1.0 under today's names: two truth values became ``target``. Others stay as they are.

    A file without ``deterministic_target`` is older than it, from when every target was the policy's mean value.

    >>> upgraded({"gamma": 0.9, "deterministic_target": False, "entropy_in_target": True})
    {'gamma': 0.9, 'target': 'soft'}
    """
    kept = dict(arguments)
    if "deterministic_target" in kept or "entropy_in_target" in kept:
        mode, soft = kept.pop("deterministic_target", False), kept.pop("entropy_in_target", False)
        kept["target"] = "soft" if soft else "mode" if mode else "mean"
    return kept


def check_train_freq(train_freq: Any, n_envs: int) -> None:
    """What SB3 finds out in ``learn()`` only.

    :raises ValueError: less than one step or episode, or episodes of several environments
    """
    number, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    if isinstance(number, int) and number < 1:
        raise ValueError(f"train_freq={train_freq!r} is out of range: pass 1 or more, such as train_freq=1.")
    if unit == "episode" and n_envs > 1:
        raise ValueError(
            f"train_freq={train_freq!r} counts the episodes of one environment, and there are {n_envs}: pass a number of "
            "steps, such as train_freq=16, or one environment."
        )
