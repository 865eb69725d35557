"""What a machine can do at best, and what a piece of work asks of it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timing
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

MATRIX_SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
COPY_MEGABYTES = {"cpu": 256, "cuda": 1024}
"""Beyond the caches."""

MOVES_NOTHING = {
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
}
"""Operations that are no views to PyTorch and still leave all data where it is."""


def device_name(device: str) -> str:
    """Of the GPU, or of the CPU as far as the system tells."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    found = {"device": device_name(device), "cores": os.cpu_count(), "platform": platform.machine()}
    return found if device == "cpu" else found | {"cuda": torch.version.cuda, "host": device_name("cpu")}


def file_name(device: str) -> str:
    """The device's name as a part of a file's name.

    >>> file_name("cpu")
    'cpu'
    """
    return "cpu" if device == "cpu" else re.sub(r"\W+", "_", device_name(device)).strip("_").lower()


def best_seconds(task: Callable[[], Any], device: str, rounds: int = 5) -> float:
    """The least wall time of a call, over some rounds after a first one."""
    return min(timing.in_turn({"": lambda _: task()}, timing.clock(device), rounds, seconds_a_turn=0.0)[""])


def matmul_gflops(device: str, sizes: Iterable[int] | None = None) -> float:
    """10^9 operations a second in the best product of square float32 matrices, with PyTorch's present threads."""
    best = 0.0
    for size in sizes or MATRIX_SIZES[torch.device(device).type]:
        a, b = (torch.randn(size, size, device=device) for _ in range(2))
        out = torch.empty_like(a)
        best = max(best, 2 * size**3 / best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device) / 1e9)
    return best


def copy_gigabytes(device: str, megabytes: int | None = None) -> float:
    """10^9 bytes a second, read and written, in copying a tensor that no cache holds."""
    megabytes = megabytes or COPY_MEGABYTES[torch.device(device).type]
    source = torch.ones(megabytes * 250_000, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / best_seconds(lambda: target.copy_(source), device) / 1e9


@dataclass(frozen=True)
class Work:
    """What a piece of work asks for.

    :param flops: of its matrix products; a multiplication and an addition count as two
    :param bytes: that its operations read and write, each by itself as eager PyTorch runs them
    :param operations: that read or write anything
    """

    flops: int
    bytes: int
    operations: int


class Traffic(TorchDispatchMode):
    """Counts the bytes of all tensors that operations take and give. Views move nothing and count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func not in MOVES_NOTHING:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.operations += bool(tensors)
        return out


def work_of(task: Callable[[], Any]) -> Work:
    """What one call asks for."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        task()
    return Work(flops.get_total_flops(), traffic.bytes, traffic.operations)


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """How long at least one of the intervals lasts, each given by start and end.

    >>> union_seconds([(0, 2), (1, 3), (5, 6)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total


def busy_seconds(task: Callable[[], Any], device: str) -> float:
    """How long the GPU runs kernels and copies during a call, at one time or several."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        task()
        torch.cuda.synchronize(device)
    on_device = [
        event
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    ]
    return union_seconds((event.time_range.start / 1e6, event.time_range.end / 1e6) for event in on_device)
