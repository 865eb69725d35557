"""Checkpoints from which a run goes on exactly: weight for weight what it would have been without the stop."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cloudpickle
import gymnasium
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from gsac.algorithms.gsac import GSAC
from gsac.checks import AT_LEAST_1, check_number, is_at_least_1
from gsac.saving import archive, snapshot
from gsac.saving.files import atomic_write, remove_unfinished

MEMBERS = ("model.zip", "buffer.pkl", "state.pkl")


class Checkpoint(BaseCallback):
    """Writes a checkpoint every so many steps and at the end, from which :func:`resume` goes on.

    A checkpoint holds the model with its optimisers, the replay buffer, the states of all random generators, and the
    environments in the middle of their episodes if they can be pickled; if not, a warning says why, and a resumed run begins
    with a new episode. A new checkpoint replaces the last one when it is whole: a process that is killed while it writes
    leaves the last one.

    Checkpoints are pickled: loading one runs code that it contains. Load only your own.

    :param path: of the file
    :param every: environment steps between checkpoints; each is written when the next rollout starts
    :param callbacks: other callbacks of this run whose counts and records are to go on too
    :param verbose: 1 prints a line for each checkpoint
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
        check_number("every", every, AT_LEAST_1, is_at_least_1, 10_000)
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
    """Writes everything that the run needs to go on, whole or not at all. Call it when a rollout starts, as :class:`Checkpoint` does.

    :return: why the environments could not be written, or None if they are in the file
    :raises ValueError: a loss is NaN or infinite: a broken model does not replace a sound one
    """
    assert model.env is not None
    assert model.replay_buffer is not None
    model.check_losses()
    environments, reason = snapshot.pickle_environments(model.env)
    state = {
        "environments": environments,
        "reason": reason,
        "generators": snapshot.generator_states(),
        "action_space": model.action_space,
        "callbacks": [snapshot.callback_state(callback) for callback in callbacks],
    }
    saved = io.BytesIO()
    model.save(saved)
    buffer = snapshot.trim_buffer(model.replay_buffer)
    contents = (saved.getvalue(), cloudpickle.dumps(buffer), cloudpickle.dumps(state))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as members:
        for name, content in zip(MEMBERS, contents, strict=True):
            members.writestr(name, content)
    with atomic_write(path) as file:
        file.write(archive.add_digest(whole.getvalue()))
    return reason


def resume(
    path: str | os.PathLike[str],
    env: gymnasium.Env | VecEnv,
    callbacks: Sequence[BaseCallback] = (),
    device: torch.device | str = "auto",
) -> GSAC:
    """Loads a checkpoint: the model and the state of its environment, ready to go on.

        model = resume("run.ckpt", make_env())
        model.learn(model.remaining_timesteps, callback=Checkpoint("run.ckpt"), reset_num_timesteps=False)

    The file is pickled, and reading it runs code that it contains: load only your own.

    :param path: of the checkpoint
    :param env: made as it was for the first run; its state is then set to that of the checkpoint
    :param callbacks: as many as were given to :class:`Checkpoint`, of the same kinds and in the same order; their counts and
        records are restored, but not what their constructors were given, such as folders
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
    _put_buffer(model, snapshot.untrim_buffer(buffer))
    if exact:
        snapshot.restore_environments(model.env, state["environments"], str(path))
    else:
        warnings.warn(f"The run goes on with a new episode: {state['reason']}.", stacklevel=2)
        model.memory.truncate_last_episodes()
    model.action_space = model.explorer.action_space = state["action_space"]
    for callback, found in zip(callbacks, state["callbacks"], strict=True):
        snapshot.restore_callback(callback, found)
    snapshot.set_generator_states(state["generators"])
    return model


def _read(path: Path) -> dict[str, bytes]:
    """Reads the files in a checkpoint, after a check that it is whole.

    :raises ValueError: a damaged checkpoint, or another file; nothing in it was run
    """
    whole = archive.open_checked(path.read_bytes(), path, MEMBERS, "checkpoint", "Pass a file that Checkpoint wrote.")
    with zipfile.ZipFile(whole) as members:
        return {name: members.read(name) for name in MEMBERS}


def _put_buffer(model: GSAC, buffer: ReplayBuffer) -> None:
    buffer.device = model.device
    if isinstance(buffer, HerReplayBuffer):
        assert model.env is not None
        buffer.set_env(model.env)
    model.replay_buffer = buffer
