"""The flags of ``gsac train``: the arguments of an algorithm's constructor, with their descriptions."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import field, make_dataclass
from functools import partial
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from gsac.algorithms.arguments import Argument, constructor_parameters, table_entry
from gsac.envs.wrappers import EXAMPLE
from gsac.experiments.models import ALGORITHMS

CHECKPOINTS = "Steps between checkpoints, which hold the replay buffer as far as it is filled; 0 for none."

ENV_WRAPPER = f"Wrappers around each environment, the first innermost, in JSON: '{EXAMPLE}'."

PRESET = (
    "Start from the settings that this environment has in gsac/experiments/presets.yml: they become the defaults shown here, and "
    "every flag beside it wins over them. --policy-kwargs and --env-wrapper replace the whole of the preset's."
)

SIMPLE_TYPES = (int, float, str, bool, type(None))


def _from_json(words: list[str]) -> Any:
    try:
        return json.loads(words[0])
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{words[0]!r} is not JSON ({error}): names stand in double quotes, all of it in single ones."
        ) from None


JSON = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="JSON",
    instance_from_str=_from_json,
    is_instance=lambda value: value is None or isinstance(value, dict | list | str),
    str_from_instance=lambda value: [json.dumps(value)],
)
"""Dictionaries are written as JSON: --policy-kwargs '{"net_arch": [256, 256]}'."""


def train_command(algo: str, defaults: Mapping[str, Any] | None = None) -> type:
    """A dataclass whose fields are what ``gsac train --algo ALGO`` takes.

    :param defaults: values by field, such as a preset's, in the place of the constructor's defaults
    """
    algorithm = ALGORITHMS[algo]
    docs = _parameter_docs(getdoc(algorithm) or "")
    own: list[Any] = [
        (
            "env",
            Annotated[
                tyro.conf.Positional[str],
                tyro.conf.arg(metavar="ENV", help="A Gymnasium environment, such as CartPole-v1."),
            ],
        ),
        ("algo", _flag(Literal[tuple(ALGORITHMS)], "The algorithm."), field(default=algo)),
        ("total_timesteps", _flag(int, "Steps in the environment."), field(default=20_000)),
        ("seed", _flag(int | None, "Of everything random; drawn and noted if not given."), field(default=None)),
        ("logdir", _flag(Path | None, "The run's folder; logs/ENV/ALGO_N if not given."), field(default=None)),
        ("n_envs", _flag(int, "Environments side by side."), field(default=1)),
        ("eval_episodes", _flag(int, "Episodes of the final evaluation; half as many on the way."), field(default=20)),
        ("device", _flag(str, "Where the networks run: auto, cpu, cuda."), field(default="auto")),
        (
            "policy",
            _flag(str, "MlpPolicy, CnnPolicy, MultiInputPolicy, or auto by the observations."),
            field(default="auto"),
        ),
        ("preset", _flag(bool, PRESET), field(default=False)),
        ("env_wrapper", _flag(Annotated[Any, JSON], ENV_WRAPPER), field(default=None)),
        ("progress_bar", _flag(bool, "Show the progress."), field(default=True)),
    ]
    if algo == "gsac":
        own.append(("checkpoint_every", _flag(int, CHECKPOINTS), field(default=10_000)))
    hints = get_type_hints(algorithm.__init__)
    for name, parameter in constructor_parameters(algorithm).items():
        argument = table_entry(name)
        kind = _flag_type(argument, hints.get(name, Any))
        if argument.flag and kind is not None:
            names = f" The names are {', '.join(argument.names)}." if argument.names else ""
            own.append((name, _flag(kind, docs[name] + names), field(default=parameter.default)))
    for i, (name, kind, *_) in enumerate(own):
        if defaults and name in defaults:
            own[i] = (name, kind, field(default_factory=partial(deepcopy, defaults[name])))
    command = make_dataclass("Train", own)
    command.__doc__ = (
        "Train an agent, with evaluations on the way; keeps the last model and the best. "
        "Or go on with a stopped run: gsac train --resume FOLDER."
    )
    return command


def _flag(kind: Any, text: str) -> Any:
    return Annotated[kind, tyro.conf.arg(help=text)]


def _flag_type(argument: Argument, hint: Any) -> Any:
    """What the command line reads for a constructor argument: its plain types. None if there are none."""
    if argument.choices:
        return Literal[argument.choices]
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if any(get_origin(member) is dict for member in members):
        return Annotated[dict[str, Any] | None, JSON]
    plain = tuple(member for member in members if member in SIMPLE_TYPES or get_origin(member) is tuple)
    return Union[plain] if set(plain) - {type(None)} else None  # noqa: UP007


def _parameter_docs(doc: str) -> dict[str, str]:
    """The descriptions of ``:param name: ...`` in a docstring, as plain text."""
    found = re.findall(r":param (\w+): (.*?)(?=\n:|\Z)", doc, re.DOTALL)
    return {name: re.sub(r":\w+:`~?([^`]*)`|``([^`]*)``", r"\1\2", " ".join(text.split())) for name, text in found}
