"""The games of MinAtar, Atari in miniature, as images: Young & Tian 2019, https://arxiv.org/abs/1903.03176.

Importing this module registers ``gsac/MinAtar-Asterix-v1``, ``gsac/MinAtar-Breakout-v1``, ``gsac/MinAtar-Freeway-v1``,
``gsac/MinAtar-Seaquest-v1`` and ``gsac/MinAtar-SpaceInvaders-v1``. Gymnasium imports it by itself for a name with the
module in front, here and on the command line: ``gsac train gsac.envs.minatar:gsac/MinAtar-Breakout-v1``. Needs
``pip install "gsac[minatar]"``, https://github.com/kenjyoung/MinAtar.

- The actions are those that do something in the game, three to six, as in the package's own v1.
- Actions are sticky, as by the package's default: with probability 0.1 the last one is repeated. The difficulty rises
  with time. ``gymnasium.make(name, sticky_action_prob=0.0, difficulty_ramping=False)`` has it otherwise.
- Observations are uint8, 0 or 255, a plane for each kind of object: [10, 10, planes], which SB3 takes for an image. Of
  Seaquest they are [planes, 10, 10]: it has ten planes, and of equal dimensions SB3 takes the first for the channels.
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
"""Each game's name in the environment's, and in the package."""
MAX_EPISODE_STEPS = 5_000


class PlanesAsImage(gymnasium.ObservationWrapper[np.ndarray, int, np.ndarray]):
    """Boolean planes as an image with the channels where SB3 looks for them, and episodes that a seed determines."""

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
        """A new episode; after the same seed, the same ones for the same actions."""
        if seed is not None:
            base: Any = self.unwrapped
            base.game.last_action = 0  # else the last one of the episode before may be repeated
            gymnasium.Env.reset(base, seed=seed)  # the package seeds a generator of its own only
        return super().reset(seed=seed, options=options)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; reward and end as Python's own numbers, which some games do not give."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, float(reward), bool(terminated), truncated, info

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Bool [10, 10, planes] -> uint8, a new array each time"""
        image = observation * np.uint8(255)
        return np.ascontiguousarray(image.transpose(2, 0, 1)) if self.planes_first else image


def make(game: str, **kwargs: Any) -> PlanesAsImage:
    """The environment that is registered, without its limit of steps.

    :param game: its name in the package
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
