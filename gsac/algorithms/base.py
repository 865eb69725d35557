"""What the algorithms of this package share, whichever of SB3's they build upon."""

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

from gsac.algorithms.arguments import check_number, check_table, names, parameters, upgraded
from gsac.algorithms.parsing import check_schedule, is_learning_rate
from gsac.learning.threads import choose_threads, torch_threads
from gsac.networks.observations import check_observation_space
from gsac.optim.adam import set_learning_rate
from gsac.saving import archive, weights
from gsac.saving.files import atomic_write, existing_file
from gsac.schedules import Schedule, value_at

SelfAlgorithm = TypeVar("SelfAlgorithm", bound="Algorithm")


class Algorithm(BaseAlgorithm):
    """Schedules from strings, checked files, a fitting number of threads.

    A subclass names it before the class of SB3 that it builds upon, whose methods this class extends.
    """

    archive_members: ClassVar[tuple[str, ...]]
    """What a zip file of such a model holds at least."""
    max_grad_norm: Any  # a number or None; SB3's on-policy algorithms declare a number
    num_threads: int | str

    def _check_shared_arguments(self) -> None:
        check_table(self)
        check_observation_space(self.observation_space)
        if self.max_grad_norm is not None:
            check_number(
                "max_grad_norm", self.max_grad_norm, "a number above 0, or None", lambda value: value > 0, 10.0
            )
        if self.num_threads != "auto":
            check_number("num_threads", self.num_threads, "'auto', 1, 2, ...", lambda value: value >= 1, 1)
        check_learning_rate("learning_rate", self.learning_rate)
        for name in ("policy_kwargs", "replay_buffer_kwargs"):
            if not isinstance(getattr(self, name, {}), dict):
                raise TypeError(
                    f"{name}={getattr(self, name)!r} is no dictionary: pass names and values, as in {{'a': 1}}."
                )

    def _setup_lr_schedule(self) -> None:
        self.lr_schedule = FloatSchedule(check_learning_rate("learning_rate", self.learning_rate))

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        # Whoever wants to freeze a model replaces lr_schedule, as in SB3; inside ours is the schedule with its own clock.
        learning_rate = self._value_at(getattr(self.lr_schedule, "value_schedule", self.lr_schedule))
        self.logger.record("train/learning_rate", learning_rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            set_learning_rate(optimizer, learning_rate)

    def _value_at(self, schedule: Schedule) -> float:
        # The last steps may go beyond the run's end, and no schedule was made for that.
        return value_at(schedule, max(self._current_progress_remaining, 0.0), self._n_updates)

    @property
    def remaining_timesteps(self) -> int:
        """Steps that the last ``learn()`` was to make and has not made yet."""
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
        """Saves as SB3 does, and writes the file whole or not at all: an older one is kept until then.

        It holds everything but the replay buffer, as a zip archive with pickled objects and a checksum. Other people
        can load it only if they trust you with their machine, see :meth:`load`; :meth:`save_weights` is for them.
        """
        buffer = io.BytesIO()
        super().save(buffer, exclude, include)
        whole = archive.sealed(buffer.getvalue())
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
        """Loads what :meth:`save` or SB3 wrote, once the file is known to be whole.

        **The file can run any code**, since Python objects are pickled in it: load only what you or people you trust
        have made. :meth:`from_weights` has no such danger. The parameters are those of SB3.

        :raises ValueError: a damaged file, or one that holds something else; nothing in it has been unpickled
        :raises FileNotFoundError: there is no such file
        """
        return super().load(cls._checked(path), env, device, custom_objects, print_system_info, force_reset, **kwargs)

    def set_parameters(
        self,
        load_path_or_dict: str | TensorDict,
        exact_match: bool = True,
        device: torch.device | str = "auto",
    ) -> None:
        """Gives the model the networks of a file that :meth:`save` wrote, or of a dictionary, as SB3 does.

        :raises ValueError: a damaged file, or parameters that are not the model's
        """
        if not isinstance(load_path_or_dict, dict):
            load_path_or_dict = self._checked(load_path_or_dict)  # type: ignore[assignment]
        super().set_parameters(load_path_or_dict, exact_match, device)

    @classmethod
    def _checked(cls, path: str | pathlib.Path | io.BufferedIOBase) -> io.BytesIO:
        if isinstance(path, str | pathlib.Path):
            path = existing_file(path, ".zip")
            whole, name = path.read_bytes(), str(path)
        else:
            path.seek(0)
            whole, name = path.read(), str(getattr(path, "name", "The stream"))
        kind = cls.__name__
        advice = f"Pass a file that save() wrote; {kind}.from_weights() reads those of save_weights()."
        return archive.checked(whole, name, cls.archive_members, f"{kind} model", advice)

    def save_weights(self, path: str | pathlib.Path) -> None:
        """Writes the networks and the constructor's arguments to a file without code, whole or not at all.

        It is a safetensors file, see :mod:`gsac.saving.weights`, and gets that suffix where ``path`` has none.
        Arguments that are functions or classes of your own cannot be written: the file names them, and
        :meth:`from_weights` asks for them. The optimisers' state, the replay buffer, ``device`` and ``tensorboard_log``
        are left out.

        :raises ValueError: a space that has no form in JSON
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
        """The model that :meth:`save_weights` wrote. No code in the file is run, and nothing is unpickled.

        :param env: to train on or to evaluate with; its spaces must be those of the file. Not needed to predict
        :param device: where the networks run
        :param arguments: of the constructor, which replace those in the file; of ``policy_kwargs`` entry by entry
        :raises ValueError: a damaged file, or one that holds something else; spaces or shapes that do not fit; an
            argument that the file could not hold and that is not given here
        :raises FileNotFoundError: there is no such file
        :raises TypeError: the constructor has no such argument
        """
        read = weights.read_weights(path)
        read = replace(read, arguments=upgraded(read.arguments))
        saved = names(cls, lambda argument: argument.saved)
        complete = weights.complete_arguments(read, cls, parameters(cls), saved, arguments)
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
        weights.put_back(read, model, keep=["log_ent_coef"] if "ent_coef" in arguments else [])
        return model

    def _constructor_arguments(self) -> dict[str, Any]:
        """As they were given, but for those that are no part of a model."""
        saved = names(type(self), lambda argument: argument.saved)
        return {name: getattr(self, f"_{name}" if name == "stats_window_size" else name) for name in saved}


def check_learning_rate(name: str, value: float | str | Schedule) -> Schedule:
    """The schedule that ``value`` stands for.

    :raises TypeError: neither a number, a string nor a callable
    :raises ValueError: a string that describes no schedule, or a value below 0
    """
    return check_schedule(name, value, "a number of at least 0, or a schedule of such", is_learning_rate, 1e-3)
