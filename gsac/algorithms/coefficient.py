"""The entropy coefficient of an algorithm: learned, on a schedule, or fixed."""

from __future__ import annotations

import io
import math
import pathlib
from typing import Any, TypeVar

import torch
from stable_baselines3.common.save_util import load_from_zip_file

from gsac.algorithms.base import Algorithm
from gsac.algorithms.parsing import parse_ent_coef, parse_target_entropy
from gsac.optim.adam import FusedAdam
from gsac.schedules import Constant, Schedule

SelfCoefficient = TypeVar("SelfCoefficient", bound="EntropyCoefficient")


class EntropyCoefficient(Algorithm):
    """Makes what ``ent_coef`` and ``target_entropy`` ask for, and moves along their schedules.

    A learned coefficient is ``log_ent_coef`` with its optimiser, and part of a saved model. Otherwise ``ent_coef_tensor``
    follows from the argument alone, so that a model can be loaded with another.
    """

    ent_coef: float | str | Schedule
    target_entropy: str | float | Schedule
    log_ent_coef: torch.Tensor | None = None
    ent_coef_optimizer: torch.optim.Optimizer | None = None
    ent_coef_tensor: torch.Tensor | None = None
    _ent_coef_schedule: Schedule | None = None
    _target_entropy_schedule: Schedule | None = None

    def _check_ent_coef(self, max_entropy: float) -> None:
        """
        :param max_entropy: of the policy, in nats
        :raises ValueError: no such coefficient, a target that no policy has, or one that nothing aims at
        :raises TypeError: an argument of another kind
        """
        learned, ent_coef = parse_ent_coef(self.ent_coef)
        self._ent_coef_schedule = None if learned or isinstance(ent_coef, Constant) else ent_coef
        self._target_entropy_schedule = parse_target_entropy(self.target_entropy, max_entropy) if learned else None
        if not learned and self.target_entropy != "auto":
            raise ValueError(
                f"target_entropy={self.target_entropy!r} has no effect with ent_coef={self.ent_coef!r}, which is not learned: "
                "pass ent_coef='auto' to aim at it, or leave it out."
            )

    def _make_ent_coef(self) -> None:
        learned, ent_coef = parse_ent_coef(self.ent_coef)
        if learned:
            self.log_ent_coef = torch.full((1,), math.log(ent_coef(1.0)), device=self.device, requires_grad=True)
            self.ent_coef_optimizer = FusedAdam([self.log_ent_coef], lr=self.lr_schedule(1))
        else:
            self.ent_coef_tensor = torch.tensor(float(ent_coef(1.0)), device=self.device)

    def _update_ent_coef(self, target_fraction: torch.Tensor) -> None:
        """Moves the coefficient, or the target of a learned one [], to where its schedule is."""
        if self._target_entropy_schedule is not None:
            target_fraction.fill_(self._value_at(self._target_entropy_schedule))
        if self._ent_coef_schedule is not None:
            assert self.ent_coef_tensor is not None
            self.ent_coef_tensor.fill_(self._value_at(self._ent_coef_schedule))

    @classmethod
    def load(
        cls: type[SelfCoefficient], path: str | pathlib.Path | io.BufferedIOBase, *args: Any, **kwargs: Any
    ) -> SelfCoefficient:
        if "ent_coef" in kwargs:
            learned, _ = parse_ent_coef(kwargs["ent_coef"])
            _, parameters, _ = load_from_zip_file(cls._checked(path), device="cpu", load_data=False)
            was_learned = "ent_coef_optimizer" in parameters
            if learned != was_learned:
                was, is_ = ("learned" if each else "not learned" for each in (was_learned, learned))
                raise ValueError(
                    f"The model's entropy coefficient was {was}, and with ent_coef={kwargs['ent_coef']!r} it is {is_}, which "
                    f"load() cannot change: use save_weights() and {cls.__name__}.from_weights(path, ent_coef=...)."
                )
        return super().load(path, *args, **kwargs)
