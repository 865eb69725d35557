"""Small environments that only the tests need."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Images(gymnasium.Env):
    """A bright half of a small image shows which of two actions is right. Episodes have one step."""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.target = int(self.np_random.integers(2))
        image = np.zeros((36, 36, 1), np.uint8)
        image[:, 18 * self.target : 18 * (self.target + 1)] = 255
        return image, {}

    def step(self, action):
        observation = np.zeros((36, 36, 1), np.uint8)
        return observation, float(action == self.target), True, False, {}


class Pixel(gymnasium.Env):
    """A bright pixel on the left or right, in one of four channels, shows the right action. Episodes have one step."""

    observation_space = spaces.Box(0, 255, (10, 10, 4), np.uint8)
    action_space = spaces.Discrete(2)

    def image(self):
        image = np.zeros((10, 10, 4), np.uint8)
        self.right = int(self.np_random.integers(2))
        image[self.np_random.integers(10), 5 * self.right + self.np_random.integers(5), self.np_random.integers(4)] = (
            255
        )
        return image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.image(), {}

    def step(self, action):
        reward = float(action == self.right)
        return self.image(), reward, True, False, {}


class DictObservations(gymnasium.ObservationWrapper):
    """Puts the observation into a dictionary, under the key ``vector``."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict({"vector": env.observation_space})

    def observation(self, observation):
        return {"vector": observation}
