"""Measures times that can be compared, the limits of the machine, and the operations of a piece of work.

Everything that is compared takes turns, round by round, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

Key = TypeVar("Key")


def clock(device: str, threads: int | None = None) -> Callable[[], float]:
    """Chooses a clock: CPU time for one CPU thread, or else wall time, on a GPU after synchronising."""
    if device == "cpu":
        return time.process_time if threads == 1 else time.perf_counter

    def synchronized() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return synchronized


def in_turn(
    tasks: Mapping[Key, Callable[[int], Any]], now: Callable[[], float], rounds: int, seconds_a_turn: float
) -> dict[Key, list[float]]:
    """Times tasks in turn. Returns the seconds of a repetition of each task, one number a round.

    A task is called with how often it is to repeat itself. Each is called twice beforehand, to warm up and to find how
    many repetitions fill a turn; in every round the next task in the row begins.
    """
    repetitions = {}
    for key, task in tasks.items():
        task(1)
        once = elapsed(task, 1, now)
        repetitions[key] = max(1, math.ceil(seconds_a_turn / max(once, 1e-6)) if once < seconds_a_turn else 1)
    seconds: dict[Key, list[float]] = {key: [] for key in tasks}
    order = list(tasks)
    for _ in range(rounds):
        for key in order:
            seconds[key].append(elapsed(tasks[key], repetitions[key], now) / repetitions[key])
        order.append(order.pop(0))
    return seconds


def repeated(task: Callable[[], Any]) -> Callable[[int], None]:
    """Makes a task for :func:`in_turn` of a function that does its work once."""

    def repeat(repetitions: int) -> None:
        for _ in range(repetitions):
            task()

    return repeat


def elapsed(task: Callable[[int], Any], repetitions: int, now: Callable[[], float]) -> float:
    """The seconds of one call."""
    start = now()
    task(repetitions)
    return now() - start


def spread(values: list[float], factor: float = 1.0) -> dict[str, float]:
    """The median, minimum and maximum, to four digits."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{factor * value:.4g}") for name, value in found.items()}


def ratios(of: list[float], to: list[float]) -> dict[str, float]:
    """The spread of how many times faster one task is than another, round by round."""
    return spread([other / own for own, other in zip(of, to, strict=True)])


MATRIX_SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
COPY_MEGABYTES = {"cpu": 256, "cuda": 1024}
"""Beyond the caches."""

MOVES_NOTHING = {
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
}
"""Operations that move no data although they are no views to PyTorch."""


def device_name(device: str) -> str:
    """The name of the GPU, or of the CPU as far as the system names it."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def machine(device: str) -> dict[str, Any]:
    """Describes the machine that times depend on."""
    found = {"device": device_name(device), "cores": os.cpu_count(), "platform": platform.machine()}
    return found if device == "cpu" else found | {"cuda": torch.version.cuda, "host": device_name("cpu")}


def file_name(device: str) -> str:
    """The device's name for use in a file name.

    >>> file_name("cpu")
    'cpu'
    """
    return "cpu" if device == "cpu" else re.sub(r"\W+", "_", device_name(device)).strip("_").lower()


def best_seconds(task: Callable[[], Any], device: str, rounds: int = 5) -> float:
    """The least wall time of a call, over some rounds after a first one."""
    return min(in_turn({"": repeated(task)}, clock(device), rounds, seconds_a_turn=0.0)[""])


def matmul_gflops(device: str, sizes: Iterable[int] | None = None) -> float:
    """Measures the highest rate of float32 matrix products, in 10^9 operations a second, with PyTorch's present threads."""
    best = 0.0
    for size in sizes or MATRIX_SIZES[torch.device(device).type]:
        a, b = (torch.randn(size, size, device=device) for _ in range(2))
        out = torch.empty_like(a)
        best = max(best, 2 * size**3 / best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device) / 1e9)
    return best


def copy_gigabytes(device: str, megabytes: int | None = None) -> float:
    """Measures the rate of copying a tensor larger than the caches, in 10^9 bytes read and written a second."""
    megabytes = megabytes or COPY_MEGABYTES[torch.device(device).type]
    source = torch.ones(megabytes * 250_000, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / best_seconds(lambda: target.copy_(source), device) / 1e9


@dataclass(frozen=True)
class Work:
    """The operations of a piece of work.

    :param flops: of its matrix products; a multiplication and an addition count as two
    :param bytes: that its operations read and write, each by itself as eager PyTorch runs them
    :param operations: that read or write anything
    """

    flops: int
    bytes: int
    operations: int


class Traffic(TorchDispatchMode):
    """Counts the bytes of the inputs and outputs of all operations. Views count nothing."""

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
    """Counts the operations of one call."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        task()
    return Work(flops.get_total_flops(), traffic.bytes, traffic.operations)


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals, each given by start and end.

    >>> union_seconds([(0, 2), (1, 3), (5, 6)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total


def busy_seconds(task: Callable[[], Any], device: str) -> float:
    """The seconds of a call in which the GPU runs at least one kernel or copy."""
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
