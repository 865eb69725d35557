"""Finds operations that make Python wait for the device, which no captured graph can contain."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_BOOLEAN = (torch.bool, torch.uint8)
_NOT_THE_CALLERS = (str(Path(torch.__file__).parent), __file__)


class DeviceReads(TorchDispatchMode):
    """Lists the operations that read values from the device while it is active. Changes and refuses nothing.

    It works on the CPU too, where such reads cost nothing, and finds what would make Python wait for a GPU. Copies from one
    device to another count as reads, in both directions, and so do tensors that are made from numbers of the host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        """For each read, the operation and the line of Python that called it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if _depends_on_data(func, args) or _moves(func, args, result):
            self.found.append(f"{func.overloadpacket} in {_caller()}")
        return result


def _depends_on_data(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether the operation returns a tensor's number to Python, or a result whose size depends on the numbers."""
    if func.overloadpacket in (_aten.index, _aten._unsafe_index):
        return _has_booleans(args[1])
    if func.overloadpacket in (_aten.index_put, _aten.index_put_, _aten._index_put_impl_, _aten._unsafe_index_put):
        return _has_booleans(args[1]) and args[2].numel() != 1  # one number fills, whatever their count
    return torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags


def _has_booleans(indices: Any) -> bool:
    return any(index is not None and index.dtype in _BOOLEAN for index in indices)


def _moves(func: Any, args: tuple[Any, ...], result: Any) -> bool:
    if func.overloadpacket is _aten.lift_fresh:  # at the end of torch.tensor(...); a single number on the CPU may stay
        return args[0].dim() > 0 or args[0].device.type != "cpu"
    tensors = [value for value in (*args, result) if isinstance(value, torch.Tensor)]
    if func.overloadpacket not in (_aten._to_copy, _aten.copy_, _aten.copy):
        tensors = [tensor for tensor in tensors if tensor.dim() > 0]  # a single number of the host is an argument
    return len({tensor.device for tensor in tensors}) > 1


def _caller() -> str:
    """The innermost line that is not PyTorch's own."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(_NOT_THE_CALLERS):
            return f"{frame.filename}, line {frame.lineno}: {frame.line}"
    return "the backward pass"  # which has a thread of its own on a GPU
