"""Which replay buffer there is, and what it is built with."""

from __future__ import annotations

import warnings
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from gsac.algorithms.base import Algorithm
from gsac.replay.device_buffer import DeviceReplayBuffer
from gsac.replay.n_step import check_steps
from gsac.replay.prioritized import PrioritizedReplayBuffer
from gsac.replay.storage import free_bytes, replay_bytes

SUM_STEPS = (DeviceReplayBuffer, PrioritizedReplayBuffer)
"""Classes that take ``n_steps`` and ``gamma`` and sum rewards, which SB3 knows of its own class only."""


class ChosenBuffer(Algorithm, OffPolicyAlgorithm):
    """Remembers whether the buffer's class was the user's choice, and tells those of this package of n-step returns.

    Where the user chose none, transitions are stored on the device of the networks, unless that is a GPU and they take
    more than half of its free memory; then in SB3's buffers, on the host. For returns of several steps on the CPU it is
    SB3's as well, if it has one.
    """

    _chosen_buffer_class: type[ReplayBuffer] | None = None
    """What was chosen where the user chose none."""

    def _setup_networks_and_buffer(self) -> None:
        if self.replay_buffer_class is not None and self.replay_buffer_class is self._chosen_buffer_class:
            # SB3 stores its choice as if the user had made it, and warns about it when the model is loaded.
            self.replay_buffer_class = None
            self.replay_buffer_kwargs = {
                k: v for k, v in self.replay_buffer_kwargs.items() if k not in ("n_steps", "gamma")
            }
        chosen_by_user = self.replay_buffer_class is not None
        self._check_buffer()
        if not chosen_by_user and not self._sb3_sums_rewards() and self._fits_on_the_device():
            self.replay_buffer_class = DeviceReplayBuffer
        if self.n_steps > 1 and self.replay_buffer_class is None and isinstance(self.observation_space, spaces.Dict):
            raise ValueError(
                f"n_steps={self.n_steps} needs a replay buffer that sums rewards, and SB3 has none for Dict observations, "
                f"in the memory of the host: pass replay_buffer_class=gsac.DeviceReplayBuffer to store them on "
                f"{str(self.device)!r}, a smaller buffer_size, or n_steps=1."
            )
        if self.replay_buffer_class is not None and issubclass(self.replay_buffer_class, SUM_STEPS):
            self._setup_with_steps_passed_on()
        else:
            super()._setup_model()
        self._chosen_buffer_class = None if chosen_by_user else self.replay_buffer_class

    def _check_buffer(self) -> None:
        chosen = self.replay_buffer_class
        if chosen is not None and not (isinstance(chosen, type) and issubclass(chosen, ReplayBuffer)):
            raise TypeError(
                f"replay_buffer_class={chosen!r} is no class of replay buffers: pass one, such as gsac.PrioritizedReplayBuffer."
            )
        for name in ("n_steps", "gamma"):
            if chosen is None and name in self.replay_buffer_kwargs:
                given = self.replay_buffer_kwargs[name]
                raise ValueError(
                    f"replay_buffer_kwargs={self.replay_buffer_kwargs!r}: {name} is an argument of the algorithm, which "
                    f"passes it on. Write {name}={given!r} beside replay_buffer_kwargs."
                )
        if chosen is None:
            check_steps(self.n_steps, self.gamma, self.optimize_memory_usage)

    def _sb3_sums_rewards(self) -> bool:
        """Whether SB3 has a buffer of its own for returns of several steps, which its users expect, and no GPU waits."""
        in_arrays = not isinstance(self.observation_space, spaces.Dict)
        return self.device.type == "cpu" and self.n_steps > 1 and in_arrays

    def _fits_on_the_device(self) -> bool:
        if self.device.type == "cpu":
            return True
        # VecNormalize computes on the host, and would have each sample sent there and back.
        if self.device.type != "cuda" or self._vec_normalize_env is not None:
            return False
        needed = replay_bytes(
            self.buffer_size, self._stored_space(), self.action_space, self.n_envs, self.optimize_memory_usage
        )
        free = free_bytes(self.device)
        if free is not None and needed <= free // 2:
            return True
        if self.verbose >= 1:
            print(
                f"The replay buffer stays on the host: {self.buffer_size:,} transitions take {needed / 1e9:.2f} GB, more "
                f"than half of the {(free or 0) / 1e9:.2f} GB that are free on the device {str(self.device)!r}."
            )
        return False

    def _stored_space(self) -> spaces.Space[Any]:
        """Of the observations as they will be stored."""
        return self.observation_space

    def _buffer_arguments(self) -> dict[str, Any]:
        given = dict(self.replay_buffer_kwargs)
        if self.replay_buffer_class is not None and issubclass(self.replay_buffer_class, SUM_STEPS):
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
