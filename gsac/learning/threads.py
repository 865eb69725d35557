"""How many CPU threads an update may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_NETWORK = 4_000_000
"""Below so many parameters, a second thread costs more in waiting than it gives, above all on a shared machine."""


def choose_threads(wanted: int | str, n_parameters: int, device: torch.device) -> int:
    """The number of threads for networks of this size.

    :param wanted: a number, or ``"auto"``: one for small networks on the CPU, unless ``OMP_NUM_THREADS`` says
        otherwise; else what PyTorch is set to
    """
    if wanted != "auto":
        return int(wanted)
    if device.type == "cpu" and n_parameters < SMALL_NETWORK and not os.environ.get("OMP_NUM_THREADS"):
        return 1
    return torch.get_num_threads()


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """PyTorch works with ``n`` threads inside, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
