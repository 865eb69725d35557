"""The base class of GSAC and REINFORCE: schedules, threads, and files that are checked before they are read."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.type_aliases import GymEnv, TensorDict
from stable_baselines3.common.utils import FloatSchedule

from gsac.algorithms.arguments import argument_names, check_arguments, constructor_parameters, upgraded
from gsac.checks import is_at_least_0
from gsac.learning.threads import choose_threads, torch_threads
from gsac.networks.observations import check_observation_space
from gsac.optim.adam import set_learning_rate
from gsac.saving import archive, weights
from gsac.saving.files import atomic_write, existing_file
from gsac.schedules import Schedule, check_schedule, value_at

SelfAlgorithm = TypeVar("SelfAlgorithm", bound="Algorithm")


class Algorithm(BaseAlgorithm):
    """Adds to an SB3 algorithm learning rates on any schedule, files that are checked, and a limit on CPU threads.

    Among the bases of a subclass it comes before SB3's class, whose methods it extends.
    """

    archive_members: ClassVar[tuple[str, ...]]
    """The names of the files that a zip file of such a model must hold."""
    num_threads: int | str

    def _check_shared_arguments(self) -> None:
        check_arguments(self)
        check_observation_space(self.observation_space)
        check_learning_rate("learning_rate", self.learning_rate)
        for name in ("policy_kwargs", "replay_buffer_kwargs"):
            if not isinstance(getattr(self, name, {}), dict):
                raise TypeError(
                    f"{name}={getattr(self, name)!r} is no dictionary: pass names and values, as in {{'a': 1}}."
                )

    def _setup_lr_schedule(self) -> None:
        self.lr_schedule = FloatSchedule(check_learning_rate("learning_rate", self.learning_rate))

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        # SB3's users may replace lr_schedule; ours wraps the schedule, whose clock may be the number of updates.
        learning_rate = self._value_at(getattr(self.lr_schedule, "value_schedule", self.lr_schedule))
        self.logger.record("train/learning_rate", learning_rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            set_learning_rate(optimizer, learning_rate)

    def _value_at(self, schedule: Schedule) -> float:
        # The last steps may go beyond the end of the run, where the remaining progress is below 0.
        return value_at(schedule, max(self._current_progress_remaining, 0.0), self._n_updates)

    @property
    def remaining_timesteps(self) -> int:
        """The environment steps that the last ``learn()`` was asked for and has not made."""
        return max(self._total_timesteps - self.num_timesteps, 0)

    def _limited_threads(self) -> AbstractContextManager[None]:
        n_parameters = sum(parameter.numel() for parameter in self.policy.parameters())
        return torch_threads(choose_threads(self.num_threads, n_parameters, self.device))

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Writes the model to a zip file as SB3 does, whole or not at all; an older file stays until the new one is whole.

        The file holds everything but the replay buffer, with pickled objects and a checksum. Loading it runs code that it
        contains, see :meth:`load`: to pass a model on to others, use :meth:`save_weights`.
        """
        buffer = io.BytesIO()
        super().save(buffer, exclude, include)
        whole = archive.add_digest(buffer.getvalue())
        if not isinstance(path, str | pathlib.Path):
            path.write(whole)
            return
        path = pathlib.Path(path)
        with atomic_write(path if path.suffix else path.with_suffix(".zip")) as file:
            file.write(whole)

    @classmethod
    def load(
        cls: type[SelfAlgorithm],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfAlgorithm:
        """Loads a file that :meth:`save` or SB3 wrote, after a check that it is whole.

        **The file can run any code**, since it holds pickled Python objects: load only files that you or people you trust
        have made. :meth:`from_weights` runs no code. The parameters are those of SB3.

        :raises ValueError: a damaged file, or one that holds something else; nothing in it was unpickled
        :raises FileNotFoundError: there is no such file
        """
        return super().load(
            cls._open_checked(path), env, device, custom_objects, print_system_info, force_reset, **kwargs
        )

    def set_parameters(
        self,
        load_path_or_dict: str | TensorDict,
        exact_match: bool = True,
        device: torch.device | str = "auto",
    ) -> None:
        """Loads networks and optimisers from a file that :meth:`save` wrote, or from a dictionary, as SB3 does.

        :raises ValueError: a damaged file, or parameters that do not fit the model
        """
        if not isinstance(load_path_or_dict, dict):
            load_path_or_dict = self._open_checked(load_path_or_dict)  # type: ignore[assignment]
        super().set_parameters(load_path_or_dict, exact_match, device)

    @classmethod
    def _open_checked(cls, path: str | pathlib.Path | io.BufferedIOBase) -> io.BytesIO:
        if isinstance(path, str | pathlib.Path):
            path = existing_file(path, ".zip")
            whole, name = path.read_bytes(), str(path)
        else:
            path.seek(0)
            whole, name = path.read(), str(getattr(path, "name", "The stream"))
        kind = cls.__name__
        advice = f"Pass a file that save() wrote; {kind}.from_weights() reads those of save_weights()."
        return archive.open_checked(whole, name, cls.archive_members, f"{kind} model", advice)

    def save_weights(self, path: str | pathlib.Path) -> None:
        """Writes the networks and the constructor's arguments to a safetensors file, which holds no code, whole or not at all.

        ``path`` gets the suffix ``.safetensors`` if it has none. Functions and classes of your own among the arguments cannot
        be written: the file names them, and :meth:`from_weights` asks for them. Optimisers, replay buffer, ``device`` and
        ``tensorboard_log`` are left out. See :mod:`gsac.saving.weights` for the format.

        :raises ValueError: a space that cannot be written as JSON
        """
        weights.write_weights(path, self, self._constructor_arguments())

    @classmethod
    def from_weights(
        cls: type[SelfAlgorithm],
        path: str | pathlib.Path,
        env: GymEnv | str | None = None,
        device: torch.device | str = "auto",
        **arguments: Any,
    ) -> SelfAlgorithm:
        """Makes a model from a file that :meth:`save_weights` wrote. Nothing is unpickled, and no code in the file is run.

        :param env: to train or to evaluate in; its spaces must be those of the file. Not needed to predict
        :param device: where the networks run
        :param arguments: of the constructor, which replace those in the file; of dictionaries, entry by entry
        :raises ValueError: a damaged file, or one that holds something else; spaces or shapes that do not fit; an
            argument that the file could not hold and that is missing here
        :raises FileNotFoundError: there is no such file
        :raises TypeError: the constructor has no such argument
        """
        read = weights.read_weights(path)
        read = replace(read, arguments=upgraded(read.arguments))
        saved = argument_names(cls, lambda argument: argument.saved)
        complete = weights.merge_arguments(read, cls, constructor_parameters(cls), saved, arguments)
        if env is None:
            model = cls(env=None, device=device, _init_setup_model=False, **complete)  # type: ignore[call-arg]
            model.observation_space, model.action_space = read.observation_space, read.action_space
            model.n_envs = 1
            model._setup_model()
        else:
            wrapped = cls._wrap_env(maybe_make_env(env, 0), complete.get("verbose", 0))
            for name in ("observation_space", "action_space"):
                here, there = getattr(wrapped, name), getattr(read, name)
                if here != there:
                    raise ValueError(
                        f"The environment's {name} {here} is not that of the model in {read.path}, {there}: pass the "
                        "environment that it was trained on, wrapped as it was then."
                    )
            model = cls(env=wrapped, device=device, **complete)
        weights.restore_weights(read, model, keep=["log_ent_coef"] if "ent_coef" in arguments else [])
        return model

    def _constructor_arguments(self) -> dict[str, Any]:
        """The constructor's arguments that :meth:`save_weights` writes, by name."""
        saved = argument_names(type(self), lambda argument: argument.saved)
        return {name: getattr(self, f"_{name}" if name == "stats_window_size" else name) for name in saved}


def check_learning_rate(name: str, value: float | str | Schedule) -> Schedule:
    """Reads a schedule of learning rates.

    :raises TypeError: neither a number, a string nor a callable
    :raises ValueError: a string that describes no schedule, or a value below 0
    """
    return check_schedule(name, value, "a number of at least 0, or a schedule of such", is_at_least_0, 1e-3)
