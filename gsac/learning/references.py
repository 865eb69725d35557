"""Lists what a recorded update refers to, so that a recording is made anew when any of it is replaced."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PLAIN = (bool, int, float, str, type(None))


def references(*roots: Any) -> list[Any]:
    """Everything that is reachable from the roots: tensors by their addresses, plain values as they are, others as objects.

    Lists, dictionaries, optimisers and the attributes of this package's own objects are followed, so an attribute that is
    added to a class later is included automatically. A class lists in ``NOT_RECORDED`` its attributes that may change
    without making a recording wrong. Of a network only the object and its optimiser count; its parameters are reached
    through the optimiser and through the learner's lists of parameters.
    """
    found: list[Any] = []
    _collect(list(roots), found, set())
    return found


def same(before: list[Any], now: list[Any]) -> bool:
    """Whether two lists of references are equal: plain values by value, everything else by identity."""
    return len(before) == len(now) and all(
        a is b or (isinstance(a, PLAIN) and isinstance(b, PLAIN) and a == b) for a, b in zip(before, now, strict=True)
    )


def _collect(value: Any, found: list[Any], visited: set[int]) -> None:
    if isinstance(value, Tensor):
        found += (value.data_ptr(), value.requires_grad)
    elif isinstance(value, PLAIN):
        found.append(value)
    elif isinstance(value, list | tuple):
        for part in value:
            _collect(part, found, visited)
    elif id(value) not in visited:
        visited.add(id(value))
        if isinstance(value, dict):
            _collect(list(value.values()), found, visited)
            return
        found.append(value)
        if isinstance(value, torch.optim.Optimizer):
            _collect([value.param_groups, list(value.state.values())], found, visited)
            found.append(value.state)
        elif isinstance(value, nn.Module):
            _collect(vars(value).get("optimizer"), found, visited)
        elif any(base.__module__.startswith("gsac.") for base in type(value).__mro__):
            skipped = getattr(value, "NOT_RECORDED", ())
            _collect([part for name, part in _attributes(value) if name not in skipped], found, visited)


def _attributes(value: Any) -> list[tuple[str, Any]]:
    return sorted(vars(value).items()) if hasattr(value, "__dict__") else []
