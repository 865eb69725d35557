"""Asks environments for their action masks, in sb3-contrib's convention: a method ``action_masks()``."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from gsac.spaces.codec import ActionCodec

METHOD = "action_masks"
TERMINAL = "terminal_action_masks"
"""The key in the info of a step that ends an episode, under which the environment may give its last state's mask."""


def supports_masks(env: VecEnv) -> bool:
    """Whether all environments have a method ``action_masks()``."""
    return env.has_attr(METHOD)


def current_masks(env: VecEnv, codec: ActionCodec, step: int) -> np.ndarray:
    """The masks of the current states, bool [n_envs, D].

    :param step: of the training, for the error
    :raises ValueError: a mask of a wrong shape, or one that allows nothing; says in which environment and at which step
    """
    return codec.check_masks(env.env_method(METHOD), f"action_masks() of the environment, at step {step},")


def masks_of_next_states(
    new_masks: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]], codec: ActionCodec
) -> np.ndarray:
    """The masks of the states that a step led to, bool [n_envs, D].

    Where an episode has ended, the environment was reset already and ``new_masks`` are those of the next episode. The last
    state's mask is then taken from the info, and where that has none, everything is allowed.

    :param new_masks: of the current states, bool [n_envs, D]
    :param dones: [n_envs]
    """
    reached = new_masks.copy()
    for i in np.flatnonzero(dones):
        if infos[i].get(TERMINAL) is None:
            reached[i] = True
        else:
            reached[i] = codec.check_masks([infos[i][TERMINAL]], f"{TERMINAL} in the info of a step")[0]
    return reached
