"""Times that can be compared: everything takes turns, round by round, so that what else the machine does hits all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

Key = TypeVar("Key")


def clock(device: str, threads: int | None = None) -> Callable[[], float]:
    """Seconds: of the process where one CPU thread does everything, else on the wall, when the device has caught up."""
    if device == "cpu":
        return time.process_time if threads == 1 else time.perf_counter

    def synchronized() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return synchronized


def in_turn(
    tasks: Mapping[Key, Callable[[int], Any]], now: Callable[[], float], rounds: int, seconds_a_turn: float
) -> dict[Key, list[float]]:
    """Seconds that each task takes for a repetition, one figure a round.

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


def elapsed(task: Callable[[int], Any], repetitions: int, now: Callable[[], float]) -> float:
    """Seconds of one call."""
    start = now()
    task(repetitions)
    return now() - start


def spread(values: list[float], factor: float = 1.0) -> dict[str, float]:
    """Median and both ends, to four digits."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{factor * value:.4g}") for name, value in found.items()}


def ratios(of: list[float], to: list[float]) -> dict[str, float]:
    """How many times faster than the other a task is, round by round."""
    return spread([other / own for own, other in zip(of, to, strict=True)])
