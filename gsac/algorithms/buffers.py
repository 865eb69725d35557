"""Which replay buffer there is, and what it is built with."""

from __future__ import annotations

import warnings
from typing import Any

from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from gsac.algorithms.base import Algorithm
from gsac.training.prioritized import PrioritizedReplayBuffer


class ChosenBuffer(Algorithm, OffPolicyAlgorithm):
    """Remembers whether the buffer's class was the user's choice, and tells prioritised buffers of n-step returns."""

    _chosen_buffer_class: type[ReplayBuffer] | None = None
    """SB3's choice, where the user made none."""

    def _setup_networks_and_buffer(self) -> None:
        if self.replay_buffer_class is not None and self.replay_buffer_class is self._chosen_buffer_class:
            # SB3 stores its choice as if the user had made it, and warns about it when the model is loaded.
            self.replay_buffer_class = None
            self.replay_buffer_kwargs = {
                k: v for k, v in self.replay_buffer_kwargs.items() if k not in ("n_steps", "gamma")
            }
        chosen_by_user = self.replay_buffer_class is not None
        if self.replay_buffer_class is not None and issubclass(self.replay_buffer_class, PrioritizedReplayBuffer):
            self._setup_with_steps_passed_on()
        else:
            super()._setup_model()
        self._chosen_buffer_class = None if chosen_by_user else self.replay_buffer_class

    def _buffer_arguments(self) -> dict[str, Any]:
        given = dict(self.replay_buffer_kwargs)
        if self.replay_buffer_class is not None and issubclass(self.replay_buffer_class, PrioritizedReplayBuffer):
            return {"n_steps": self.n_steps, "gamma": self.gamma, **given}
        return given

    def _setup_with_steps_passed_on(self) -> None:
        given = self.replay_buffer_kwargs
        self.replay_buffer_kwargs = self._buffer_arguments()
        with warnings.catch_warnings():
            # SB3 does not know that this class sums rewards.
            warnings.filterwarnings("ignore", "`n_steps=.*is ignored")
            super()._setup_model()
        self.replay_buffer_kwargs = given

    def _constructor_arguments(self) -> dict[str, Any]:
        arguments = super()._constructor_arguments()
        if self.replay_buffer_class is self._chosen_buffer_class:
            arguments["replay_buffer_class"] = None
            kwargs = self.replay_buffer_kwargs.items()
            arguments["replay_buffer_kwargs"] = {k: v for k, v in kwargs if k not in ("n_steps", "gamma")}
        return arguments
