"""Finds operations that make Python wait for the device, which no captured graph can contain."""

from __future__ import annotations

import traceback
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
READS = (
    _aten._local_scalar_dense,  # .item(), float(), if tensor
    _aten.equal,
    _aten.is_nonzero,
    # The shapes of what these return depend on the data.
    _aten.nonzero,
    _aten.masked_select,
    _aten.unique_dim,
    _aten._unique2,
    _aten.unique_consecutive,
    _aten.repeat_interleave,
)


class DeviceReads(TorchDispatchMode):
    """Notes where values are read from the device while it is active. Nothing is changed or refused.

    It works on the CPU as well, where reading costs nothing: what it finds there would stop a GPU. Moves to another
    device count as reads, in both directions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        """For each read: the operation and the line of Python that asked for it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in READS or self._moves(args, result):
            self.found.append(f"{func.overloadpacket} in {_caller()}")
        return result

    @staticmethod
    def _moves(args: tuple[Any, ...], result: Any) -> bool:
        tensors = [value for value in (*args, result) if isinstance(value, torch.Tensor) and value.dim() > 0]
        return len({tensor.device for tensor in tensors}) > 1


def _caller() -> str:
    """The innermost line that is not PyTorch's own."""
    stack = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename.replace("\\", "/")]
    frame = next(frame for frame in reversed(stack) if frame.filename != __file__)
    return f"{frame.filename}, line {frame.lineno}: {frame.line}"
