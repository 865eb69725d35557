"""Small environments with a known best return, and the facts of drawn problems."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Match(gymnasium.Env):
    """Every step shows a target, drawn anew; the reward is the share of the action's entries that match it.

    The best return is the length of the episode. The target is shown through a fixed random orthogonal map, so that it
    cannot be copied entry by entry.
    """

    def __init__(self, action_space: spaces.Space, length: int = 10) -> None:
        self.action_space = action_space
        self.length = length
        self.low = np.atleast_1d(getattr(action_space, "start", 0))
        self.sizes = np.atleast_1d(
            action_space.n
            if isinstance(action_space, spaces.Discrete)
            else action_space.nvec
            if isinstance(action_space, spaces.MultiDiscrete)
            else np.full(action_space.n, 2)
        )
        flat = int(self.sizes.sum())
        self.map, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(flat, flat)))
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self.observation_space = spaces.Box(-10.0, 10.0, (flat,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        reward = float(np.mean(np.atleast_1d(action) - self.low == self.target))
        self.steps += 1
        return self._observe(), reward, False, self.steps == self.length, {}

    def _observe(self):
        self.target = self.np_random.integers(self.sizes)
        one_hot = np.zeros(self.sizes.sum(), dtype=np.float32)
        one_hot[self.offsets + self.target] = 1.0
        return (self.map @ one_hot).astype(np.float32)


class Images(gymnasium.Env):
    """A bright half of a small image tells which of two actions is right. One step an episode."""

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


class DictObservations(gymnasium.ObservationWrapper):
    """The observation under the key of a dictionary."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict({"vector": env.observation_space})

    def observation(self, observation):
        return {"vector": observation}
