"""REINFORCE: the Monte-Carlo policy gradient, with a choice of baselines."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.type_aliases import MaybeCallback, PyTorchObs
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from gsac.algorithms.base import Algorithm, check_learning_rate
from gsac.algorithms.guards import ExperienceGuard
from gsac.checks import check_number
from gsac.functional import losses
from gsac.functional.returns import mean_of_others, returns_to_go, unit_scale
from gsac.networks.small_cnn import choose_extractor
from gsac.optim.adam import set_learning_rate
from gsac.optim.descent import descend
from gsac.replay.episodes import EpisodeBatch, Episodes
from gsac.schedules import Schedule

SelfREINFORCE = TypeVar("SelfREINFORCE", bound="REINFORCE")

ENDLESS_EPISODE = 100_000
"""Steps after which an episode that has outlasted the run is an error."""


class REINFORCE(Algorithm, OnPolicyAlgorithm):
    """REINFORCE for ``Box``, ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` actions.

    Each update makes one gradient step along an estimate of the gradient of E[(G_t - baseline) * log pi(a_t|s_t)] from whole
    episodes, and discards them. G_t is the discounted return from step t on; nothing is bootstrapped, also where an
    episode was truncated. Williams 1992, https://doi.org/10.1007/BF00992696; with a learned state value as the
    baseline, Sutton & Barto 2018, section 13.4, http://incompleteideas.net/book/the-book-2nd.html. As is usual, and
    unlike there, late steps are not weighted by gamma^t (Nota & Thomas 2020, https://arxiv.org/abs/1906.07073), and the
    loss is averaged over the steps of all episodes.

    Several environments are reset together before each update, and each brings a fixed number of its first episodes, so
    that short episodes are not preferred. The steps that a quick environment makes meanwhile are discarded, but count. A
    run ends with the update that reaches ``total_timesteps``.

    A schedule is a number, a function of the remaining progress (from 1 to 0), one of :mod:`gsac.schedules`, or a string
    such as ``"linear:1e-2:0"`` that describes one.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"`` or a class, all of them SB3's for actor and
        critic. ``predict()`` of this class adds the ``start`` of the action space, that of SB3's policies does not. Images of
        less than 36 pixels on a side are read by :class:`gsac.SmallCNN`
    :param env: the environment, or the name of a registered one
    :param learning_rate: of the policy; a schedule. Lower it where returns collapse
    :param episodes_per_update: whole episodes in an update, at least as many as environments. Raise it for less noise in the
        gradient
    :param gamma: discount of a step, within [0, 1]. Lower it for less variance and more bias
    :param baseline: what is subtracted from the returns. ``"value"``: a learned state value. ``"mean"``: at each step the
        mean return of the update's other episodes from that step on, 0 where they have ended (an episode's own return would
        bias the gradient); it needs no value network. ``"none"``: nothing, to see what a baseline gains
    :param normalize_advantage: divide the advantages by their root mean square in the update, so that one learning rate
        serves rewards of any scale. Their mean is not subtracted: that would be another baseline
    :param ent_coef: weight of the entropy, in reward per nat, or relative to the divided advantages; at least 0. Raise it
        where the policy becomes deterministic too early
    :param value_learning_rate: of the state value; a schedule
    :param value_steps: gradient steps of the state value in an update, after the advantages were computed. Lower it where an
        update has few steps, which many would overfit
    :param max_grad_norm: clip the norm of each gradient; None does not
    :param num_threads: PyTorch's CPU threads during ``learn()``. ``"auto"`` takes one for small networks, unless the
        environment variable ``OMP_NUM_THREADS`` is set
    :param stats_window_size: episodes over which the logged return is averaged
    :param tensorboard_log: folder for TensorBoard; None writes nothing
    :param policy_kwargs: for the policy's constructor. Policy and state value have no layer in common, unless
        ``share_features_extractor`` is set; what is shared learns from the policy's loss alone
    :param verbose: 0 prints nothing, 1 a table at each log, 2 debugging messages as well
    :param seed: of all random numbers; None draws one
    :param device: where the networks run; ``"auto"`` takes a GPU if there is one
    :raises ValueError: an argument out of its range
    :raises TypeError: an argument of another kind
    :raises AssertionError: an action space of another kind (SB3's own check)
    :raises UnsupportedSpaceError: observations that networks cannot read
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
    }
    archive_members: ClassVar[tuple[str, ...]] = ("data", "policy.pth", "policy.optimizer.pth", "value_optimizer.pth")
    rollout_buffer: Episodes  # type: ignore[assignment]  # SB3's own are of a length known in advance
    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: gymnasium.Env | VecEnv | str,
        learning_rate: float | str | Schedule = 5e-3,
        episodes_per_update: int = 8,
        gamma: float = 0.99,
        baseline: str = "value",
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        value_learning_rate: float | str | Schedule = 1e-2,
        value_steps: int = 50,
        max_grad_norm: float | None = 0.5,
        num_threads: int | str = "auto",
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,  # type: ignore[arg-type]  # SB3's own type knows no strings
            n_steps=0,
            gamma=gamma,
            gae_lambda=1.0,
            ent_coef=ent_coef,
            vf_coef=0.0,
            max_grad_norm=max_grad_norm,  # type: ignore[arg-type]
            use_sde=False,
            sde_sample_freq=-1,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        self.episodes_per_update = episodes_per_update
        self.baseline = baseline
        self.normalize_advantage = normalize_advantage
        self.value_learning_rate = value_learning_rate
        self.value_steps = value_steps
        self.num_threads = num_threads
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._check_arguments()
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        kwargs = {"share_features_extractor": False} | self.policy_kwargs
        if self.policy_class is ActorCriticCnnPolicy and kwargs.get("features_extractor_class") is None:
            normalize_images = kwargs.get("normalize_images", True)
            kwargs["features_extractor_class"] = choose_extractor(NatureCNN, self.observation_space, normalize_images)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, use_sde=False, **kwargs
        ).to(self.device)
        value_parameters = self._value_parameters()
        of_value = set(value_parameters)
        policy_parameters = [parameter for parameter in self.policy.parameters() if parameter not in of_value]
        self.policy.optimizer = self._make_optimizer(policy_parameters, self.lr_schedule)
        self.value_optimizer = self._make_optimizer(value_parameters, self._value_learning_rate_schedule)
        self.rollout_buffer = Episodes(self.episodes_per_update, self.n_envs)
        self.guard = ExperienceGuard(self.observation_space)
        self._maybe_recommend_cpu()

    def _check_arguments(self) -> None:
        """Checks all arguments; not in the constructor, so that what ``load()`` is given is checked as well."""
        self._check_shared_arguments()
        self._value_learning_rate_schedule = check_learning_rate("value_learning_rate", self.value_learning_rate)
        check_number("ent_coef", self.ent_coef, "a number of at least 0", lambda value: 0 <= value < np.inf, 0.01)
        least = max(self.n_envs, 2 if self.baseline == "mean" else 1)
        check_number(
            "episodes_per_update",
            self.episodes_per_update,
            f"a whole number of at least {least} with {self.n_envs} environments and baseline={self.baseline!r}",
            lambda value: value >= least,
            max(least, 8),
        )
        if (
            isinstance(self.action_space, spaces.MultiDiscrete | spaces.MultiBinary)
            and len(self.action_space.shape) > 1
        ):
            raise ValueError(
                f"The action space {self.action_space} has {len(self.action_space.shape)} dimensions, and SB3's "
                "distributions have one. Wrap the environment in gymnasium.wrappers.TransformAction(env, lambda action: "
                f"action.reshape({self.action_space.shape}), FLAT), where FLAT is the same space in one dimension."
            )

    def _value_parameters(self) -> list[nn.Parameter]:
        """The parameters of the value network alone, without those of a shared features extractor."""
        own = ("value_net.", "mlp_extractor.value_net.", "vf_features_extractor.")
        return [parameter for name, parameter in self.policy.named_parameters() if name.startswith(own)]

    def _make_optimizer(self, parameters: list[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
        kind: Any = self.policy.optimizer_class
        return kind(parameters, lr=schedule(1), **self.policy.optimizer_kwargs)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: Episodes,  # type: ignore[override]
        n_rollout_steps: int,
    ) -> bool:
        """Collects the whole episodes of one update with the current policy.

        :param n_rollout_steps: not used, since episodes end when they end
        :return: False if the callback stopped the run; the episodes are then incomplete
        :raises ValueError: an episode of 100,000 steps has outlasted the run
        """
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        if not np.all(self._last_episode_starts):
            self._last_obs = env.reset()  # type: ignore[assignment]
        callback.on_rollout_start()

        while not rollout_buffer.complete:
            assert self._last_obs is not None
            with torch.no_grad():
                observations = obs_as_tensor(self._last_obs, self.device)
                actions = self.policy.get_distribution(observations).get_actions().cpu().numpy()
            new_obs, rewards, dones, infos = env.step(self._to_env(actions))
            self.num_timesteps += env.num_envs
            self.guard.check_rewards(self.num_timesteps, rewards)
            self.guard.check_observation(self.num_timesteps, new_obs)  # type: ignore[arg-type]  # no tuples of arrays

            callback.update_locals(locals())
            if not callback.on_step():
                self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
                return False

            counted = np.flatnonzero(rollout_buffer.collecting)  # in the log as well, short episodes are not preferred
            self._update_info_buffer([infos[i] for i in counted], dones[counted])
            rollout_buffer.add(self._last_obs, actions, rewards, dones)
            self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
            if rollout_buffer.longest_running >= ENDLESS_EPISODE and self.num_timesteps >= self._total_timesteps:
                raise ValueError(
                    f"An episode has not ended after {rollout_buffer.longest_running} steps, and REINFORCE learns from "
                    "whole episodes: wrap the environment in gymnasium.wrappers.TimeLimit(env, max_episode_steps=1000)."
                )

        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Makes one gradient step of the policy, and with the value baseline ``value_steps`` of the state value."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        batch = self.rollout_buffer.batch(self.device)
        returns = returns_to_go(batch.rewards, self.gamma)
        policy_loss, entropy = self.policy_loss(batch, self.advantage(batch, returns))
        self._descend(self.policy.optimizer, policy_loss)
        if self.baseline == "value":
            self._fit_value(batch.observations, returns[batch.mask])
        self._n_updates += 1
        self.logger.record("train/policy_loss", policy_loss.item())
        self.logger.record("train/entropy", entropy.item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("rollout/discarded_steps", self.rollout_buffer.discarded)

    def advantage(self, batch: EpisodeBatch, returns: Tensor) -> Tensor:
        """Subtracts the baseline from the returns, without a gradient. [N]

        :param returns: of each step, padded [E, T]
        """
        advantage = returns[batch.mask]
        if self.baseline == "mean":
            advantage = advantage - mean_of_others(returns)[batch.mask]
        if self.baseline == "value":
            with torch.no_grad():
                value = self.policy.predict_values(batch.observations).flatten()
            explained = explained_variance(value.cpu().numpy(), advantage.cpu().numpy())
            self.logger.record("train/explained_variance", explained)
            advantage = advantage - value
        return unit_scale(advantage) if self.normalize_advantage else advantage

    def policy_loss(self, batch: EpisodeBatch, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's loss, and the mean entropy without a gradient. Both []"""
        policy = self.policy.get_distribution(batch.observations)
        entropy = policy.entropy()
        assert entropy is not None
        score = losses.policy_gradient(advantage, policy.log_prob(batch.actions))
        return losses.actor_loss(score, entropy, torch.as_tensor(self.ent_coef)), entropy.detach().mean()

    def _fit_value(self, observations: PyTorchObs, returns: Tensor) -> None:
        """Fits the state value to the returns by least squares. [N, ...], [N]"""
        learning_rate = self._value_at(self._value_learning_rate_schedule)
        set_learning_rate(self.value_optimizer, learning_rate)
        for step in range(self.value_steps):
            loss = losses.critic_loss(self.policy.predict_values(observations).T, returns)
            if step == 0:
                self.logger.record("train/value_loss", loss.item())
            self._descend(self.value_optimizer, loss)
        self.logger.record("train/value_learning_rate", learning_rate)

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        descend(optimizer, loss, optimizer.param_groups[0]["params"], self.max_grad_norm)

    def _to_env(self, actions: np.ndarray) -> np.ndarray:
        """Translates the policy's actions to the environment's own numbers. [n_envs, ...]"""
        space = self.action_space
        actions = actions.reshape(-1, *space.shape)  # type: ignore[misc]
        if isinstance(space, spaces.Box):
            return np.clip(actions, space.low, space.high)
        return (actions + getattr(space, "start", 0)).astype(space.dtype)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Samples an action for each observation, or takes the most probable one if ``deterministic``.

        :return: actions in the environment's own numbers, and ``state``
        """
        actions, state = super().predict(observation, state, episode_start, deterministic)
        if isinstance(self.action_space, spaces.Discrete | spaces.MultiDiscrete):  # SB3's policies count from 0
            actions = np.asarray(actions + self.action_space.start)
        return actions, state

    def learn(
        self: SelfREINFORCE,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 10,
        tb_log_name: str = "REINFORCE",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfREINFORCE:
        """Trains for ``total_timesteps`` environment steps, and until the last update's episodes have ended.

        :param log_interval: updates from one log to the next
        """
        with self._limited_threads():
            return super().learn(
                total_timesteps,
                callback,
                log_interval,
                tb_log_name,
                reset_num_timesteps,
                progress_bar,
            )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "guard"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer", "value_optimizer"], []
