"""Rows on a device that are written on the host, many at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsac.replay.storage import Field

MOST_WAITING = 1024
MOST_WAITING_BYTES = 2**25
"""How many rows wait on the host at most, and how much of its memory they take: one row may always wait."""


def shares_memory(device: torch.device) -> bool:
    """Whether the host can write where the rows are stored."""
    return device.type == "cpu"


class DeviceRows:
    """A ring of rows, stored on a device; new ones wait on the host for one copy of them all.

    Where the host can write into the storage, nothing waits and nothing is copied.

    :param fields: what a row consists of, for each environment
    :param n_rows: which the ring holds
    :param n_envs: environments, whose entries are beside each other in a row
    :param device: on the CPU, memory is taken when it is first used, elsewhere at once
    """

    stored: dict[str, Tensor]
    """[n_rows, n_envs, ...]"""
    waiting: dict[str, np.ndarray]
    """Where rows are to be written, see :meth:`place`. One row longer than what may wait, for what belongs to the next
    row already; where nothing waits, the storage itself."""
    n_waiting: int

    def __init__(self, fields: Mapping[str, Field], n_rows: int, n_envs: int, device: torch.device) -> None:
        self.device, self.n_rows, self.n_waiting = device, n_rows, 0
        shapes = {name: (n_envs, *field.shape) for name, field in fields.items()}
        self.stored = {name: _zeros((n_rows, *shapes[name]), fields[name].dtype, device) for name in fields}
        self._sources: dict[str, Tensor] | None = None
        self._copied: torch.cuda.Event | None = None
        self._pinned = device.type == "cuda"
        if shares_memory(device):
            self._most_waiting = None
            self.waiting = {name: values.numpy() for name, values in self.stored.items()}
            return
        row_bytes = n_envs * sum(field.n_bytes for field in fields.values())
        self._most_waiting = min(n_rows, MOST_WAITING, max(MOST_WAITING_BYTES // row_bytes, 1))
        self._sources = {
            name: torch.zeros((self._most_waiting + 1, *shapes[name]), dtype=values.dtype, pin_memory=self._pinned)
            for name, values in self.stored.items()
        }
        self.waiting = {name: source.numpy() for name, source in self._sources.items()}

    @property
    def none_can_wait(self) -> bool:
        return self.n_waiting == self._most_waiting

    def place(self, position: int) -> int:
        """Where in :attr:`waiting` to write the row that is to have this position in the ring."""
        if self._copied is not None:
            self._copied.synchronize()  # the last copy reads from there
            self._copied = None
        return position if self._sources is None else self.n_waiting

    def store(self, end: int, followed: str | None = None) -> None:
        """Stores what waits, so that the newest row is the one before ``end``.

        :param followed: how the names of those fields begin whose row after the newest is stored as well
        :raises RuntimeError: a CUDA graph is being captured, which would store the same rows at each replay
        """
        if self._sources is not None and self.n_waiting > 0:
            if self._pinned and torch.cuda.is_current_stream_capturing():
                raise RuntimeError(
                    f"{self.n_waiting} rows wait to be stored while a CUDA graph is captured, which would store them "
                    "at each replay: call flush() of the replay buffer before capturing."
                )
            begin = (end - self.n_waiting) % self.n_rows
            for name, source in self._sources.items():
                n_copied = self.n_waiting + (followed is not None and name.startswith(followed))
                self._copy(source[:n_copied], self.stored[name], begin)
            if self._pinned:
                self._copied = torch.cuda.Event()
                self._copied.record()
        self.n_waiting = 0

    def _copy(self, source: Tensor, stored: Tensor, begin: int) -> None:
        """In one piece, or in two where the ring ends."""
        while len(source) > 0:
            target = stored[begin : begin + len(source)]
            target.copy_(source[: len(target)], non_blocking=self._pinned)
            source, begin = source[len(target) :], 0

    def contents(self, n_rows: int) -> dict[str, Tensor]:
        """The first rows that are stored."""
        return {name: values[:n_rows] for name, values in self.stored.items()}

    def put(self, contents: Mapping[str, Tensor]) -> None:
        """What :meth:`contents` gave, from any device."""
        for name, values in contents.items():
            self.stored[name][: len(values)].copy_(values)


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any], device: torch.device) -> Tensor:
    if shares_memory(device):
        return torch.from_numpy(np.zeros(shape, dtype))  # unlike torch.zeros, takes memory page by page
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.zeros(shape, dtype=kind, device=device)
