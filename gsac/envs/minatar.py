"""Registers the games of MinAtar, Atari in miniature, as image environments.

Importing this module registers ``gsac/MinAtar-Asterix-v1``, ``gsac/MinAtar-Breakout-v1``, ``gsac/MinAtar-Freeway-v1``,
``gsac/MinAtar-Seaquest-v1`` and ``gsac/MinAtar-SpaceInvaders-v1``. Gymnasium imports it if the module stands before the
name, also on the command line: ``gsac train gsac.envs.minatar:gsac/MinAtar-Breakout-v1``. Needs
``pip install "gsac[minatar]"``, https://github.com/kenjyoung/MinAtar. Young & Tian 2019, https://arxiv.org/abs/1903.03176

- Actions: the three to six that have an effect in the game, as in the package's own v1.
- Actions are sticky by the package's default: with probability 0.1 the last one is repeated. The difficulty rises with
  time. ``gymnasium.make(name, sticky_action_prob=0.0, difficulty_ramping=False)`` switches both off.
- Observations are uint8 images, 0 or 255, with one plane for each kind of object: [10, 10, planes]. Those of Seaquest
  are [planes, 10, 10]: it has ten planes, and SB3 takes the first of equal dimensions for the channels.
- Episodes are truncated after 5,000 steps; ``gymnasium.make(name, max_episode_steps=...)`` sets another limit.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space_channels_first

GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}
"""Name in the environment's id -> name in the package."""
MAX_EPISODE_STEPS = 5_000


class PlanesAsImage(gymnasium.ObservationWrapper[np.ndarray, int, np.ndarray]):
    """Converts boolean planes to images with the channels where SB3 expects them, and seeds the whole environment."""

    def __init__(self, env: gymnasium.Env[np.ndarray, int]) -> None:
        super().__init__(env)
        assert env.observation_space.shape is not None
        image = spaces.Box(0, 255, env.observation_space.shape, np.uint8)
        self.planes_first = is_image_space_channels_first(image)
        if self.planes_first:
            image = spaces.Box(0, 255, (image.shape[2], *image.shape[:2]), np.uint8)
        self.observation_space = image

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new episode. The same seed and the same actions give the same episodes."""
        if seed is not None:
            base: Any = self.unwrapped
            base.game.last_action = 0  # else the last action of the episode before may be repeated
            gymnasium.Env.reset(base, seed=seed)  # the package seeds its own generator, not Gymnasium's
        return super().reset(seed=seed, options=options)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes a step; converts reward and ends to Python's types, which some games do not return."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, float(reward), bool(terminated), truncated, info

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Bool [10, 10, planes] -> a new array, uint8 [10, 10, planes] or [planes, 10, 10]"""
        image = observation * np.uint8(255)
        return np.ascontiguousarray(image.transpose(2, 0, 1)) if self.planes_first else image


def make(game: str, **kwargs: Any) -> PlanesAsImage:
    """Makes a registered environment, without its limit of steps.

    :param game: name in the package
    :param kwargs: ``render_mode``, ``sticky_action_prob`` and ``difficulty_ramping``, as the package takes them
    :raises ImportError: MinAtar is not installed
    """
    try:
        from minatar.gym import BaseEnv
    except ImportError as error:
        raise ImportError(f'MinAtar is not installed ({error}). Write: pip install "gsac[minatar]"') from None
    return PlanesAsImage(BaseEnv(game, use_minimal_action_set=True, **kwargs))


for _name, _game in GAMES.items():
    gymnasium.register(
        f"gsac/MinAtar-{_name}-v1",
        entry_point="gsac.envs.minatar:make",
        max_episode_steps=MAX_EPISODE_STEPS,
        kwargs={"game": _game},
    )
