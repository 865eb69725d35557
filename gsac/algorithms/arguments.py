"""One table of the constructors' arguments: their allowed values, and whether files, flags and presets use them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gsac.checks import AT_LEAST_1, check_bool, check_choice, check_number, is_at_least_1, is_probability
from gsac.estimators import ESTIMATORS
from gsac.functional.losses import Q_AGGREGATIONS
from gsac.learning.acceleration import MODES
from gsac.learning.learner import TARGETS

BASELINES = ("none", "mean", "value")
"""What REINFORCE subtracts from the returns."""


@dataclass(frozen=True)
class Argument:
    """Describes a constructor argument: its allowed values, and where it appears besides the constructor.

    :param range: for numbers: the allowed range in words, a function that tests it, and an example, as
        :func:`gsac.checks.check_number` takes them
    :param besides: values allowed besides numbers
    :param choices: the only strings allowed
    :param boolean: the value must be True or False
    :param names: strings allowed besides other values, for help texts
    :param saved: ``save_weights()`` writes it; False if it says where a model runs, or has a field of its own in the file
    :param flag: ``gsac train`` passes a flag of this name on; False if the command line sets it in another way
    :param preset: a preset may set it; False if YAML cannot express it, or if it belongs to a single run
    :param setting: it changes what is learned, so runs that differ in it are different runs; False if it changes only the
        output, or if a comparison of runs sets it
    :param set_by_runner: a comparison of runs sets it
    """

    range: tuple[str, Callable[[Any], bool], Any] | None = None
    besides: tuple[str | None, ...] = ()
    choices: tuple[str, ...] = ()
    boolean: bool = False
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
    "buffer_size": Argument((AT_LEAST_1, is_at_least_1, 100_000)),
    "learning_starts": Argument(("a whole number of at least 0", lambda value: value >= 0, 1000)),
    "batch_size": Argument((AT_LEAST_1, is_at_least_1, 128)),
    "tau": Argument(("a number within [0, 1]", is_probability, 0.05)),
    "gamma": Argument(("a number within [0, 1]", is_probability, 0.99)),
    "gradient_steps": Argument(("-1 (as many as steps), 0, 1, ...", lambda value: value >= -1, 1)),
    "replay_buffer_class": Argument(preset=False),
    "n_steps": Argument((AT_LEAST_1, is_at_least_1, 3)),
    "estimator": Argument(names=tuple(ESTIMATORS)),
    "target": Argument(choices=TARGETS),
    "noise_duration": Argument(("a number of at least 1", lambda value: 1 <= value < math.inf, 16.0)),
    "bound_targets": Argument(boolean=True),
    "q_aggregation": Argument(choices=tuple(Q_AGGREGATIONS)),
    "target_update_interval": Argument((AT_LEAST_1, is_at_least_1, 1)),
    "max_grad_norm": Argument(("a number above 0, or None", lambda value: value > 0, 10.0), besides=(None,)),
    "num_threads": Argument(("'auto', 1, 2, ...", is_at_least_1, 1), besides=("auto",)),
    "acceleration": Argument(choices=MODES, saved=False),
    "baseline": Argument(choices=BASELINES),
    "normalize_advantage": Argument(boolean=True),
    "value_steps": Argument((AT_LEAST_1, is_at_least_1, 50)),
}
"""By name, for every algorithm that has it; an argument that is missing here is ``Argument()``."""


def table_entry(name: str) -> Argument:
    """The table's entry of an argument, or one with the defaults."""
    return ARGUMENTS.get(name, Argument())


def constructor_parameters(kind: type) -> dict[str, inspect.Parameter]:
    """The constructor's arguments by name, with those of the base class if it passes ``**kwargs`` on."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            found |= {p.name: p for p in own if p.kind not in variadic and not p.name.startswith("_")}
            if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in own):
                break
    return found


def argument_names(kind: type, which: Callable[[Argument], bool]) -> list[str]:
    """The names of the constructor's arguments whose entries in the table fulfil a condition.

    >>> from gsac import REINFORCE
    >>> argument_names(REINFORCE, lambda argument: argument.choices != ())
    ['baseline']
    """
    return [name for name in constructor_parameters(kind) if which(table_entry(name))]


def check_arguments(algorithm: Any) -> None:
    """Raises an error unless the table allows the value of each constructor argument, read from the algorithm's attributes.

    :raises TypeError: not a number, not a whole one, or not a bool
    :raises ValueError: out of range, or not one of the choices
    """
    # Of this package's class: a subclass may have a constructor of its own, which passes other arguments on.
    kind = next(base for base in type(algorithm).__mro__ if base.__module__.startswith("gsac."))
    for name in constructor_parameters(kind):
        argument, value = table_entry(name), getattr(algorithm, name, None)
        if argument.range is not None and value not in argument.besides:
            check_number(name, value, *argument.range)
        if argument.choices:
            check_choice(name, value, argument.choices)
        if argument.boolean:
            check_bool(name, value)


OLD_TARGET_ARGUMENTS = ("deterministic_target", "entropy_in_target")
"""The arguments of version 0.1.0 that ``target`` has replaced."""


def upgraded(arguments: dict[str, Any]) -> dict[str, Any]:
    """Renames arguments of version 0.1.0: two booleans become ``target``, and others stay as they are.

    Where ``deterministic_target`` is missing, the file is older than that argument: its targets were mean values.

    >>> upgraded({"gamma": 0.9, "deterministic_target": False, "entropy_in_target": True})
    {'gamma': 0.9, 'target': 'soft'}
    """
    today = dict(arguments)
    if any(name in today for name in OLD_TARGET_ARGUMENTS):
        mode, soft = (today.pop(name, False) for name in OLD_TARGET_ARGUMENTS)
        today["target"] = "soft" if soft else "mode" if mode else "mean"
    return today


def check_train_freq(train_freq: Any, n_envs: int) -> None:
    """Raises an error for a ``train_freq`` that SB3 refuses only in ``learn()``.

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
