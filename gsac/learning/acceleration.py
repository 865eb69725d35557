"""Compiles functions with ``torch.compile`` and captures them as CUDA graphs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from types import FunctionType, MethodType
from typing import Any

import torch

from gsac.learning.device_reads import DeviceReads
from gsac.learning.references import same

MODES = ("auto", "eager", "compile", "cudagraph")

WARM_UPS = 3
"""Eager updates before a capture. They allocate what is allocated once, such as the optimisers' state."""

Replay = Callable[[], None]


def choose_mode(wanted: str, device: torch.device) -> str:
    """Resolves ``"auto"``: to ``"cudagraph"`` on CUDA, else to ``"eager"``.

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


def compiled(method: Any, backend: str) -> Any:
    """Compiles a bound method as a whole, and anew for each shape of its arguments.

    PyTorch compiles each piece of code a few times and then refuses, so that a process could have no more than some eight
    models of different kinds. Here each object gets a copy of the code.

    :param backend: of ``torch.compile``
    """
    source = method.__func__
    code, name = source.__code__.replace(), source.__name__
    copied = FunctionType(code, source.__globals__, name, source.__defaults__, source.__closure__)
    bound = MethodType(copied, method.__self__)
    return torch.compile(bound, fullgraph=True, dynamic=False, backend=backend)


def capture(update: Replay) -> Replay:
    """Captures ``update`` as a CUDA graph on the current stream, which is not the default one, without executing it.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    :return: a function that replays the graph
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, stream=stream):
            update()
    except RuntimeError:
        # PyTorch's random generator stays in capture mode until a capture succeeds.
        with suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream):
            torch.zeros((), device="cuda")
        raise
    return graph.replay


class Captured:
    """Calls a function eagerly a few times, then records it once and replays the recording.

    The function must return nothing, read nothing from the device, and find the same tensors at the same addresses at each
    call: whatever changes over time is a tensor filled in place. If the first call reads from the device, or the recording
    fails, there is one warning, and the function runs eagerly from then on.

    :param function: its arguments choose between recordings; each combination has its own
    :param device: where it runs
    :param list_references: lists what a recording refers to, see :func:`gsac.learning.references.references`
    :param record: makes a recording without executing it
    """

    def __init__(
        self,
        function: Callable[..., None],
        device: torch.device,
        list_references: Callable[[], list[Any]] = list,
        record: Callable[[Replay], Replay] = capture,
    ) -> None:
        self.function, self.device, self.list_references, self.record = function, device, list_references, record
        self.reason: str | None = None
        """Why the function runs eagerly; None if it is recorded."""
        self._replays: dict[Hashable, Replay] = {}
        self._calls: dict[Hashable, int] = {}
        self._referred: list[Any] = []

    def drop_outdated(self) -> None:
        """Drops all recordings if anything they refer to was replaced since the last eager call."""
        if self._calls and not same(self._referred, self.list_references()):
            self._replays.clear()
            self._calls.clear()

    def fall_back(self, reason: str) -> None:
        """Runs the function eagerly from now on, with a warning the first time."""
        if self.reason is None:
            self.reason = reason
            self._replays.clear()
            warnings.warn(
                f"Updates are not captured as a CUDA graph, and run one operation at a time: {reason}. "
                "Pass acceleration='eager' to run them so without this warning.",
                UserWarning,
                stacklevel=2,
            )

    def __call__(self, *arguments: Hashable) -> None:
        """Calls the function, or replays its recording, with these arguments."""
        if self.reason is None and arguments not in self._replays and self._calls.get(arguments, 0) >= WARM_UPS:
            try:
                with _side_stream(self.device):
                    self._replays[arguments] = self.record(lambda: self.function(*arguments))
            except RuntimeError as error:
                cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
                self.fall_back(str(cause).partition("\n")[0])
        if self.reason is not None:
            self.function(*arguments)
        elif arguments in self._replays:
            self._replays[arguments]()
        else:
            self._warm_up(arguments)

    def _warm_up(self, arguments: tuple[Hashable, ...]) -> None:
        calls = self._calls[arguments] = self._calls.get(arguments, 0) + 1
        with _side_stream(self.device):
            if calls > 1:
                self.function(*arguments)
                self._referred = self.list_references()
                return
            # Reads from the device are not seen in compiled code, so the first call runs its source.
            with DeviceReads() as reads, _without_compiled_code():
                self.function(*arguments)
        self._referred = self.list_references()
        if reads.found:
            self.fall_back(f"the update reads from the device, {reads.found[0]}")

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the recordings out: a copy refers to other tensors."""
        return vars(self) | {"_replays": {}, "_calls": {}, "_referred": []}


def _without_compiled_code() -> AbstractContextManager[Any]:
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled yet, and importing the compiler takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """Runs the block on a stream of its own, as warm-ups and captures need. Does nothing without CUDA."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):  # only a stream of the current device can be captured
        stream, before = _side_stream_of(torch.cuda.current_device()), torch.cuda.current_stream()
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            yield
        before.wait_stream(stream)


@cache
def _side_stream_of(device: int) -> torch.cuda.Stream:
    """The one side stream of a device: memory that is allocated on a stream can be reused on that stream only."""
    return torch.cuda.Stream(device)
