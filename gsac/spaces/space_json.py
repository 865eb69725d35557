"""Converts Gymnasium spaces to JSON and back, bounds and types exactly."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from gymnasium import spaces


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Describes a space by dictionaries, lists, numbers and strings, which :func:`space_from_json` reads.

    >>> space_to_json(spaces.Discrete(3, start=-1))
    {'space': 'Discrete', 'n': 3, 'start': -1, 'dtype': 'int64'}
    >>> space_to_json(spaces.Box(-np.inf, 1, (2,)))
    {'space': 'Box', 'shape': [2], 'dtype': 'float32', 'low': '-inf', 'high': 1.0}

    :raises ValueError: another space than ``Box``, ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` and ``Dict`` of them
    """
    if isinstance(space, spaces.Dict):  # a list, as the order of the keys is that of the features
        return {"space": "Dict", "spaces": [[key, space_to_json(part)] for key, part in space.spaces.items()]}
    dtype = np.dtype(space.dtype).name
    if isinstance(space, spaces.Box):
        bounds = {"low": _array_to_json(space.low), "high": _array_to_json(space.high)}
        return {"space": "Box", "shape": list(space.shape), "dtype": dtype, **bounds}
    if isinstance(space, spaces.Discrete):
        return {"space": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": dtype}
    if isinstance(space, spaces.MultiDiscrete):
        return {"space": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist(), "dtype": dtype}
    if isinstance(space, spaces.MultiBinary):
        return {"space": "MultiBinary", "shape": list(space.shape)}
    raise ValueError(
        f"The space {space} cannot be written as JSON: use Box, Discrete, MultiDiscrete, MultiBinary or a Dict of them."
    )


def space_from_json(data: dict[str, Any]) -> spaces.Space[Any]:
    """Makes the space that :func:`space_to_json` described.

    :raises ValueError: no valid description
    """
    try:
        return _space(data)
    except (KeyError, TypeError, AttributeError, AssertionError, OverflowError) as error:
        raise ValueError(f"{data!r} describes no space ({error!r}).") from None


def _space(data: dict[str, Any]) -> spaces.Space[Any]:
    kind = data["space"]
    if kind == "Dict":
        return spaces.Dict(OrderedDict((key, _space(part)) for key, part in data["spaces"]))
    if kind == "MultiBinary":
        shape = data["shape"]
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    dtype: Any = np.dtype(data["dtype"])
    if kind == "Box":
        low, high = (_array_from_json(data[name], data["shape"], dtype) for name in ("low", "high"))
        return spaces.Box(low, high, dtype=dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(data["n"], start=data["start"], **({} if dtype == np.int64 else {"dtype": dtype}))
    if kind == "MultiDiscrete":
        start = np.array(data["start"], dtype)
        return spaces.MultiDiscrete(np.array(data["nvec"], dtype), dtype=dtype.type, start=start)
    raise ValueError(f"{kind!r} is not a space that can be read.")


def _array_to_json(array: np.ndarray[Any, Any]) -> Any:
    """One number if all are equal, otherwise nested lists; infinities as strings, since JSON has none."""
    if array.size and (array == array.flat[0]).all():
        return _number_to_json(array.flat[0].item())
    return _nested(array.tolist(), _number_to_json)


def _array_from_json(data: Any, shape: list[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    return np.broadcast_to(np.array(_nested(data, float if dtype.kind == "f" else int), dtype), shape).copy()


def _number_to_json(number: float) -> float | str:
    return str(number) if number in (np.inf, -np.inf) else number


def _nested(data: Any, function: Any) -> Any:
    return [_nested(part, function) for part in data] if isinstance(data, list) else function(data)
