"""Reads and restores the state of random generators, environments, replay buffers and callbacks, for checkpoints.

Environments are pickled: restoring them runs code that the pickle contains.
"""

from __future__ import annotations

import copy
import pickle
import random
from dataclasses import dataclass
from inspect import signature
from typing import Any

import cloudpickle
import numpy as np
import torch
from gymnasium.utils import EzPickle
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from gsac.replay.device_buffer import DeviceReplayBuffer

NOT_STATE = {"venv", "class_attributes"}
"""Attributes of a vectorised environment's wrapper that are not part of its state."""


def generator_states() -> dict[str, Any]:
    """The states of all random generators: Python's, NumPy's, PyTorch's on the CPU and on each GPU."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def set_generator_states(states: dict[str, Any]) -> None:
    """Puts back what :func:`generator_states` returned; those of GPUs only where there are any."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def pickle_environments(env: VecEnv) -> tuple[bytes | None, str | None]:
    """Pickles the state of a vectorised environment and its wrappers, in the middle of their episodes.

    :return: the pickle and None, or None and the reason why there is none
    """
    layers = _layers(env)
    if not isinstance(layers[-1], DummyVecEnv):
        return None, f"the environments of a {type(layers[-1]).__name__} cannot be reached from here"
    for inner in layers[-1].envs:
        if isinstance(inner.unwrapped, EzPickle):
            return None, f"{type(inner.unwrapped).__name__} pickles its constructor's arguments and not its state"
    try:
        states = [{name: value for name, value in vars(layer).items() if name not in NOT_STATE} for layer in layers]
        names = [type(layer).__name__ for layer in layers]
        return cloudpickle.dumps(list(zip(names, states, strict=True))), None
    except Exception as error:  # whatever an environment's own pickling raises
        return None, f"the environment cannot be pickled ({type(error).__name__}: {error})"


def restore_environments(env: VecEnv, pickled: bytes, name: str) -> None:
    """Sets the state of a vectorised environment and its wrappers to what :func:`pickle_environments` pickled.

    :param name: of the file, for the error
    :raises ValueError: the environment has other wrappers
    """
    states = pickle.loads(pickled)
    ours, theirs = [type(layer).__name__ for layer in _layers(env)], [layer for layer, _ in states]
    if ours != theirs:
        raise ValueError(
            f"{name} is of a run in {' of '.join(theirs)}, and env is {' of '.join(ours)}: make it as it was at first."
        )
    for layer, (_, state) in zip(_layers(env), states, strict=True):
        vars(layer).update(state)


def _layers(env: VecEnv) -> list[VecEnv]:
    """The wrappers from the outermost inwards, and the vectorised environment itself."""
    layers = [env]
    while isinstance(layers[-1], VecEnvWrapper):
        layers.append(layers[-1].venv)
    return layers


@dataclass(frozen=True)
class Trimmed:
    """The rows of an array that are in use, and the array's length."""

    rows: np.ndarray
    length: int


def trim_buffer(buffer: ReplayBuffer) -> ReplayBuffer:
    """Copies a replay buffer without the rows that are not in use yet."""
    if isinstance(buffer, DeviceReplayBuffer):
        return buffer  # its own pickle holds only the rows in use
    trimmed = copy.copy(buffer)
    if buffer.full:
        return trimmed
    used = buffer.pos + 1  # memory-optimised storage puts the next observation there

    def trim(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: trim(entry) for key, entry in value.items()}
        if isinstance(value, np.ndarray) and value.dtype != object and value.shape[:1] == (buffer.buffer_size,):
            return Trimmed(value[:used], len(value))
        return value

    vars(trimmed).update({name: trim(value) for name, value in vars(trimmed).items()})
    return trimmed


def untrim_buffer(buffer: ReplayBuffer) -> ReplayBuffer:
    """Gives a trimmed buffer arrays of their full length again, with zeros in the rows that are not in use."""

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: restore(entry) for key, entry in value.items()}
        if isinstance(value, Trimmed):
            whole = np.zeros((value.length, *value.rows.shape[1:]), value.rows.dtype)
            whole[: len(value.rows)] = value.rows
            return whole
        return value

    vars(buffer).update({name: restore(value) for name, value in vars(buffer).items()})
    return buffer


def callback_state(callback: BaseCallback) -> dict[str, Any]:
    """The attributes of a callback that are plain data: its counts and records."""
    plain = (bool, int, float, str, list, tuple, np.ndarray, np.generic, type(None))
    return {
        name: copy.deepcopy(value)
        for name, value in vars(callback).items()
        if isinstance(value, plain) and name not in ("locals", "globals", "model", "parent", "callback")
    }


def restore_callback(callback: BaseCallback, state: dict[str, Any]) -> None:
    """Restores the counts and records of a callback, but not the arguments of its constructor, such as folders."""
    settings = {
        name
        for base in type(callback).__mro__
        if "__init__" in vars(base)
        for name in signature(vars(base)["__init__"]).parameters
    }
    vars(callback).update({name: value for name, value in state.items() if name not in settings})
