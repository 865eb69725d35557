"""Converts constructor arguments to JSON and back: plain values, and schedules, estimators and known classes by name.

A schedule, an estimator or a class becomes a dictionary with a key in colons, such as ``{":schedule:": "cosine", ...}``.
Names are looked up in :data:`TABLES` only, so reading runs no code of the file. Functions and classes of the user cannot be written.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from torch import nn

from gsac.estimators import ESTIMATORS
from gsac.networks.small_cnn import SmallCNN
from gsac.replay.device_buffer import DeviceReplayBuffer
from gsac.replay.prioritized import PrioritizedDictReplayBuffer, PrioritizedReplayBuffer
from gsac.schedules import SCHEDULES

TUPLE = ":tuple:"
TABLES: dict[str, dict[str, Any]] = {
    ":torch.nn:": {name: getattr(nn, name) for name in (*nn.modules.activation.__all__, "Identity")},
    ":torch.optim:": {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    },
    ":stable_baselines3:": {
        kind.__name__: kind
        for kind in (
            *(FlattenExtractor, NatureCNN, CombinedExtractor),
            *(ReplayBuffer, DictReplayBuffer, NStepReplayBuffer, HerReplayBuffer),
        )
    },
    ":gsac:": {
        kind.__name__: kind
        for kind in (DeviceReplayBuffer, PrioritizedReplayBuffer, PrioritizedDictReplayBuffer, SmallCNN)
    },
    ":schedule:": dict(SCHEDULES),
    ":estimator:": dict(ESTIMATORS),
}
"""Key in the file -> name -> object. The settings of schedules and estimators are further keys of the dictionary."""


def to_json(value: Any) -> Any:
    """Converts a value to JSON that :func:`from_json` converts back.

    :raises TypeError: the value cannot be written so
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, list):
        return [to_json(part) for part in value]
    if isinstance(value, TrainFreq):
        return {TUPLE: [value.frequency, value.unit.value]}
    if type(value) is tuple:
        return {TUPLE: [to_json(part) for part in value]}
    if isinstance(value, dict) and all(isinstance(key, str) and not key.startswith(":") for key in value):
        return {key: to_json(part) for key, part in value.items()}
    for table, known in TABLES.items():
        for name, named in known.items():
            if value is named:
                return {table: name}
            if is_dataclass(value) and not isinstance(value, type) and type(value) in (named, type(named)):
                return {table: name} | {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{value!r} cannot be written as JSON.")


def from_json(data: Any) -> Any:
    """Makes the value that :func:`to_json` described.

    :raises ValueError: a name or setting that this version does not know
    """
    if isinstance(data, list):
        return [from_json(part) for part in data]
    if not isinstance(data, dict):
        return data
    special = [key for key in data if key.startswith(":")]
    if not special:
        return {key: from_json(part) for key, part in data.items()}
    if list(data) == [TUPLE]:
        return tuple(from_json(data[TUPLE]))
    table, name = special[0], data[special[0]]
    if name not in TABLES.get(table, {}):
        raise ValueError(f"{name!r} is not a known name of {table!r}.")
    named = TABLES[table][name]
    settings = {key: from_json(part) for key, part in data.items() if key != table}
    if not settings:
        return named
    kind = named if isinstance(named, type) else type(named)
    if not is_dataclass(kind):
        raise ValueError(f"{name!r} of {table!r} has no settings {sorted(settings)}.")
    return kind(**settings)
