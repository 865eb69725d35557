"""Makes flags of an algorithm's constructor arguments: names, types and defaults from the signature, help from ``:param``."""

from __future__ import annotations

import json
import re
import types
from dataclasses import field, make_dataclass
from inspect import getdoc
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from gsac.algorithms.arguments import Argument, constructor_parameters, table_entry

Command = TypeVar("Command")

SIMPLE_TYPES = (int, float, str, bool, type(None))


def _from_json(words: list[str]) -> Any:
    try:
        return json.loads(words[0])
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{words[0]!r} is not JSON ({error}): write names in double quotes, and the whole in single quotes."
        ) from None


JSON = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="JSON",
    instance_from_str=_from_json,
    is_instance=lambda value: value is None or isinstance(value, dict | list | str),
    str_from_instance=lambda value: [json.dumps(value)],
)
"""Reads dictionaries and lists as JSON: --policy-kwargs '{"net_arch": [256, 256]}'."""


def flag_types(algorithm: type[Any]) -> dict[str, Any]:
    """Returns the types of the constructor's arguments that can be flags, by name."""
    hints = get_type_hints(algorithm.__init__)
    found = {name: _readable(table_entry(name), hints.get(name, Any)) for name in constructor_parameters(algorithm)}
    return {name: kind for name, kind in found.items() if table_entry(name).flag and kind is not None}


def with_arguments_of(algorithm: type[Any], command: type[Command]) -> type[Command]:
    """Makes a subclass of a dataclass, with the constructor's arguments as further fields.

    Its docstring is the algorithm's, from which tyro reads the help texts, also of fields of ``command`` with the same name. tyro
    cannot read the constructor itself, whose types include functions and classes.
    """
    defaults = {name: parameter.default for name, parameter in constructor_parameters(algorithm).items()}
    new = [(name, kind, field(default=defaults[name])) for name, kind in flag_types(algorithm).items()]
    doc = re.sub(r"\n +", " ", getdoc(algorithm) or "")  # one line for each :param
    plain_doc = re.sub(r":\w+:`~?([^`]*)`|``([^`]*)``", r"\1\2", doc)
    return make_dataclass(command.__name__, new, bases=(command,), namespace={"__doc__": plain_doc})


def _readable(argument: Argument, hint: Any) -> Any:
    """Returns the part of an argument's type that the command line can express; None if there is none."""
    if argument.choices:
        return Literal[argument.choices]
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if any(get_origin(member) is dict for member in members):
        return Annotated[dict[str, Any] | None, JSON]
    simple = tuple(member for member in members if member in SIMPLE_TYPES or get_origin(member) is tuple)
    if not set(simple) - {type(None)}:
        return None
    kind: Any = Union[simple]  # noqa: UP007
    if not argument.names:
        return kind
    names = ", ".join(argument.names)  # a Literal would print all of them as the type, in place of STR
    return Annotated[kind, tyro.conf.arg(help_behavior_hint=lambda default: f"(names: {names}; default: {default})")]
