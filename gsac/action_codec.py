"""Between the environment's integers and the flat one-hots that actor and critics speak."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from gsac.functional.groups import Groups

SUPPORTED_ACTION_SPACES = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class ActionCodec:
    """Translates actions of a ``Discrete``, ``MultiDiscrete`` or ``MultiBinary`` space, each with any ``start``.

    A ``Discrete`` action is one group of n classes, a ``MultiDiscrete`` action a group for each of its entries, and a
    ``MultiBinary(n)`` action n groups of two classes.

    :raises ValueError: a space of several dimensions, which SB3's replay buffers cannot store
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        if isinstance(space, spaces.Discrete):
            sizes, start = [int(space.n)], [int(space.start)]
            self.entry_shape: tuple[int, ...] = ()
        elif isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
            sizes, start = space.nvec.tolist(), space.start.tolist()
            self.entry_shape = (len(sizes),)
        elif isinstance(space, spaces.MultiBinary) and isinstance(space.n, int | np.integer):
            sizes, start = [2] * int(space.n), [0] * int(space.n)
            self.entry_shape = (len(sizes),)
        elif isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
            flat = (
                f"MultiDiscrete({space.nvec.flatten().tolist()})"
                if isinstance(space, spaces.MultiDiscrete)
                else f"MultiBinary({int(np.prod(space.shape))})"
            )
            raise ValueError(
                f"The action space {space} has {len(space.shape)} dimensions, and replay buffers store actions in one. "
                f"Wrap the environment in gymnasium.wrappers.TransformAction(env, lambda action: "
                f"action.reshape({space.shape}), {flat})."
            )
        else:
            raise ValueError(
                f"The action space {space} has no classes to choose from: pass Discrete, MultiDiscrete or MultiBinary."
            )
        self.groups = Groups(sizes)
        self.start = tuple(start)
        self.dtype = torch.int8 if isinstance(space, spaces.MultiBinary) else torch.int64

    def encode(self, actions: Tensor) -> Tensor:
        """The env's integers, [B], [B, 1] or [B, G] -> flat one-hots, float32 [B, D]"""
        classes = actions.long().reshape(-1, len(self.groups))
        return self.groups.one_hot(classes - self._start(actions.device))

    def decode(self, one_hot: Tensor) -> Tensor:
        """Flat one-hots [B, D] -> the env's integers: [B] for ``Discrete``, else [B, G]"""
        actions = self.groups.argmax(one_hot) + self._start(one_hot.device)
        return actions.to(self.dtype).reshape(-1, *self.entry_shape)

    def _start(self, device: torch.device) -> Tensor | int:
        return torch.tensor(self.start, device=device) if any(self.start) else 0
