"""Limits PyTorch's CPU threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_NETWORK = 4_000_000
"""Parameters below which a second thread costs more than it gives, above all on a shared machine."""


def choose_threads(wanted: int | str, n_parameters: int, device: torch.device) -> int:
    """Resolves ``"auto"`` to a number of threads.

    :param wanted: a number, which is returned, or ``"auto"``: one for small networks on the CPU, unless the environment
        variable ``OMP_NUM_THREADS`` is set; else PyTorch's current number
    """
    if wanted != "auto":
        return int(wanted)
    if device.type == "cpu" and n_parameters < SMALL_NETWORK and not os.environ.get("OMP_NUM_THREADS"):
        return 1
    return torch.get_num_threads()


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Sets PyTorch's number of threads inside the block, and puts it back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
