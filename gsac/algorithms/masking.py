"""Action masks off-policy, in sb3-contrib's convention: the environment's ``action_masks()`` says what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from gsac.algorithms.buffers import ChosenBuffer
from gsac.functional.categorical import FactorisedCategorical
from gsac.networks.policies import GSACPolicy
from gsac.replay.masks import StoredMasks, all_valid, to_tensor
from gsac.spaces.codec import ActionCodec

METHOD = "action_masks"
TERMINAL = "terminal_action_masks"
"""In the info of a step that ends an episode: the mask of its last state, should the environment wish to tell."""


def supports_masks(env: VecEnv) -> bool:
    """Whether all environments have a method ``action_masks()``."""
    return env.has_attr(METHOD)


def current_masks(env: VecEnv, codec: ActionCodec, step: int) -> np.ndarray:
    """What is allowed now in each of the environments. Bool [n_envs, D]

    :raises ValueError: masks of a wrong shape, or one that allows nothing; says in which environment and at which step
    """
    return codec.check_masks(env.env_method(METHOD), f"action_masks() of the environment, at step {step},")


class MaskedActions(ChosenBuffer):
    """Acts, warms up, stores and learns within what ``action_masks()`` allows. To be named before SB3's own class."""

    policy: GSACPolicy
    _codec: ActionCodec

    _use_masking: bool | None = None
    _stored_masks: StoredMasks | None = None
    """How the buffer holds masks, if it does."""
    _last_masks: np.ndarray | None = None
    """Those of the observations in which the next actions are chosen. [n_envs, D]"""

    def load_replay_buffer(self, *args: Any, **kwargs: Any) -> None:
        """As SB3's; a buffer with masks is known as such."""
        super().load_replay_buffer(*args, **kwargs)
        assert self.replay_buffer is not None
        with_masks = StoredMasks(self.observation_space, self._codec.groups.flat_size)
        self._stored_masks = with_masks if self.replay_buffer.observation_space == with_masks.space else None

    def _fit_buffer_to_masks(self) -> None:
        """Gives the buffer room for masks where the environment has them.

        :raises ValueError: it is too late for that, as the buffer is in use
        """
        assert self.replay_buffer is not None
        with_masks = StoredMasks(self.observation_space, self._codec.groups.flat_size)
        if self.replay_buffer.observation_space == with_masks.space:
            self._stored_masks = with_masks
        elif self._wants_masks():
            if self.replay_buffer.size() > 0:
                raise ValueError(
                    f"The replay buffer holds {self.replay_buffer.size()} transitions without masks, and the "
                    "environment has them: make a new model for it, or pass use_masking=False to ignore them."
                )
            self._stored_masks = with_masks
            self.replay_buffer = None  # gives its memory back first
            self.replay_buffer = self._empty_buffer(with_masks)
        else:
            self._stored_masks = None

    def _wants_masks(self) -> bool:
        return self.env is not None and supports_masks(self.env) and self._use_masking is not False

    def _stored_space(self) -> spaces.Space[Any]:
        if self._wants_masks():
            return StoredMasks(self.observation_space, self._codec.groups.flat_size).space
        return super()._stored_space()

    def _empty_buffer(self, with_masks: StoredMasks) -> ReplayBuffer:
        assert self.replay_buffer_class is not None
        kwargs = self._buffer_arguments()
        if issubclass(self.replay_buffer_class, HerReplayBuffer):
            kwargs["env"] = self.env
        return self.replay_buffer_class(
            self.buffer_size,
            with_masks.space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            **kwargs,
        )

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        assert self.env is not None
        if self._use_masking and not supports_masks(self.env):
            raise ValueError(
                "use_masking=True needs an environment with a method action_masks(), and this one has none: add the "
                "method, wrap it in one that has it, or leave use_masking out."
            )
        self._fit_buffer_to_masks()
        ready = super()._setup_learn(*args, **kwargs)
        self._last_masks = self._ask_for_masks() if self._stored_masks is not None else None
        return ready

    def _ask_for_masks(self) -> np.ndarray:
        assert self.env is not None
        if self._use_masking is False or not supports_masks(self.env):
            return all_valid(self.n_envs, self._codec.groups.flat_size)
        return current_masks(self.env, self._codec, self.num_timesteps)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self._last_masks is None:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        if self.num_timesteps < learning_starts:
            actions = self._uniform_actions(n_envs)
        else:
            assert self._last_obs is not None
            actions, _ = self.policy.predict(self._last_obs, deterministic=False, action_masks=self._last_masks)
        return actions, actions

    def _uniform_actions(self, n_envs: int) -> np.ndarray:
        """Drawn from all that are allowed now, one for each environment, with equal probabilities."""
        if self._last_masks is None:
            return np.array([self.action_space.sample() for _ in range(n_envs)])
        anything = FactorisedCategorical(
            torch.zeros(n_envs, self._codec.groups.flat_size),
            self._codec.groups,
            to_tensor(self._last_masks, torch.device("cpu")),
        )
        return self._codec.decode(anything.sample_classes()).numpy()

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        if self._stored_masks is not None:
            assert self._last_masks is not None
            new_masks = self._ask_for_masks()
            reached = _masks_of_reached_states(new_masks, dones, infos, self._codec)
            joined: Any = _JoiningBuffer(replay_buffer, self._stored_masks, self._last_masks, reached)
            replay_buffer = joined
            self._last_masks = new_masks
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The action in a state: sampled, or the most probable one if ``deterministic``. In the space's own numbers.

        :param action_masks: what is allowed, bool [D], or [n, D] for n observations; everything if None
        :raises ValueError: masks of another shape, or one that allows nothing
        """
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)


def _masks_of_reached_states(
    new_masks: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]], codec: ActionCodec
) -> np.ndarray:
    """The masks of the states that the step led to. [n_envs, D]

    Where an episode has ended, the environment already speaks of the next one; the last state's mask is then in the
    info, or everything counts as allowed there.
    """
    reached = new_masks.copy()
    for i in np.flatnonzero(dones):
        if infos[i].get(TERMINAL) is None:
            reached[i] = True
        else:
            reached[i] = codec.check_masks([infos[i][TERMINAL]], f"{TERMINAL} in the info of a step")[0]
    return reached


class _JoiningBuffer:
    """What is added to it goes to the buffer, with the masks beside the observations."""

    def __init__(self, buffer: ReplayBuffer, stored: StoredMasks, masks: np.ndarray, next_masks: np.ndarray) -> None:
        self.buffer, self.stored, self.masks, self.next_masks = buffer, stored, masks, next_masks

    def add(self, obs: Any, next_obs: Any, *transition: Any) -> None:
        self.buffer.add(self.stored.join(obs, self.masks), self.stored.join(next_obs, self.next_masks), *transition)


class Masked:
    """A model that asks an environment for its masks whenever it is to predict; else it is the model.

    SB3's ``evaluate_policy`` knows no masks; given this in the model's place, it evaluates within them.
    """

    def __init__(self, model: MaskedActions, env: VecEnv) -> None:
        self._model, self._env = model, env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, observation: Any, **kwargs: Any) -> Any:
        """See :meth:`MaskedActions.predict`."""
        return self._model.predict(observation, **kwargs, action_masks=np.stack(self._env.env_method(METHOD)))


def masked(model: BaseAlgorithm, env: VecEnv) -> Any:
    """The model, or where the environment and it know masks, the model within them."""
    return Masked(model, env) if isinstance(model, MaskedActions) and supports_masks(env) else model


class EvalWithMasksCallback(EvalCallback):
    """SB3's ``EvalCallback``, which obeys the masks of the evaluation's environment where there are any.

    :param first_seed: of the environment at the first evaluation, 1 more at each one that follows; so that an evaluation does
        not depend on those before it, some of which may have been made before a stop. None leaves the environment as it is
    """

    def __init__(self, *args: Any, first_seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_seed = first_seed

    def _on_step(self) -> bool:
        if self.first_seed is not None and self.eval_freq > 0 and self.n_calls % self.eval_freq == 0:
            self.eval_env.seed(self.first_seed + self.n_calls // self.eval_freq - 1)
        return super()._on_step()

    def init_callback(self, model: BaseAlgorithm) -> None:
        """As every callback."""
        super().init_callback(masked(model, self.eval_env))
