"""Builds the replay buffer of an algorithm: of the user's class, or of one that we pick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from gsac.replay.device_buffer import DeviceReplayBuffer
from gsac.replay.n_step import check_steps
from gsac.replay.prioritized import PrioritizedReplayBuffer
from gsac.replay.storage import free_bytes, replay_bytes

TAKE_N_STEPS = (DeviceReplayBuffer, PrioritizedReplayBuffer)
"""Classes that get the algorithm's ``n_steps`` and ``gamma`` also where the user chose the class."""


@dataclass(frozen=True)
class BufferRequest:
    """Everything that a replay buffer is built with.

    :param kind: the class; None lets :meth:`resolved` pick it
    :param buffer_size: transitions, over all environments
    :param observation_space: of the stored observations, with masks if there are any
    :param device: of the samples, and of the storage of a :class:`gsac.DeviceReplayBuffer`
    :param kwargs: further arguments of the constructor
    """

    kind: type[ReplayBuffer] | None
    buffer_size: int
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    device: torch.device
    n_envs: int
    optimize_memory_usage: bool
    n_steps: int
    gamma: float
    kwargs: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuses a request that cannot be built.

        :raises TypeError: ``kind`` is no class of replay buffers
        :raises ValueError: ``n_steps`` or ``gamma`` among ``kwargs`` of a buffer that we pick, or n-step returns together
            with storage that has no next observations
        """
        if self.kind is not None and not (isinstance(self.kind, type) and issubclass(self.kind, ReplayBuffer)):
            raise TypeError(
                f"replay_buffer_class={self.kind!r} is no class of replay buffers: pass one, such as gsac.PrioritizedReplayBuffer."
            )
        if self.kind is not None:
            return
        for name in ("n_steps", "gamma"):
            if name in self.kwargs:
                raise ValueError(
                    f"replay_buffer_kwargs={self.kwargs!r}: {name} is an argument of the algorithm, which "
                    f"passes it on. Write {name}={self.kwargs[name]!r} beside replay_buffer_kwargs."
                )
        check_steps(self.n_steps, self.gamma, self.optimize_memory_usage)

    def resolved(self, stays_on_host: bool = False, verbose: int = 0) -> BufferRequest:
        """The request with the user's class, or with one that we pick.

        We pick storage on the device of the networks; SB3's buffers on the host, if that would take more than half of a GPU's
        free memory; and SB3's n-step buffer for arrays on the CPU, since its users expect it there.

        :param stays_on_host: whether samples are processed on the host, as by ``VecNormalize``
        :param verbose: 1 prints that a buffer stays on the host for its size
        :raises ValueError: n-step returns of dictionaries on the host, for which SB3 has no buffer
        """
        if self.kind is not None:
            return self
        arrays = not isinstance(self.observation_space, spaces.Dict)
        kind: type[ReplayBuffer]
        if not self._sb3_sums_rewards and self._fits_on_device(stays_on_host, verbose):
            kind = DeviceReplayBuffer
        elif self.n_steps > 1 and not arrays:
            raise ValueError(
                f"n_steps={self.n_steps} needs a replay buffer that sums rewards, and SB3 has none for Dict observations, "
                f"in the memory of the host: pass replay_buffer_class=gsac.DeviceReplayBuffer to store them on "
                f"{str(self.device)!r}, a smaller buffer_size, or n_steps=1."
            )
        elif self.n_steps > 1:
            kwargs = {**self.kwargs, "n_steps": self.n_steps, "gamma": self.gamma}
            return replace(self, kind=NStepReplayBuffer, kwargs=kwargs)
        else:
            kind = ReplayBuffer if arrays else DictReplayBuffer
        return replace(self, kind=kind)

    @property
    def takes_n_steps(self) -> bool:
        """Whether ``n_steps`` and ``gamma`` are passed to the class, also if the user chose it."""
        return self.kind is not None and issubclass(self.kind, TAKE_N_STEPS)

    def build(self, env: Any) -> ReplayBuffer:
        """Makes an empty buffer of the class.

        :param env: SB3's vectorised environment, which hindsight replay asks for rewards
        """
        assert self.kind is not None
        kwargs = dict(self.kwargs)
        if self.takes_n_steps:
            kwargs = {"n_steps": self.n_steps, "gamma": self.gamma, **kwargs}
        if issubclass(self.kind, HerReplayBuffer):
            assert env is not None, "You must pass an environment when using `HerReplayBuffer`"
            kwargs["env"] = env
        return self.kind(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            **kwargs,
        )

    @property
    def _sb3_sums_rewards(self) -> bool:
        """Whether these are n-step returns of arrays on the CPU, for which SB3 has a buffer."""
        arrays = not isinstance(self.observation_space, spaces.Dict)
        return self.device.type == "cpu" and self.n_steps > 1 and arrays

    def _fits_on_device(self, stays_on_host: bool, verbose: int) -> bool:
        if self.device.type == "cpu":
            return True
        if self.device.type != "cuda" or stays_on_host:
            return False
        needed = replay_bytes(
            self.buffer_size, self.observation_space, self.action_space, self.n_envs, self.optimize_memory_usage
        )
        free = free_bytes(self.device)
        if free is not None and needed <= free // 2:
            return True
        if verbose >= 1:
            print(
                f"The replay buffer stays on the host: {self.buffer_size:,} transitions take {needed / 1e9:.2f} GB, more "
                f"than half of the {(free or 0) / 1e9:.2f} GB that are free on the device {str(self.device)!r}."
            )
        return False
