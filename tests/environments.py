"""Small environments that only the tests need."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces
from problems import Match


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


class Allowed(Match):
    """:class:`Match` with random masks: only the target and a few other classes are allowed; other actions raise an error.

    :param n_allowed: classes in each group, the target included
    """

    def __init__(self, action_space: spaces.Space, n_allowed: int, length: int = 10) -> None:
        super().__init__(action_space, length)
        self.n_allowed = n_allowed
        self.actions_seen = 0

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        assert self.mask[self.offsets + np.atleast_1d(action) - self.start].all(), f"{action!r} is not allowed"
        self.actions_seen += 1
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, info | {"terminal_action_masks": self.action_masks()}

    def action_masks(self):
        return self.mask

    def _observe(self):
        observation = super()._observe()
        self.mask = np.zeros(int(self.sizes.sum()), dtype=bool)
        for offset, size, target in zip(self.offsets, self.sizes, self.target, strict=True):
            others = self.np_random.permutation(np.delete(np.arange(size), target))
            self.mask[offset + np.append(others[: self.n_allowed - 1], target)] = True
        return observation
