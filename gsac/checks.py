"""Raises errors for wrong arguments, all of one form: the error says what came, what is allowed, and what to write instead."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

AT_LEAST_0 = "a whole number of at least 0"
AT_LEAST_1 = "a whole number of at least 1"


def check_number(name: str, value: Any, allowed: str, is_allowed: Callable[[Any], bool], example: Any) -> None:
    """Raises an error unless ``value`` is a number for which ``is_allowed`` is true. Booleans are not numbers.

    >>> check_number("tau", 1.5, "a number within [0, 1]", is_probability, 0.05)
    Traceback (most recent call last):
    ...
    ValueError: tau=1.5 is out of range: pass a number within [0, 1], such as tau=0.05.

    :param name: of the argument
    :param allowed: which numbers ``is_allowed`` accepts, in words that follow "pass"
    :param example: a value to write; if it is an int, only whole numbers are accepted
    :raises TypeError: not a number, or not a whole one
    :raises ValueError: ``is_allowed`` is false
    """
    kind = numbers.Integral if isinstance(example, int) else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind):
        whole = "whole " if kind is numbers.Integral else ""
        raise TypeError(f"{name}={value!r} is not a {whole}number: pass {allowed}, such as {name}={example}.")
    if not is_allowed(value):
        raise ValueError(f"{name}={value!r} is out of range: pass {allowed}, such as {name}={example}.")


def is_at_least_1(value: float) -> bool:
    """Whether ``value`` is 1 or greater."""
    return value >= 1


def is_probability(value: float) -> bool:
    """Whether ``value`` is within [0, 1]."""
    return 0 <= value <= 1


def is_above_0(value: float) -> bool:
    """Whether ``value`` is above 0 and finite."""
    return 0 < value < math.inf


def is_at_least_0(value: float) -> bool:
    """Whether ``value`` is at least 0 and finite."""
    return 0 <= value < math.inf


def check_bool(name: str, value: Any) -> None:
    """Raises an error unless ``value`` is True or False, Python's or NumPy's.

    :raises TypeError: something else
    """
    if type(value).__name__ not in ("bool", "bool_"):  # by name, as this module does not import NumPy
        raise TypeError(f"{name}={value!r} is not a bool: pass True or False.")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises an error unless ``value`` is one of ``choices``; the error names the closest of them.

    >>> check_choice("q_aggregation", "maen", ["min", "mean"])
    Traceback (most recent call last):
    ...
    ValueError: q_aggregation='maen' is unknown. Did you mean 'mean'? Pass one of 'min', 'mean'.

    :raises ValueError: none of them
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(
            f"{name}={value!r} is unknown.{did_you_mean(value, choices)} Pass one of {', '.join(map(repr, choices))}."
        )


def did_you_mean(value: Any, choices: Iterable[str]) -> str:
    """The sentence that suggests the choice closest to ``value``, after a space; empty if none is close."""
    close = get_close_matches(str(value), list(choices), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
