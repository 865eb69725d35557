"""GSAC: a soft actor-critic for discrete actions."""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeVar

import gymnasium
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from gsac.algorithms.accelerated import AcceleratedUpdates
from gsac.algorithms.arguments import (
    check_train_freq,
    check_truth,
    upgraded,
)
from gsac.algorithms.coefficient import EntropyCoefficient
from gsac.algorithms.exploration import Exploration
from gsac.algorithms.guards import UPDATES_BETWEEN_CHECKS, GuardedTraining
from gsac.algorithms.parsing import check_schedule, is_temperature
from gsac.estimators import Estimator, enumerates, resolve_estimator, scheduled
from gsac.learning.learner import Learner
from gsac.learning.metrics import RunningMean
from gsac.networks.actor import Actor
from gsac.networks.critic import Critic
from gsac.networks.policies import CnnPolicy, GSACPolicy, MlpPolicy, MultiInputPolicy
from gsac.replay.batch import Batch
from gsac.replay.prioritized import PrioritizedReplayBuffer
from gsac.schedules import Schedule
from gsac.spaces.codec import ActionCodec

SelfGSAC = TypeVar("SelfGSAC", bound="GSAC")


class GSAC(GuardedTraining, Exploration, EntropyCoefficient, AcceleratedUpdates):
    """Soft actor-critic for ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` actions.

    The actor's one-hot actions, relaxed or straight-through, are fed to the critics, and the gradient of their values
    with respect to the action trains the actor; so the cost grows with the number of classes, not with the number of
    joint actions. Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905; Jang et al. 2017,
    https://arxiv.org/abs/1611.01144.

    "A schedule" is a number, a function of the remaining progress, one of :mod:`gsac.schedules`, or a string such as
    ``"cosine:1:0.1"`` that describes one.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"`` or a class
    :param env: the environment, or the name of a registered one
    :param learning_rate: of actor, critics and entropy coefficient; a schedule
    :param buffer_size: transitions that the replay buffer holds
    :param learning_starts: steps with random actions before the first update
    :param batch_size: transitions in an update
    :param tau: Polyak step of the target networks, within [0, 1]
    :param gamma: discount of a step, within [0, 1]
    :param train_freq: steps between updates; with "episode" beside the number, episodes
    :param gradient_steps: updates each time; -1 for as many as there were steps, over all environments
    :param replay_buffer_class: an SB3 replay buffer, or :class:`gsac.PrioritizedReplayBuffer`; if None,
        :class:`gsac.DeviceReplayBuffer`, or one of SB3's where that takes more than half of a GPU's free memory, and for
        n-step returns on the CPU
    :param replay_buffer_kwargs: for its constructor
    :param optimize_memory_usage: store each observation once; not with n-step returns
    :param n_steps: rewards that a target sums before it asks the critics
    :param estimator: of the actor's gradient: a name in :data:`gsac.ESTIMATORS`, with settings if need be, as in
        ``"rloo:samples=8"`` or ``"mixed:rho=linear:1:0"``; a function of that signature; or ``"auto"`` for
        ``"straight_through"`` where the critics are linear in the action (by default with ``Discrete`` actions) and
        ``"gumbel_softmax"`` where they are not (by default with several at once)
    :param temperature: of the Gumbel-Softmax relaxation, above 0; a schedule. Behaviour does not depend on it.
    :param ent_coef: weight of the entropy: ``"auto"`` learns it, starting at 0.1; ``"auto_1.0"`` learns it, starting
        at 1; a number, or a schedule, sets it. What is learned stays between 4.5e-5 and 7.4
    :param target_entropy: what a learned coefficient aims at: ``"auto"`` for a fraction of the greatest entropy that falls from
        0.8 to 0.2 during the run, ``"auto_0.5"`` for one that stays, a number of nats, or a schedule of the fraction
    :param target: what a next state is worth in the critics' target. ``"mode"``: the value of the policy's most probable
        action, as ``predict(deterministic=True)`` acts; ``"mean"``: the policy's mean value; ``"soft"``: that plus the weighted
        entropy, as in the original SAC. Try ``"soft"`` where rewards are rare and staying alive finds them
    :param noise_duration: steps for which the Gumbel noise that picks an action in training is kept, on average; 1 for
        fresh noise at each step. With more, successive choices hang together, as those of a policy without noise
    :param epsilon: probability in training of an action that is drawn uniformly in the policy's place; a schedule
    :param bound_targets: no next state counts for more, or less, than the rewards seen so far can add up to. For critics that
        run away where the policy seldom returns; ``train/clamp_fraction`` in the log says how many values were out of range
    :param q_aggregation: how the critics' values become one in the target: ``"min"`` or ``"mean"``; the actor follows
        their mean
    :param target_update_interval: updates from one Polyak step to the next
    :param max_grad_norm: clip the norm of the critics' and of the actor's gradient, unless None; where episodes seldom
        end, the critics' errors are rare and large
    :param num_threads: PyTorch's CPU threads during ``learn()``: a number, or ``"auto"`` for one where the networks
        are small, unless the environment variable ``OMP_NUM_THREADS`` is set
    :param acceleration: how updates run. ``"eager"``: one operation after the other. ``"compile"``: the losses and their
        gradients as compiled code, which takes some seconds to a minute at the first update. ``"cudagraph"``: the whole
        update as one graph on the GPU, with one launch and nothing read or copied. ``"auto"``: ``"cudagraph"`` on a GPU,
        else ``"eager"``. On a GPU ``"compile"`` captures its compiled code as well. What cannot be captured, such as a
        replay buffer in host memory, runs eagerly, with a warning that says why.
    :param stats_window_size: episodes over which the logged return is averaged
    :param tensorboard_log: folder for TensorBoard, if wanted
    :param policy_kwargs: for the policy's constructor, see :class:`gsac.networks.policies.GSACPolicy`
    :param verbose: 0 silent, 1 with a table at each log, 2 with debugging messages
    :param seed: of everything random
    :param device: where the networks run; ``"auto"`` takes a GPU if there is one
    :raises ValueError: an argument out of its range
    :raises TypeError: an argument of another kind
    :raises UnsupportedSpaceError: an action space without classes, or observations that networks cannot read
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    archive_members: ClassVar[tuple[str, ...]] = (
        "data",
        "policy.pth",
        "actor.optimizer.pth",
        "critic.optimizer.pth",
        "pytorch_variables.pth",
    )
    policy: GSACPolicy
    actor: Actor
    critic: Critic
    critic_target: Critic

    def __init__(
        self,
        policy: str | type[GSACPolicy],
        env: gymnasium.Env | VecEnv | str,
        learning_rate: float | str | Schedule = 1e-3,
        buffer_size: int = 1_000_000,
        learning_starts: int = 1_000,
        batch_size: int = 128,
        tau: float = 0.05,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = -1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        estimator: str | Estimator = "auto",
        temperature: float | str | Schedule = 0.5,
        ent_coef: float | str | Schedule = "auto",
        target_entropy: str | float | Schedule = "auto",
        target: str = "mode",
        noise_duration: float = 16,
        epsilon: float | str | Schedule = "linear:0.15:0",
        bound_targets: bool = False,
        q_aggregation: str = "min",
        target_update_interval: int = 1,
        max_grad_norm: float | None = 10.0,
        num_threads: int | str = "auto",
        acceleration: str = "auto",
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
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            sde_support=False,
            support_multi_env=True,
        )
        self.estimator = estimator
        self.temperature = temperature
        self.ent_coef = ent_coef
        self.target_entropy = target_entropy
        self.target = target
        self.noise_duration = noise_duration
        self.epsilon = epsilon
        self.bound_targets = bound_targets
        self.q_aggregation = q_aggregation
        self.target_update_interval = target_update_interval
        self.max_grad_norm = max_grad_norm
        self.num_threads = num_threads
        self.acceleration = acceleration

        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if "deterministic_target" in vars(self):  # of a file that version 0.1.0 wrote
            given = {name: vars(self).pop(name) for name in ("deterministic_target", "entropy_in_target")}
            vars(self).update(upgraded(given))
        self._check_arguments()
        self._codec = ActionCodec(self.action_space)
        self._check_ent_coef(max_entropy=math.log(self._codec.groups.n_joint))
        self._setup_networks_and_buffer()
        self.actor, self.critic, self.critic_target = self.policy.actor, self.policy.critic, self.policy.critic_target
        self._fit_buffer_to_masks()
        estimator, self._estimator_schedules = scheduled(
            resolve_estimator(self.estimator, linear=self.critic.q_net.linear), self.device
        )
        if enumerates(estimator):
            self._codec.groups.joint_actions(self.device)  # refuses too many

        self._make_ent_coef()
        self._learner = Learner(
            self.actor,
            self.critic,
            self.critic_target,
            estimator=estimator,
            q_aggregation=self.q_aggregation,
            log_ent_coef=self.log_ent_coef,
            ent_coef_optimizer=self.ent_coef_optimizer,
            ent_coef_tensor=self.ent_coef_tensor,
            target=self.target,
            value_range=(self.policy.lowest_value, self.policy.highest_value) if self.bound_targets else None,
            max_grad_norm=self.max_grad_norm,
        )
        self._metrics = RunningMean(self.device)
        self._accelerate()

    def _check_arguments(self) -> None:
        """Here rather than in the constructor, so that what ``load()`` is given is checked as well."""
        check_truth("bound_targets", self.bound_targets)
        check_train_freq(self.train_freq, self.n_envs)
        self._check_shared_arguments()
        self._check_exploration()
        if self.buffer_size < self.batch_size:
            raise ValueError(
                f"buffer_size={self.buffer_size} holds less than one batch of batch_size={self.batch_size}: pass a larger "
                "buffer, such as buffer_size=100_000, or a smaller batch."
            )
        self._temperature_schedule = check_schedule(
            "temperature", self.temperature, "a number above 0, or a schedule of such", is_temperature, 0.5
        )

    def train(self, gradient_steps: int, batch_size: int = 128) -> None:
        """Makes ``gradient_steps`` updates of all networks, each on a batch of its own.

        For a prioritised replay buffer, the errors of each batch are read from the device: its next one depends on
        them. Otherwise nothing is read.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self._optimizers)
        self._learner.tau.fill_(self.tau)
        update = self._accelerated()

        for _ in range(gradient_steps):
            self._update_schedules()
            self._n_updates += 1
            update(batch_size, self._n_updates % self.target_update_interval == 0)

        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.check_losses(every=1 if self.device.type == "cpu" else UPDATES_BETWEEN_CHECKS)

    def _update(self, batch_size: int, track_targets: bool) -> None:
        """One update, from the replay buffer to the metrics. This is what a graph captures."""
        samples = self._sample_transitions(batch_size)
        batch = Batch.from_replay(samples, self._codec, self.gamma, self._stored_masks)
        self._metrics.add(self._learner.step(batch, track_targets))
        if isinstance(self.replay_buffer, PrioritizedReplayBuffer):
            assert self._learner.td_errors is not None
            self.replay_buffer.update_priorities(samples.indices, self._learner.td_errors.cpu().numpy())

    def sample_batch(self, batch_size: int) -> Batch:
        """Transitions from the replay buffer, as an update sees them."""
        return Batch.from_replay(self._sample_transitions(batch_size), self._codec, self.gamma, self._stored_masks)

    def _sample_transitions(self, batch_size: int) -> Any:
        """As the buffer gives them."""
        assert self.replay_buffer is not None
        normaliser = self._vec_normalize_env
        if self._stored_masks is not None:
            normaliser = self._stored_masks.normaliser(normaliser)
        return self.replay_buffer.sample(batch_size, env=normaliser)

    def _update_schedules(self) -> None:
        temperature = self._value_at(self._temperature_schedule)
        if not is_temperature(temperature):
            raise ValueError(
                f"temperature={self.temperature!r} became {temperature!r} after {self._n_updates} updates: it must "
                "stay above 0. Let the schedule end above 0, such as temperature='linear:1:0.1'."
            )
        self._learner.temperature.fill_(temperature)
        self.logger.record("train/temperature", temperature)
        self._update_ent_coef(self._learner.target_fraction)
        for name, (schedule, tensor) in self._estimator_schedules.items():
            value = self._value_at(schedule)
            tensor.fill_(value)
            self.logger.record(f"train/{name}", value)
        if isinstance(self.replay_buffer, PrioritizedReplayBuffer):
            self.replay_buffer.beta = self._value_at(self.replay_buffer.beta_schedule)
            self.logger.record("train/beta", self.replay_buffer.beta)

    def learn(
        self: SelfGSAC,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "GSAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        use_masking: bool | None = None,
    ) -> SelfGSAC:
        """Trains for ``total_timesteps`` environment steps, as SB3's algorithms do.

        :param use_masking: obey the environment's ``action_masks()``: True demands them, False ignores them, None obeys
            them where there are any
        :raises ValueError: masks are demanded and there are none, or they allow nothing, or the replay buffer in use has
            no room for them
        """
        self._use_masking = use_masking
        with self._limited_threads():
            return super().learn(
                total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
            )

    def dump_logs(self) -> None:
        """Writes the log. The losses' means since the last time are read from the device here, and only here."""
        self.check_losses()
        means = self._metrics.pop()
        if self.log_ent_coef is None:
            means.pop("ent_coef_loss", None)
            means.pop("target_entropy", None)
        if not self.bound_targets:
            means.pop("clamp_fraction", None)
        for name, mean in means.items():
            self.logger.record(f"train/{name}", mean)
        super().dump_logs()

    def _excluded_save_params(self) -> list[str]:
        return [
            *super()._excluded_save_params(),
            "actor",
            "critic",
            "critic_target",
            "_codec",
            "_learner",
            "_metrics",
            "_captured",
            "_stored_masks",
            "_last_masks",
            "_estimator_schedules",
            "ent_coef_tensor",
        ]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "actor.optimizer", "critic.optimizer"]
        if self.ent_coef_optimizer is None:
            return state_dicts, []
        return [*state_dicts, "ent_coef_optimizer"], ["log_ent_coef"]
