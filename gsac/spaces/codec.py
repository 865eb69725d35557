"""Translates between the environment's integer actions and the flat one-hots of actor and critics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from gsac.functional.groups import Groups, constant_tensor


class UnsupportedSpaceError(ValueError, AssertionError):
    """Raised for an action or observation space that is not supported; an ``AssertionError`` too, as SB3 raises one."""


class ActionCodec:
    """Translates actions of a ``Discrete``, ``MultiDiscrete`` or ``MultiBinary`` space, each with any ``start``.

    A ``Discrete`` action is one group of n classes, a ``MultiDiscrete`` action has one group for each entry, and a
    ``MultiBinary(n)`` action n groups of two classes.

    :raises UnsupportedSpaceError: another space, or several dimensions, which SB3's replay buffers cannot store
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
                _flat_multi_discrete(space)
                if isinstance(space, spaces.MultiDiscrete)
                else f"MultiBinary({int(np.prod(space.shape))})"
            )
            if len(space.shape) == 1:
                raise UnsupportedSpaceError(
                    f"The action space {space} has its size in a list, and SB3 takes a number: write {flat}."
                )
            raise UnsupportedSpaceError(
                f"The action space {space} has {len(space.shape)} dimensions, and replay buffers store actions in one. "
                f"Wrap the environment in gymnasium.wrappers.TransformAction(env, lambda action: "
                f"action.reshape({space.shape}), {flat})."
            )
        else:
            cut = (
                "; gsac.envs.wrappers.DiscretizeAction(env, bins=7) makes seven classes of each number, in gsac train "
                '--env-wrapper \'{"gsac.envs.wrappers.DiscretizeAction": {"bins": 7}}\''
                if isinstance(space, spaces.Box)
                else ""
            )
            raise UnsupportedSpaceError(
                f"The action space {space} has no classes to choose from, as Discrete, MultiDiscrete and MultiBinary "
                f"have{cut}."
            )
        self.groups = Groups(sizes)
        self.start = tuple(start)
        self.dtype = torch.int8 if isinstance(space, spaces.MultiBinary) else torch.int64

    def encode(self, actions: Tensor) -> Tensor:
        """The environment's integers [B], [B, 1] or [B, G] -> flat one-hots, float32 [B, D]"""
        classes = actions.long().reshape(-1, len(self.groups))
        return self.groups.one_hot(classes - self._start(actions.device))

    def decode(self, classes: Tensor) -> Tensor:
        """The class of each group, int64 [B, G] -> the environment's integers: [B] for ``Discrete``, else [B, G]"""
        return (classes + self._start(classes.device)).to(self.dtype).reshape(-1, *self.entry_shape)

    def check_masks(self, masks: Any, name: str = "action_masks") -> np.ndarray:
        """Checks action masks and stacks them to booleans [n, D]; each group needs a class that is allowed.

        :param masks: n masks [D], one for each environment: one entry for each class of a ``Discrete`` space; those of
            each entry in turn for ``MultiDiscrete``; off and on of each entry in turn for ``MultiBinary``
        :param name: of the masks, for errors
        :raises ValueError: another shape, an entry that is not 0, 1 or a boolean, or a group without an allowed class
        """
        shapes = {np.shape(mask) for mask in masks}
        if shapes != {(self.groups.flat_size,)}:
            came = " and ".join(str(shape) for shape in sorted(shapes))
            raise ValueError(
                f"{name} has the shape {came}, and {self.groups.flat_size} entries are needed, True where an action is "
                f"allowed: one for each class of choices among {list(self.groups.sizes)}."
            )
        stacked = np.stack(masks)
        if not np.isin(stacked, (0, 1)).all():
            raise ValueError(f"{name} has entries that are neither true nor false: pass booleans, or 0 and 1.")
        allowed = stacked.astype(bool)
        starts = np.cumsum([0, *self.groups.sizes[:-1]])
        nothing = np.argwhere(~np.logical_or.reduceat(allowed, starts, axis=1))
        if len(nothing) > 0:
            i, group = nothing[0].tolist()
            where = f"choice {group}" if len(self.groups) > 1 else "it"
            raise ValueError(
                f"{name} allows no action in environment {i}: {where} needs at least one that is True. An environment "
                "without a valid action should end its episode."
            )
        return allowed

    def _start(self, device: torch.device) -> Tensor | int:
        return constant_tensor(self.start, device) if any(self.start) else 0


def _flat_multi_discrete(space: spaces.MultiDiscrete) -> str:
    """The code of the same space with one dimension."""
    start = f", start={space.start.flatten().tolist()}" if space.start.any() else ""
    return f"MultiDiscrete({space.nvec.flatten().tolist()}{start})"
