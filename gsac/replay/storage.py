"""The fields of a stored transition, the memory that a replay buffer takes, and the memory that is free."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape

try:  # optional, as in SB3, which measures the host's memory by it as well
    import psutil
except ImportError:
    psutil = None

REWARD, DONE, TIMEOUT = range(3)
"""The columns of the field ``outcomes``."""


class Field(NamedTuple):
    """The shape and type of what is stored for one step of one environment."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def stored_fields(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], optimize_memory_usage: bool = False
) -> dict[str, Field]:
    """The fields of a transition by name: ``observations/key`` for each key of a ``Dict``, ``observations/`` for arrays.

    :param optimize_memory_usage: without next observations
    """
    parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
    fields = {}
    for name in ("observations",) if optimize_memory_usage else ("observations", "next_observations"):
        for key, part in parts.items():
            shape = get_obs_shape(part)
            assert isinstance(shape, tuple)
            fields[f"{name}/{key}"] = Field(shape, np.dtype(part.dtype))
    action_type = ReplayBuffer._maybe_cast_dtype(action_space.dtype)
    fields["actions"] = Field((get_action_dim(action_space),), np.dtype(action_type))
    fields["outcomes"] = Field((3,), np.dtype(np.float32))
    return fields


def replay_bytes(
    buffer_size: int,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    n_envs: int = 1,
    optimize_memory_usage: bool = False,
) -> int:
    """The bytes that a :class:`gsac.DeviceReplayBuffer` of ``buffer_size`` transitions takes.

    >>> replay_bytes(1_000_000, spaces.Box(-1, 1, (4,)), spaces.Discrete(2))  # 2 * 4 * 4 + 8 + 3 * 4 for each
    52000000
    """
    fields = stored_fields(observation_space, action_space, optimize_memory_usage)
    return max(buffer_size // n_envs, 1) * n_envs * sum(field.n_bytes for field in fields.values())


def free_bytes(device: torch.device) -> int | None:
    """The bytes that are free on the device now, None if unknown."""
    if device.type == "cuda":
        # The driver counts as used what PyTorch's allocator holds for its next tensors.
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    if device.type == "cpu" and psutil is not None:
        return int(psutil.virtual_memory().available)
    return None


def check_free(needed: int, n_transitions: int, device: torch.device) -> None:
    """Raises an error if less memory is free than a replay buffer needs; on the CPU, where it is taken as used, warns.

    :param needed: bytes
    :param n_transitions: that need them
    :raises ValueError: less is free on a GPU
    """
    free = free_bytes(device)
    if free is None or needed <= free:
        return
    found = (
        f"A replay buffer of {n_transitions:,} transitions takes {needed:,} bytes ({needed / 1e9:.2f} GB), and "
        f"{free:,} bytes ({free / 1e9:.2f} GB) are free on the device {str(device)!r}"
    )
    if device.type == "cpu":
        warnings.warn(f"{found}.", stacklevel=2)
        return
    raise ValueError(
        f"{found}: pass a smaller one, such as buffer_size={free // 2 * n_transitions // needed} for half of that; "
        "optimize_memory_usage=True with replay_buffer_kwargs={'handle_timeout_termination': False}, which stores each "
        "observation once; or replay_buffer_class=stable_baselines3.common.buffers.ReplayBuffer (DictReplayBuffer for "
        "Dict observations), which stays in the host's memory."
    )
