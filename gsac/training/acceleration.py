"""Runs an update as it is written, or as one graph that the device replays. Knows nothing of what is updated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gsac.training.device_reads import DeviceReads

MODES = ("auto", "eager", "compile", "cudagraph")

WARM_UPS = 3
"""Updates before a capture: they make what is made once, such as the optimisers' state and the kernels' workspaces."""

Replay = Callable[[], None]


def choose_mode(wanted: str, device: torch.device) -> str:
    """The mode for this device: of ``"auto"``, a captured graph on CUDA and eager execution elsewhere.

    :raises ValueError: ``"cudagraph"`` on another device
    """
    if wanted == "auto":
        return "cudagraph" if device.type == "cuda" else "eager"
    if wanted == "cudagraph" and device.type != "cuda":
        raise ValueError(
            f"acceleration='cudagraph' needs device='cuda', and this model is on {device.type!r}: pass "
            "acceleration='auto', which captures updates where that is possible."
        )
    return wanted


def capture(update: Replay) -> Replay:
    """Records what ``update`` asks the current CUDA device to do, without doing it.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    :return: does it, each time anew
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update()
    return graph.replay


class Captured:
    """A function that is recorded once and replayed from then on.

    It must return nothing, read nothing from the device, and find at each call the same tensors at the same addresses:
    whatever changes over time is a tensor filled in place. Its first calls are made as they are, and the very first is
    watched: if it reads from the device, or cannot be recorded, there is one warning, and it is never recorded.

    :param function: of arguments that choose between recordings; each combination is recorded by itself
    :param record: makes a recording without executing it
    """

    def __init__(self, function: Callable[..., None], record: Callable[[Replay], Replay] = capture) -> None:
        self.function, self.record = function, record
        self.reason: str | None = None
        """Why it runs as it is written, if it does."""
        self._replays: dict[Hashable, Replay] = {}
        self._calls: dict[Hashable, int] = {}
        self._addresses: list[Any] = []

    def watch(self, addresses: Iterable[Any]) -> None:
        """Forgets the recordings if these objects are not the ones of the last call; numbers are compared by value."""
        now = list(addresses)
        same = len(now) == len(self._addresses) and all(
            a == b if isinstance(a, int) else a is b for a, b in zip(now, self._addresses, strict=True)
        )
        if not same:
            self._addresses = now
            self._replays.clear()
            self._calls.clear()

    def fall_back(self, reason: str) -> None:
        """From now on the function runs as it is written. Warns, the first time."""
        if self.reason is None:
            self.reason = reason
            warnings.warn(
                f"Updates are not captured as a CUDA graph, and run one operation at a time: {reason}. "
                "Pass acceleration='eager' to have it so without this warning.",
                UserWarning,
                stacklevel=2,
            )
            self._replays.clear()

    def __call__(self, *arguments: Hashable) -> None:
        """Once, with these arguments."""
        if self.reason is None and arguments not in self._replays and self._calls.get(arguments, 0) >= WARM_UPS:
            try:
                self._replays[arguments] = self.record(lambda: self.function(*arguments))
            except RuntimeError as error:
                self.fall_back(str(error).partition("\n")[0])
        if self.reason is not None:
            self.function(*arguments)
        elif arguments in self._replays:
            self._replays[arguments]()
        else:
            self._warm_up(arguments)

    def _warm_up(self, arguments: tuple[Hashable, ...]) -> None:
        calls = self._calls[arguments] = self._calls.get(arguments, 0) + 1
        with _side_stream():
            if calls > 1:
                self.function(*arguments)
                return
            # Compiled functions cannot be watched from outside; their sources can.
            with DeviceReads() as reads, torch.compiler.set_stance("force_eager"):
                self.function(*arguments)
        if reads.found:
            self.fall_back(f"the update reads from the device, {reads.found[0]}")


@contextmanager
def _side_stream() -> Iterator[None]:
    """Warm-ups belong on a stream of their own, as captures do. Does nothing without CUDA."""
    if not torch.cuda.is_available():
        yield
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)
