"""A replay buffer stored on the training device, so that sampling needs no copy from the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, PyTorchObs, ReplayBufferSamples
from torch import Tensor

from gsac.replay.device_rows import DeviceRows, shares_memory
from gsac.replay.n_step import NStepSum, check_steps
from gsac.replay.storage import DONE, REWARD, TIMEOUT, check_free, replay_bytes, stored_fields

NOT_PICKLED = (
    "_rows",
    "_flat",
    "_device",
    "_n_drawable_tensor",
    "_first_row",
    "_newest_step",
    "_sum_n_steps",
    "_row_offsets",
)
"""Attributes on the device, which ``_allocate`` makes again."""


class DeviceReplayBuffer(ReplayBuffer):
    """Uniform replay with SB3's interface, stored on the training device.

    New transitions are held on the host until the next :meth:`sample`, or until about a thousand have come, and are then
    copied to the device at once, field by field. Sampling draws and gathers on the device, without a copy to or from the
    host and without NumPy. A CUDA graph that captured :meth:`sample` stays correct while the buffer fills, provided that
    :meth:`flush` is called before each replay; capture again after ``device`` was set. On the CPU transitions are written
    where they stay.

    It replaces SB3's ``ReplayBuffer``, ``DictReplayBuffer`` and ``NStepReplayBuffer`` and returns the same samples, in
    tensors of the same types.

    :param buffer_size: transitions, over all environments
    :param observation_space: arrays or a ``Dict`` of arrays
    :param action_space: of the environment
    :param device: of the storage and the samples; if the attribute is set, they move there
    :param n_envs: environments
    :param optimize_memory_usage: store each observation once, which halves the memory; only with ``n_steps=1`` and
        ``handle_timeout_termination=False``
    :param handle_timeout_termination: bootstrap from the last observation if a time limit truncated the episode
    :param n_steps: n of n-step returns; as in SB3's ``NStepReplayBuffer``, sums end with the episode or the newest step
    :param gamma: the discount of a step, used if ``n_steps`` is above 1
    :raises ValueError: an argument out of its range, two that exclude each other, or too little memory on the device
    :raises TypeError: an argument of another kind
    """

    NOT_RECORDED = ("pos", "full", "_rows")
    """Attributes that change with every transition. A recorded :meth:`sample` reads tensors instead."""

    n_steps: int
    gamma: float

    _rows: DeviceRows | None = None

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_steps: int = 1,
        gamma: float = 0.99,
    ) -> None:
        check_steps(n_steps, gamma, optimize_memory_usage)
        if optimize_memory_usage and handle_timeout_termination:
            raise ValueError(
                "optimize_memory_usage=True does not store the last observation of an episode, from which "
                "handle_timeout_termination=True bootstraps: pass handle_timeout_termination=False (to an algorithm, "
                "replay_buffer_kwargs={'handle_timeout_termination': False}) or optimize_memory_usage=False."
            )
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        self.n_steps, self.gamma = n_steps, gamma
        self._stored_shapes = self.obs_shape if isinstance(self.obs_shape, dict) else {"": self.obs_shape}
        self._allocate(self.device)

    def _allocate(self, device: torch.device, contents: dict[str, Tensor] | None = None) -> None:
        space, actions = self.observation_space, self.action_space
        needed = replay_bytes(self._n_rows, space, actions, self.n_envs, self.optimize_memory_usage)
        check_free(needed, self._n_rows, device)
        fields = stored_fields(space, actions, self.optimize_memory_usage)
        self._rows = DeviceRows(fields, self.buffer_size, self.n_envs, device)
        self._rows.put(contents or {})
        self._flat = {name: values.flatten(0, 1) for name, values in self._rows.stored.items()}
        self._n_drawable_tensor, self._first_row, self._newest_step = torch.zeros(3, dtype=torch.int64, device=device)
        self._sum_n_steps = NStepSum(self.n_steps, self.gamma, device)
        self._row_offsets = torch.arange(self.n_steps, device=device) * self.n_envs
        self._device = device
        self._fill_numbers()

    @property
    def device(self) -> torch.device:
        """The device of the storage; after it is set, transitions move at the next :meth:`sample`."""
        return self._device

    @device.setter
    def device(self, device: torch.device) -> None:
        self._device = device

    def _move(self) -> None:
        """Moves the storage if ``device`` was set. Only when sampling, so that a loaded buffer can be read without a GPU."""
        assert self._rows is not None
        if self._rows.device != self._device:
            self._allocate(self._device, self._flushed.contents(self._n_used))

    @property
    def storage(self) -> DeviceRows | None:
        """The rows on the device; a new object after ``device`` was changed."""
        self._move()
        return self._rows

    @property
    def _flushed(self) -> DeviceRows:
        """The rows after :meth:`flush`."""
        self.flush()
        assert self._rows is not None
        return self._rows

    @property
    def _n_used(self) -> int:
        """The number of steps that hold data."""
        following = int(self.optimize_memory_usage)  # the newest transition's next observation, one step later
        return min(self.size() + following, self.buffer_size)

    @property
    def observations(self) -> Any:  # type: ignore[override]
        """[steps, n_envs, ...]. Like all stored fields a tensor on a GPU, and on the CPU a NumPy array as in SB3."""
        return self._stored_observations("observations")

    @property
    def next_observations(self) -> Any:  # type: ignore[override]
        return self._stored_observations("next_observations")

    @property
    def actions(self) -> Any:  # type: ignore[override]
        return self._stored_values("actions")

    @property
    def rewards(self) -> Any:  # type: ignore[override]
        return self._stored_values("outcomes")[..., REWARD]

    @property
    def dones(self) -> Any:  # type: ignore[override]
        return self._stored_values("outcomes")[..., DONE]

    @property
    def timeouts(self) -> Any:  # type: ignore[override]
        return self._stored_values("outcomes")[..., TIMEOUT]

    def _stored_values(self, name: str) -> Any:
        stored = self._flushed.stored[name]
        return stored.numpy() if shares_memory(stored.device) else stored

    def _stored_observations(self, name: str) -> Any:
        if name == "next_observations" and self.optimize_memory_usage:
            raise AttributeError(
                "optimize_memory_usage=True stores no next_observations: read observations one step later."
            )
        if isinstance(self.obs_shape, dict):
            return {key: self._stored_values(f"{name}/{key}") for key in self.obs_shape}
        return self._stored_values(f"{name}/")

    def add(
        self,
        obs: np.ndarray | dict[str, np.ndarray],
        next_obs: np.ndarray | dict[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Adds a transition of each environment, as SB3 does; it is copied to the device later."""
        rows = self._rows
        assert rows is not None
        at, pending = rows.pending_index(self.pos), rows.pending
        self._write(pending, "observations", at, obs)
        if self.optimize_memory_usage:
            self._write(pending, "observations", (at + 1) % len(pending["actions"]), next_obs)
        else:
            self._write(pending, "next_observations", at, next_obs)
        pending["actions"][at] = action.reshape(self.n_envs, self.action_dim)
        outcomes = pending["outcomes"][at]
        outcomes[:, REWARD], outcomes[:, DONE], outcomes[:, TIMEOUT] = reward, done, 0.0
        if self.handle_timeout_termination:
            truncated = np.array([info.get("TimeLimit.truncated", False) for info in infos])
            outcomes[:, TIMEOUT] = truncated.reshape(self.n_envs)
        rows.n_pending += 1
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0
        if rows.must_store:
            self.flush()

    def _write(self, pending: dict[str, np.ndarray], name: str, at: int, observations: Any) -> None:
        parts = observations if isinstance(self.obs_shape, dict) else {"": observations}
        for key, shape in self._stored_shapes.items():
            # Discrete observations come as [n_envs] and are stored as [n_envs, 1].
            values = np.asarray(parts[key])
            pending[f"{name}/{key}"][at] = values if values.ndim > len(shape) else values.reshape(self.n_envs, *shape)

    def flush(self) -> None:
        """Copies the transitions that are held on the host to the device, if there are any."""
        assert self._rows is not None
        if self._rows.n_pending > 0:
            followed = "observations/" if self.optimize_memory_usage else None
            self._rows.store(self.pos, followed)
            self._fill_numbers()

    def reset(self) -> None:
        super().reset()
        assert self._rows is not None
        self._rows.n_pending = 0
        self._fill_numbers()

    @property
    def _n_rows(self) -> int:
        """Transitions that fit, over all environments."""
        return self.buffer_size * self.n_envs

    @property
    def _n_drawable(self) -> int:
        """Transitions that can be drawn."""
        # If observations are stored once, the oldest is overwritten by the newest transition's next observation.
        lost = int(self.optimize_memory_usage and self.full)
        return (self.size() - lost) * self.n_envs

    def _fill_numbers(self) -> None:
        """Writes the ring's state to tensors on the device, so that a captured graph sees it change."""
        self._n_drawable_tensor.fill_(self._n_drawable)
        if self.optimize_memory_usage:
            self._first_row.fill_((self.pos + 1) * self.n_envs if self.full else 0)
        if self.n_steps > 1:
            self._newest_step.fill_((self.pos - 1) % self.buffer_size)

    def sample(  # type: ignore[override]
        self, batch_size: int, env: Any = None
    ) -> ReplayBufferSamples | DictReplayBufferSamples:
        """Draws transitions uniformly, with PyTorch's generator of the device.

        :param env: the ``VecNormalize`` that normalises observations and rewards, if there is one; it works on NumPy
            arrays, so every sample is copied to the host and back
        :raises ValueError: nothing is stored
        """
        self._move()
        self.flush()
        if self._n_drawable == 0:
            raise ValueError("There is nothing to sample: add() transitions to the replay buffer first.")
        # The remainder of 63 random bits: probabilities of n rows differ by a factor of 1 + n / 2^63 at most.
        rows = (
            torch.empty(batch_size, dtype=torch.int64, device=self._device)
            .random_()
            .remainder_(self._n_drawable_tensor)
        )
        if self.optimize_memory_usage:
            rows.add_(self._first_row).remainder_(self._n_rows)
        return self._get_samples(rows, env)

    def _get_samples(  # type: ignore[override]
        self, rows: Tensor, env: Any = None
    ) -> ReplayBufferSamples | DictReplayBufferSamples:
        """The transitions of step s and environment e for rows s * n_envs + e. int64 [B], on the device"""
        last, returns, discounts = self._several_steps(rows, env) if self.n_steps > 1 else (rows, None, None)
        rewards, dones, timeouts = self._flat["outcomes"].index_select(0, last).split(1, 1)
        if returns is None:
            returns = self._normalized_rewards(rewards, env)
        if self.optimize_memory_usage:
            next_observations = self._gather("observations", (rows + self.n_envs).remainder_(self._n_rows), env)
        else:
            next_observations = self._gather("next_observations", last, env)
        kind: Any = DictReplayBufferSamples if isinstance(self.obs_shape, dict) else ReplayBufferSamples
        return kind(
            observations=self._gather("observations", rows, env),
            actions=self._flat["actions"].index_select(0, rows),
            next_observations=next_observations,
            dones=torch.addcmul(dones, dones, timeouts, value=-1),  # dones * (1 - timeouts)
            rewards=returns,
            discounts=discounts,
        )

    def _several_steps(self, rows: Tensor, env: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The row of the last step that counts [B], the sum of the rewards [B, 1], the discount after it [B, 1]."""
        window = (rows[:, None] + self._row_offsets).remainder_(self._n_rows)
        outcomes = self._flat["outcomes"].index_select(0, window.flatten()).view(*window.shape, -1)
        rewards, dones, timeouts = outcomes.unbind(-1)
        ends = torch.logical_or(dones, timeouts)
        steps = window if self.n_envs == 1 else window // self.n_envs
        ends.logical_or_(steps == self._newest_step)
        summed = self._sum_n_steps(self._normalized_rewards(rewards, env), ends)
        return window.gather(1, summed.last)[:, 0], summed.returns, summed.discounts

    def _gather(self, name: str, rows: Tensor, env: Any) -> PyTorchObs:
        if not isinstance(self.obs_shape, dict):
            found = self._flat[f"{name}/"].index_select(0, rows)
            return found if env is None else self.to_torch(env.normalize_obs(found.numpy(force=True)))
        parts = {key: self._flat[f"{name}/{key}"].index_select(0, rows) for key in self.obs_shape}
        if env is None:
            return parts
        normalized = env.normalize_obs({key: values.numpy(force=True) for key, values in parts.items()})
        return {key: self.to_torch(values) for key, values in normalized.items()}

    def _normalized_rewards(self, rewards: Tensor, env: Any) -> Tensor:
        if env is None:
            return rewards
        return self.to_torch(self._normalize_reward(rewards.numpy(force=True), env))

    def __getstate__(self) -> dict[str, Any]:
        """Pickles the steps in use as NumPy arrays, which any machine can read."""
        contents = self._flushed.contents(self._n_used)
        state = {name: value for name, value in vars(self).items() if name not in NOT_PICKLED}
        return state | {"contents": {name: values.numpy(force=True) for name, values in contents.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores the buffer on the CPU; set ``device`` to move it."""
        contents = {name: torch.from_numpy(values) for name, values in state.pop("contents").items()}
        vars(self).update(state)
        self._allocate(torch.device("cpu"), contents)
