"""Collects whole episodes from several environments at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

Observation = Any
"""An array, or a dictionary of arrays."""


class EpisodeBatch(NamedTuple):
    """E whole episodes, one after the other: N steps in all, T in the longest."""

    observations: PyTorchObs
    """[N, ...]"""
    actions: Tensor
    """As the policy returned them. [N, ...]"""
    rewards: Tensor
    """Padded with zeros. [E, T]"""
    mask: Tensor
    """True at the N steps of the episodes; ``rewards[mask]`` has the order of the observations. [E, T]"""


class Episodes:
    """Collects a fixed number of whole episodes, a fixed number from each environment.

    To take the first episodes that end would prefer short ones. So each environment contributes its first episodes after
    a common reset, however long they take, and the steps that it makes after those are discarded.

    :param n_episodes: in all; the environments' numbers differ by 1 at most
    :param n_envs: at most ``n_episodes``
    """

    def __init__(self, n_episodes: int, n_envs: int) -> None:
        assert n_episodes >= n_envs
        self.quotas = [n_episodes // n_envs + (i < n_episodes % n_envs) for i in range(n_envs)]
        self.reset()

    def reset(self) -> None:
        """Removes all episodes. The environments must be reset as well."""
        self.observations: list[list[Observation]] = [[] for _ in self.quotas]
        self.actions: list[list[np.ndarray]] = [[] for _ in self.quotas]
        self.rewards: list[list[list[float]]] = [[[]] for _ in self.quotas]
        self.discarded = 0

    @property
    def collecting(self) -> np.ndarray:
        """Whether each environment's current episode is collected: it has not contributed its number yet. [n_envs]"""
        return np.array([len(mine) <= quota for mine, quota in zip(self.rewards, self.quotas, strict=True)])

    @property
    def complete(self) -> bool:
        """Whether all episodes are collected."""
        return not self.collecting.any()

    @property
    def longest_running(self) -> int:
        """The number of steps so far of the longest episode that has not ended."""
        return max(len(mine[-1]) for mine in self.rewards)

    def add(self, observations: Observation, actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Adds a step of each environment whose current episode is collected.

        :param observations: before the step. [n_envs, ...]
        :param actions: as the policy returned them. [n_envs, ...]
        :param rewards: [n_envs]
        :param dones: whether the episode ended with this step, terminated or truncated. [n_envs]
        """
        collecting = self.collecting
        self.discarded += int((~collecting).sum())
        for i in np.flatnonzero(collecting).tolist():
            self.observations[i].append(_row(observations, i))
            self.actions[i].append(actions[i])
            self.rewards[i][-1].append(float(rewards[i]))
            if dones[i]:
                self.rewards[i].append([])

    def batch(self, device: torch.device) -> EpisodeBatch:
        """The collected episodes as tensors on the device, environment by environment."""
        assert self.complete
        observations = [observation for mine in self.observations for observation in mine]
        actions = np.stack([action for mine in self.actions for action in mine])
        episodes = [rewards for mine in self.rewards for rewards in mine[:-1]]
        lengths = np.array([len(rewards) for rewards in episodes])
        mask = np.arange(lengths.max()) < lengths[:, None]
        padded = np.zeros(mask.shape, np.float32)
        padded[mask] = np.concatenate(episodes)
        return EpisodeBatch(
            _stacked(observations, device),
            torch.as_tensor(actions, device=device),
            torch.as_tensor(padded, device=device),
            torch.as_tensor(mask, device=device),
        )


def _row(observations: Observation, i: int) -> Observation:
    if isinstance(observations, dict):
        return {key: values[i] for key, values in observations.items()}
    return observations[i]


def _stacked(observations: list[Observation], device: torch.device) -> PyTorchObs:
    if isinstance(observations[0], dict):
        return {
            key: torch.as_tensor(np.stack([observation[key] for observation in observations]), device=device)
            for key in observations[0]
        }
    return torch.as_tensor(np.stack(observations), device=device)
