"""Checkpoints from which a run goes on exactly: weight for weight what it would have been without the stop."""

from __future__ import annotations

import copy
import io
import os
import pickle
import random
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
import torch
from gymnasium.utils import EzPickle
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from gsac.algorithms.arguments import check_number
from gsac.algorithms.gsac import GSAC
from gsac.replay.device_buffer import DeviceReplayBuffer
from gsac.saving import archive
from gsac.saving.files import atomic_write, remove_unfinished

MEMBERS = ("model.zip", "buffer.pkl", "state.pkl")
NOT_STATE = {"venv", "class_attributes"}
"""Attributes of a vectorised environment's wrapper that are no state of its own."""


class Checkpoint(BaseCallback):
    """Writes a checkpoint every so many steps and at the end, from which :func:`resume` goes on.

    It holds the model with its optimisers, the replay buffer, the state of all random generators, and the environments
    in the middle of their episodes, if they can be pickled; where they cannot, a warning says why, and a resumed run
    begins with a new episode. The file is replaced at once when the new one is whole, so that there is a checkpoint that
    loads at any moment, also if the process is killed while it writes.

    It is written by pickle: loading a checkpoint runs code that it contains. Load your own only.

    :param path: of the file
    :param every: steps from one to the next, made up to the next time that new experience is about to be gathered
    :param callbacks: others of this run whose counts and records shall go on as well
    :param verbose: 1 tells of each checkpoint
    :raises TypeError: (in ``learn()``) the model is no GSAC
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int = 10_000,
        callbacks: Sequence[BaseCallback] = (),
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        check_number("every", every, "a whole number of at least 1", lambda value: value >= 1, 10_000)
        self.path, self.every, self.callbacks = Path(path), every, callbacks
        self._next = every
        self._warned = False

    def _init_callback(self) -> None:
        if not isinstance(self.model, GSAC):
            raise TypeError(f"Checkpoint resumes GSAC models, and this is a {type(self.model).__name__}.")
        remove_unfinished(self.path)
        self._next = (self.model.num_timesteps // self.every + 1) * self.every

    def _on_rollout_start(self) -> None:
        # Here everything that belongs to the steps so far is done: stored, learned from and counted.
        if self.model.num_timesteps >= self._next:
            self._next = (self.model.num_timesteps // self.every + 1) * self.every
            self._write()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._write()

    def _write(self) -> None:
        assert isinstance(self.model, GSAC)
        reason = save_checkpoint(self.model, self.path, self.callbacks)
        if reason is not None and not self._warned:
            self._warned = True
            warnings.warn(f"A resumed run will begin with a new episode: {reason}.", stacklevel=2)
        if self.verbose > 0:
            print(f"{self.model.num_timesteps} steps: checkpoint {self.path}")


def save_checkpoint(model: GSAC, path: str | os.PathLike[str], callbacks: Sequence[BaseCallback] = ()) -> str | None:
    """Writes everything that the run needs to go on, whole or not at all.

    To be called between two rounds of gathering experience, as :class:`Checkpoint` does.

    :return: why the environments could not be written, or None if they are in the file
    :raises ValueError: losses are infinite or not a number
    """
    assert model.env is not None
    assert model.replay_buffer is not None
    model.check_losses()  # a model that is broken does not replace one that is not
    environments, reason = _pickled_environments(model.env)
    state = {
        "environments": environments,
        "reason": reason,
        "generators": _generators(),
        "action_space": model.action_space,
        "callbacks": [_callback_state(callback) for callback in callbacks],
    }
    saved = io.BytesIO()
    model.save(saved)
    contents = (saved.getvalue(), cloudpickle.dumps(_trimmed(model.replay_buffer)), cloudpickle.dumps(state))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as members:
        for name, content in zip(MEMBERS, contents, strict=True):
            members.writestr(name, content)
    with atomic_write(path) as file:
        file.write(archive.sealed(whole.getvalue()))
    return reason


def resume(
    path: str | os.PathLike[str],
    env: gymnasium.Env | VecEnv,
    callbacks: Sequence[BaseCallback] = (),
    device: torch.device | str = "auto",
) -> GSAC:
    """The model as it was, in an environment as it was, ready to go on.

        model = resume("run.ckpt", make_env())
        model.learn(model.remaining_timesteps, callback=Checkpoint("run.ckpt"), reset_num_timesteps=False)

    The file is read by pickle, which runs code that it contains: load your own only.

    :param path: of the checkpoint
    :param env: made as it was at first; its state is then set to that of the checkpoint
    :param callbacks: of the same kinds and order as those given to :class:`Checkpoint`; their records go on, and what their
        constructors were given, such as the folders they write to, stays
    :param device: where the networks run
    :raises FileNotFoundError: there is no such file
    :raises ValueError: the file is damaged or no checkpoint, or the environment or the callbacks do not fit
    """
    contents = _read(Path(path))
    state, buffer = pickle.loads(contents["state.pkl"]), pickle.loads(contents["buffer.pkl"])
    exact = state["environments"] is not None
    model = GSAC.load(io.BytesIO(contents["model.zip"]), env=env, device=device, force_reset=not exact)
    assert model.env is not None
    if len(callbacks) != len(state["callbacks"]):
        raise ValueError(
            f"{path} has the records of {len(state['callbacks'])} callbacks, and {len(callbacks)} were passed: pass as many, of "
            "the same kinds and in the same order as to Checkpoint(callbacks=...)."
        )
    if buffer.n_envs != model.env.num_envs:
        raise ValueError(
            f"{path} is of a run with {buffer.n_envs} environments side by side, and env has {model.env.num_envs}: pass "
            "as many."
        )
    _put_buffer(model, _restored(buffer))
    if exact:
        _restore_environments(model.env, state["environments"], path)
    else:
        warnings.warn(f"The run goes on with a new episode: {state['reason']}.", stacklevel=2)
        _end_last_episode(model)
    model.action_space = state["action_space"]
    for callback, found in zip(callbacks, state["callbacks"], strict=True):
        settings = _constructor_parameters(type(callback))
        vars(callback).update({name: value for name, value in found.items() if name not in settings})
    _set_generators(state["generators"])
    return model


def _read(path: Path) -> dict[str, bytes]:
    """:raises ValueError: not a whole checkpoint; nothing in it has been run"""
    whole = archive.checked(path.read_bytes(), path, MEMBERS, "checkpoint", "Pass a file that Checkpoint wrote.")
    with zipfile.ZipFile(whole) as members:
        return {name: members.read(name) for name in MEMBERS}


def _generators() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def _set_generators(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def _layers(env: VecEnv) -> list[VecEnv]:
    """The wrappers from the outermost inwards, and the vectorised environment itself."""
    layers = [env]
    while isinstance(layers[-1], VecEnvWrapper):
        layers.append(layers[-1].venv)
    return layers


def _pickled_environments(env: VecEnv) -> tuple[bytes | None, str | None]:
    """The state of all layers, or why there is none."""
    layers = _layers(env)
    if not isinstance(layers[-1], DummyVecEnv):
        return None, f"the environments of a {type(layers[-1]).__name__} cannot be reached from here"
    for inner in layers[-1].envs:
        if isinstance(inner.unwrapped, EzPickle):
            return None, f"{type(inner.unwrapped).__name__} pickles how it was made and not where it is"
    try:
        states = [{name: value for name, value in vars(layer).items() if name not in NOT_STATE} for layer in layers]
        return cloudpickle.dumps(
            [(type(layer).__name__, state) for layer, state in zip(layers, states, strict=True)]
        ), None
    except Exception as error:  # whatever an environment's own pickling raises
        return None, f"the environment cannot be pickled ({type(error).__name__}: {error})"


def _restore_environments(env: VecEnv, pickled: bytes, path: str | os.PathLike[str]) -> None:
    states = pickle.loads(pickled)
    ours, theirs = [type(layer).__name__ for layer in _layers(env)], [name for name, _ in states]
    if ours != theirs:
        raise ValueError(
            f"{path} is of a run in {' of '.join(theirs)}, and env is {' of '.join(ours)}: make it as it was at first."
        )
    for layer, (_, state) in zip(_layers(env), states, strict=True):
        vars(layer).update(state)


def _put_buffer(model: GSAC, buffer: ReplayBuffer) -> None:
    model.replay_buffer = buffer
    buffer.device = model.device
    if isinstance(buffer, HerReplayBuffer):
        assert model.env is not None
        buffer.set_env(model.env)
    model._fit_buffer_to_masks()


def _end_last_episode(model: GSAC) -> None:
    """The next step is not the one after the last in the buffer: marks the last as cut off."""
    buffer = model.replay_buffer
    assert buffer is not None
    if buffer.size() == 0:
        return
    last = (buffer.pos - 1) % buffer.buffer_size
    if isinstance(buffer, HerReplayBuffer):
        buffer.truncate_last_trajectory()
    elif buffer.optimize_memory_usage:
        buffer.dones[last] = True
    else:
        # True where it was, and where the episode went on; in arithmetic that arrays and tensors share
        buffer.timeouts[last] = 1 - buffer.dones[last] * (1 - buffer.timeouts[last])


@dataclass(frozen=True)
class _Trimmed:
    """An array's rows that are in use, of ``length``."""

    rows: np.ndarray
    length: int


def _trimmed(buffer: ReplayBuffer) -> ReplayBuffer:
    """A copy that holds only what is in use: buffers are allocated whole and filled little by little."""
    if isinstance(buffer, DeviceReplayBuffer):
        return buffer  # pickles no more than that
    trimmed = copy.copy(buffer)
    if buffer.full:
        return trimmed
    used = buffer.pos + 1  # memory-optimised storage puts the next observation there

    def trim(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: trim(entry) for key, entry in value.items()}
        if isinstance(value, np.ndarray) and value.dtype != object and value.shape[:1] == (buffer.buffer_size,):
            return _Trimmed(value[:used], len(value))
        return value

    vars(trimmed).update({name: trim(value) for name, value in vars(trimmed).items()})
    return trimmed


def _restored(buffer: ReplayBuffer) -> ReplayBuffer:
    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: restore(entry) for key, entry in value.items()}
        if isinstance(value, _Trimmed):
            whole = np.zeros((value.length, *value.rows.shape[1:]), value.rows.dtype)
            whole[: len(value.rows)] = value.rows
            return whole
        return value

    vars(buffer).update({name: restore(value) for name, value in vars(buffer).items()})
    return buffer


def _constructor_parameters(kind: type) -> set[str]:
    return {
        name
        for base in kind.__mro__
        if "__init__" in vars(base)
        for name in signature(vars(base)["__init__"]).parameters
    }


def _callback_state(callback: BaseCallback) -> dict[str, Any]:
    """Its counts and records: what is plain data."""
    plain = (bool, int, float, str, list, tuple, np.ndarray, np.generic, type(None))
    return {
        name: copy.deepcopy(value)
        for name, value in vars(callback).items()
        if isinstance(value, plain) and name not in ("locals", "globals", "model", "parent", "callback")
    }
