"""A ring of rows on a device, to which the host copies many new rows at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsac.replay.storage import Field

MAX_PENDING_ROWS = 1024
MAX_PENDING_BYTES = 2**25
"""The most rows that are held on the host, and the most memory for them; at least one row is held in any case."""


def shares_memory(device: torch.device) -> bool:
    """Whether the device's memory is the host's, so that NumPy can write into it."""
    return device.type == "cpu"


class DeviceRows:
    """A ring of rows, stored on a device. New rows are pending on the host until :meth:`store` copies all of them at once.

    On the CPU rows are written where they stay: none is pending, and nothing is copied.

    :param fields: the contents of a row, for each environment
    :param n_rows: the number of rows in the ring
    :param n_envs: environments; a row has an entry for each
    :param device: on the CPU memory is taken as it is used, elsewhere at once
    """

    stored: dict[str, Tensor]
    """[n_rows, n_envs, ...]"""
    pending: dict[str, np.ndarray]
    """The arrays that new rows are written to, at :meth:`pending_index`. One row longer than the most pending rows, for an
    observation that belongs to the next row already; on the CPU the storage itself."""
    n_pending: int
    """The number of rows that have been written since :meth:`store`"""

    def __init__(self, fields: Mapping[str, Field], n_rows: int, n_envs: int, device: torch.device) -> None:
        self.device, self.n_rows, self.n_pending = device, n_rows, 0
        shapes = {name: (n_envs, *field.shape) for name, field in fields.items()}
        self.stored = {name: _zeros((n_rows, *shapes[name]), fields[name].dtype, device) for name in fields}
        self._sources: dict[str, Tensor] | None = None
        self._copied: torch.cuda.Event | None = None
        self._pinned = device.type == "cuda"
        if shares_memory(device):
            self._max_pending = None
            self.pending = {name: values.numpy() for name, values in self.stored.items()}
            return
        row_bytes = n_envs * sum(field.n_bytes for field in fields.values())
        self._max_pending = min(n_rows, MAX_PENDING_ROWS, max(MAX_PENDING_BYTES // row_bytes, 1))
        self._sources = {
            name: torch.zeros((self._max_pending + 1, *shapes[name]), dtype=values.dtype, pin_memory=self._pinned)
            for name, values in self.stored.items()
        }
        self.pending = {name: source.numpy() for name, source in self._sources.items()}

    @property
    def must_store(self) -> bool:
        """Whether :meth:`store` must be called before the next row is written."""
        return self.n_pending == self._max_pending

    def pending_index(self, position: int) -> int:
        """The index in :attr:`pending` at which to write the row for this position in the ring."""
        if self._copied is not None:
            self._copied.synchronize()  # the last copy may still read these rows
            self._copied = None
        return position if self._sources is None else self.n_pending

    def store(self, end: int, followed: str | None = None) -> None:
        """Copies the pending rows to the device; the newest one goes to the position before ``end``.

        :param followed: prefix of the names of fields of which one more row, after the newest, is copied as well
        :raises RuntimeError: a CUDA graph is being captured, which would copy the same rows at each replay
        """
        if self._sources is not None and self.n_pending > 0:
            if self._pinned and torch.cuda.is_current_stream_capturing():
                raise RuntimeError(
                    f"{self.n_pending} rows are not stored yet while a CUDA graph is captured, which would store them "
                    "at each replay: call flush() of the replay buffer before capturing."
                )
            begin = (end - self.n_pending) % self.n_rows
            for name, source in self._sources.items():
                n_copied = self.n_pending + (followed is not None and name.startswith(followed))
                self._copy(source[:n_copied], self.stored[name], begin)
            if self._pinned:
                self._copied = torch.cuda.Event()
                self._copied.record()
        self.n_pending = 0

    def _copy(self, source: Tensor, stored: Tensor, begin: int) -> None:
        """Copies in one piece, or in two if the rows pass the end of the ring."""
        while len(source) > 0:
            target = stored[begin : begin + len(source)]
            target.copy_(source[: len(target)], non_blocking=self._pinned)
            source, begin = source[len(target) :], 0

    def contents(self, n_rows: int) -> dict[str, Tensor]:
        """The first ``n_rows`` stored rows of each field, without a copy."""
        return {name: values[:n_rows] for name, values in self.stored.items()}

    def put(self, contents: Mapping[str, Tensor]) -> None:
        """Stores rows that :meth:`contents` returned, on any device, from the first row on."""
        for name, values in contents.items():
            self.stored[name][: len(values)].copy_(values)


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any], device: torch.device) -> Tensor:
    if shares_memory(device):
        return torch.from_numpy(np.zeros(shape, dtype))  # unlike torch.zeros, takes memory page by page as it is used
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.zeros(shape, dtype=kind, device=device)
