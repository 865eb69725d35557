"""Environments with large factorised action spaces; registered under ``gsac/`` when imported."""

from __future__ import annotations

import runpy
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Match(gymnasium.Env):
    """Shows a new random target at every step; the reward is the fraction of the action's entries that match it.

    The best return is the length of the episode. The target is shown through a fixed random orthogonal map, so that it
    cannot be copied entry by entry.

    :param action_space: ``Discrete``, ``MultiDiscrete`` or ``MultiBinary``, of any start
    :param length: steps in an episode
    """

    def __init__(self, action_space: spaces.Space, length: int = 10) -> None:
        self.action_space = action_space
        self.length = length
        self.start = np.atleast_1d(getattr(action_space, "start", 0))
        if isinstance(action_space, spaces.MultiDiscrete):
            self.sizes = action_space.nvec
        else:
            self.sizes = np.array(
                [action_space.n] if isinstance(action_space, spaces.Discrete) else [2] * action_space.n
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
        reward = float(np.mean(np.atleast_1d(action) - self.start == self.target))
        self.steps += 1
        return self._observe(), reward, False, self.steps == self.length, {}

    def _observe(self):
        self.target = self.np_random.integers(self.sizes)
        one_hot = np.zeros(self.sizes.sum(), dtype=np.float32)
        one_hot[self.offsets + self.target] = 1.0
        return (self.map @ one_hot).astype(np.float32)


class Pairs(gymnasium.Env):
    """Switches in pairs; a pair is right if its switches differ when its bit is 1, and agree when it is 0.

    No switch is right or wrong without its partner: a value that is a sum over switches sees no difference between
    them under a uniform policy. The best return is 10.
    """

    def __init__(self, n_pairs: int = 10) -> None:
        self.n_pairs = n_pairs
        self.action_space = spaces.MultiBinary(2 * n_pairs)
        self.observation_space = spaces.Box(-1.0, 1.0, (n_pairs,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        first, second = np.asarray(action).reshape(self.n_pairs, 2).T
        reward = float(np.mean((first != second) == self.bits))
        self.steps += 1
        return self._observe(), reward, False, self.steps == 10, {}

    def _observe(self):
        self.bits = self.np_random.integers(2, size=self.n_pairs).astype(bool)
        return np.where(self.bits, 1.0, -1.0).astype(np.float32)


Switches = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "many_joint_actions.py"))["Switches"]

gymnasium.register("gsac/Match-v0", lambda: Match(spaces.MultiBinary(20)))
gymnasium.register("gsac/Switches-v0", lambda: Switches(20))
gymnasium.register("gsac/Pairs-v0", lambda: Pairs(10))
gymnasium.register("gsac/Switches40-v0", lambda: Switches(40))
gymnasium.register("gsac/Pairs40-v0", lambda: Pairs(20))
