"""A stand-in for CUDA graphs on the CPU: records operations with their tensors, and executes them again.

As with a graph, Python does not run again: the same numbers are used, and the same memory.
"""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only


def detached(values):
    """Other tensors with the same memory."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.detach(), values)


def tensors_in(values):
    return [value for value in tree_iter(values) if isinstance(value, torch.Tensor)]


def cannot_be_captured(func, args):
    if func is torch.ops.aten.index.Tensor:
        return any(tensor.dtype == torch.bool for tensor in tensors_in(args[1]))
    return any(tag in func.tags for tag in (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape))


def is_view(func):
    """Whether it only returns views of its arguments."""
    aliases = [result.alias_info for result in func._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


class Tape(TorchDispatchMode):
    """Records operations below autograd, including those of the backward pass; see :func:`record`."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.before = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if cannot_be_captured(func, args):
            raise RuntimeError(f"{func.name()} is not permitted when stream is capturing")
        parameters = func._schema.arguments
        given = {parameter.name: value for parameter, value in zip(parameters, args, strict=False)} | kwargs
        for parameter in parameters:
            if parameter.alias_info is not None and parameter.alias_info.is_write:
                self.before += [(tensor.detach(), tensor.clone()) for tensor in tensors_in(given.get(parameter.name))]
        result = func(*args, **kwargs)
        if not is_view(func):
            self.operations.append((func, detached(args), detached(kwargs), detached(result)))
        return result

    def undo(self):
        """Restores the tensors that the recorded operations wrote to."""
        for tensor, values in reversed(self.before):
            tensor.copy_(values)
        self.before.clear()

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, recorded in self.operations:
            result = func(*args, **kwargs)
            for then, now in zip(tensors_in(recorded), tensors_in(result), strict=True):
                if then.data_ptr() != now.data_ptr():
                    then.copy_(now)


def record(update):
    """Records an update and undoes it, as :func:`gsac.learning.acceleration.capture` does; returns the function that repeats it."""
    tape = Tape()
    generator = torch.get_rng_state()
    try:
        with tape:
            update()
    finally:
        with torch.no_grad():
            tape.undo()
        torch.set_rng_state(generator)
    return tape.replay
