"""GSAC: a soft actor-critic for discrete actions."""

from __future__ import annotations

import io
import math
import pathlib
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn
from stable_baselines3.common.vec_env import VecEnv

from gsac.algorithms import masking
from gsac.algorithms.arguments import OLD_TARGET_ARGUMENTS, check_train_freq, upgraded
from gsac.algorithms.base import Algorithm
from gsac.algorithms.exploration import Explorer
from gsac.algorithms.guards import ExperienceGuard
from gsac.algorithms.parsing import parse_ent_coef, parse_target_entropy
from gsac.checks import is_above_0, is_probability
from gsac.estimators import Estimator, enumerates_actions, extract_schedules, resolve_estimator
from gsac.learning.coefficient import EntropyCoefficient
from gsac.learning.learner import Learner, Objective
from gsac.learning.updates import Updates
from gsac.networks.actor import Actor
from gsac.networks.critic import Critic
from gsac.networks.policies import CnnPolicy, GSACPolicy, MlpPolicy, MultiInputPolicy
from gsac.replay.batch import Batch
from gsac.replay.masks import all_allowed
from gsac.replay.memory import ReplayMemory
from gsac.replay.prioritized import PrioritizedReplayBuffer
from gsac.replay.request import BufferRequest
from gsac.schedules import Constant, Schedule, check_schedule
from gsac.spaces.codec import ActionCodec

SelfGSAC = TypeVar("SelfGSAC", bound="GSAC")

UPDATES_BETWEEN_CHECKS = 200
"""On a GPU, updates between two checks of the losses for NaN: a check waits for the device."""


class GSAC(Algorithm, OffPolicyAlgorithm):
    """Soft actor-critic for ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` actions.

    The critics take a one-hot action, and their gradient with respect to it trains the actor, through straight-through or
    Gumbel-Softmax samples; so the cost grows with the number of classes, not with the number of joint actions.
    Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905; Jang et al. 2017, https://arxiv.org/abs/1611.01144.

    A schedule is a number, a function of the remaining progress (from 1 to 0), one of :mod:`gsac.schedules`, or a string
    such as ``"cosine:1:0.1"`` that describes one.

    :param policy: ``"MlpPolicy"`` for vectors, ``"CnnPolicy"`` for images, ``"MultiInputPolicy"`` for dictionaries, or a class
    :param env: the environment, or the name of a registered one
    :param learning_rate: of actor, critics and entropy coefficient; a schedule. Lower it where losses or returns oscillate,
        or let it fall, as in ``"linear:1e-3:0"``
    :param buffer_size: transitions that the replay buffer holds. Lower it for images, to save memory
    :param learning_starts: steps with uniform actions before the first update. Raise it where rewards are rare
    :param batch_size: transitions in an update. Raise it for less noise in the gradient, at the price of time
    :param tau: Polyak step of the target networks, within [0, 1]. Lower it where the critics' values run away
    :param gamma: discount of a step, within [0, 1]. Raise it where rewards come late; lower it where values are too high
    :param train_freq: steps between two rounds of updates; ``(2, "episode")`` for episodes. Raise it to save time
    :param gradient_steps: updates in a round; -1 for as many as there were steps, over all environments. Lower it to save time
    :param replay_buffer_class: a replay buffer of SB3, or :class:`gsac.PrioritizedReplayBuffer` where rewards are rare in
        the buffer. None picks :class:`gsac.DeviceReplayBuffer`, or a class of SB3 for n-step returns on the CPU, and where
        ours would take more than half of a GPU's free memory
    :param replay_buffer_kwargs: for its constructor
    :param optimize_memory_usage: store each observation once, to save half of the memory. Not with n-step returns
    :param n_steps: rewards that are summed before the target bootstraps. Raise it to 3 or so where rewards come late
    :param estimator: of the actor's gradient: a name in :data:`gsac.ESTIMATORS`, with settings if need be, as in
        ``"rloo:samples=8"`` or ``"mixed:rho=linear:1:0"``, or a function of that signature. ``"auto"`` takes
        ``"straight_through"`` where the critics are linear in the action (by default with ``Discrete`` actions) and
        ``"gumbel_softmax"`` where they are not (by default with several choices). With several choices, try ``"rloo"``
    :param temperature: of the Gumbel-Softmax relaxation, above 0; a schedule. Lower it for less bias and more variance.
        Only some estimators use it, and actions do not depend on it
    :param ent_coef: weight of the entropy, in reward per nat. ``"auto"`` learns it from 0.1 on, ``"auto_1.0"`` from 1 on,
        within 4.5e-5 and 7.4; a number or a schedule sets it. Set it where a learned one drowns rare rewards
    :param target_entropy: what a learned coefficient aims at: a schedule of the fraction of the greatest entropy,
        ``"auto_0.5"`` for a constant fraction, or a number of nats. ``"auto"`` falls from 0.8 to 0.2 during the run. Raise it
        where the policy stops exploring too early
    :param target: what a next state is worth. ``"mode"``: the value of the policy's most probable action, as
        ``predict(deterministic=True)`` acts; ``"mean"``: the policy's mean value; ``"soft"``: that plus the weighted entropy, as
        in the original SAC. Try ``"soft"`` where rewards are rare and staying alive finds them; elsewhere it is a known cause of
        poor discrete SAC (https://arxiv.org/abs/2509.09838). ``"mode"`` follows Lillicrap et al. 2016,
        https://arxiv.org/abs/1509.02971
    :param noise_duration: steps for which the Gumbel noise that picks an action in training is kept, on average. Raise it where
        a goal takes many equal actions in a row; 1 draws fresh noise at each step
    :param epsilon: probability of a uniform action in training; a schedule. Raise it where the policy gives up an action too early
    :param bound_targets: clamp the values of next states to the range of returns that the rewards seen so far allow. Turn it on
        where the critics' values run away; ``train/clamp_fraction`` in the log is the fraction that was clamped
    :param q_aggregation: how the critics' values become one in the target: their ``"min"`` or their ``"mean"``. Try ``"mean"``
        where values are too low, as with rare rewards. The actor always follows the mean
    :param target_update_interval: updates from one Polyak step to the next. Raise it, with ``tau=1``, for hard target updates
    :param max_grad_norm: clip the norm of the critics' and of the actor's gradient; None does not. Lower it where a few TD
        errors are much larger than the others
    :param num_threads: PyTorch's CPU threads during ``learn()``. ``"auto"`` takes one for small networks, unless the
        environment variable ``OMP_NUM_THREADS`` is set. Raise it for wide networks on a machine of your own
    :param acceleration: how updates run. ``"eager"``: one operation after the other. ``"compile"``: PyTorch compiles the losses
        and their gradients, for up to a minute at the first update. ``"cudagraph"``: the whole update is one CUDA graph.
        ``"auto"``: ``"cudagraph"`` on a GPU, else ``"eager"``. Take ``"compile"`` for long runs; on a GPU its code is captured as
        well. What cannot be captured runs eagerly, with a warning that says why
    :param stats_window_size: episodes over which the logged return is averaged
    :param tensorboard_log: folder for TensorBoard; None writes nothing
    :param policy_kwargs: for the policy's constructor, see :class:`gsac.networks.policies.GSACPolicy`. Widen ``net_arch`` for
        harder problems
    :param verbose: 0 prints nothing, 1 a table at each log, 2 debugging messages as well
    :param seed: of all random numbers; None draws one
    :param device: where the networks run; ``"auto"`` takes a GPU if there is one. Small networks are faster on the CPU
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

    explorer: Explorer
    """Chooses the actions in training."""
    memory: ReplayMemory
    """The replay buffer with its action masks."""
    coefficient: EntropyCoefficient
    """The weight of the entropy."""
    learner: Learner
    """Makes the gradient steps."""
    updates: Updates
    """Runs the learner on batches of the memory."""
    guard: ExperienceGuard
    """Checks rewards and observations."""

    _automatic_buffer_class: type[ReplayBuffer] | None = None
    """The class of the replay buffer if we picked it; None if the user did."""
    _use_masking: bool | None = None
    _last_masks: np.ndarray | None = None
    """The masks of the current observations, bool [n_envs, D]; None if masks are not stored."""
    _updates_checked = 0

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
        self._upgrade_attributes()
        self._check_arguments()
        codec = ActionCodec(self.action_space)
        learned, ent_coef = parse_ent_coef(self.ent_coef)
        self._ent_coef_schedule = None if learned or isinstance(ent_coef, Constant) else ent_coef
        self._target_entropy_schedule = self._parse_target_entropy(learned, codec)

        takes_n_steps = self._setup_memory(codec)
        with warnings.catch_warnings():
            if takes_n_steps:  # which SB3 knows of its own class only
                warnings.filterwarnings("ignore", "`n_steps=.*is ignored")
            super()._setup_model()
        self.actor, self.critic, self.critic_target = self.policy.actor, self.policy.critic, self.policy.critic_target

        linear = self.critic.q_net.linear
        estimator, self._estimator_schedules = extract_schedules(resolve_estimator(self.estimator, linear), self.device)
        if enumerates_actions(estimator):
            codec.groups.joint_actions(self.device)  # refuses too many
        objective = Objective(estimator, self.target, self.q_aggregation, self.bound_targets, self.max_grad_norm)

        self.guard = ExperienceGuard(self.observation_space)
        self.explorer = Explorer(self.action_space)
        self.explorer.noise, self.explorer.ended = vars(self).pop("_noise_and_ends", (None, None))
        self.coefficient = EntropyCoefficient(ent_coef(1.0), learned, self.lr_schedule(1), self.device)
        self.learner = Learner(self.policy, self.coefficient, objective)
        self.updates = Updates(self.learner, self.memory, self.acceleration, self.device)
        # The names under which SB3 and its users look for them, and under which they stand in files.
        self.log_ent_coef, self.ent_coef_optimizer = self.coefficient.log_value, self.coefficient.optimizer
        self.ent_coef_tensor = self.coefficient.scheduled_value

    def _upgrade_attributes(self) -> None:
        """Renames attributes that a file of version 0.1.0 has set."""
        mine = vars(self)
        if "_noise" in mine:
            self._noise_and_ends = mine.pop("_noise"), mine.pop("_ended", None)
        old = {name: mine.pop(name) for name in OLD_TARGET_ARGUMENTS if name in mine}
        mine |= upgraded({name: value for name, value in old.items() if value is not None})
        if "_chosen_buffer_class" in mine:
            self._automatic_buffer_class = mine.pop("_chosen_buffer_class")
            if self._automatic_buffer_class is self.replay_buffer_class:
                for name in ("n_steps", "gamma"):
                    self.replay_buffer_kwargs.pop(name, None)

    def _check_arguments(self) -> None:
        """Checks all arguments; not in the constructor, so that what ``load()`` is given is checked as well."""
        self._check_shared_arguments()
        check_train_freq(self.train_freq, self.n_envs)
        if self.buffer_size < self.batch_size:
            raise ValueError(
                f"buffer_size={self.buffer_size} holds less than one batch of batch_size={self.batch_size}: pass a larger "
                "buffer, such as buffer_size=100_000, or a smaller batch."
            )
        self._epsilon_schedule = check_schedule(
            "epsilon", self.epsilon, "a number within [0, 1], or a schedule of such", is_probability, 0.1
        )
        self._temperature_schedule = check_schedule(
            "temperature", self.temperature, "a number above 0, or a schedule of such", is_above_0, 0.5
        )

    def _parse_target_entropy(self, learned: bool, codec: ActionCodec) -> Schedule | None:
        """The target as a fraction of the greatest entropy; None where the coefficient is not learned."""
        if learned:
            return parse_target_entropy(self.target_entropy, math.log(codec.groups.n_joint))
        if self.target_entropy != "auto":
            raise ValueError(
                f"target_entropy={self.target_entropy!r} has no effect with ent_coef={self.ent_coef!r}, which is not learned: "
                "pass ent_coef='auto' to aim at it, or leave it out."
            )
        return None

    def _setup_memory(self, codec: ActionCodec) -> bool:
        """Makes the replay buffer, unless there is one. Returns whether its class takes ``n_steps`` from this model."""
        automatic = self.replay_buffer_class in (None, self._automatic_buffer_class)
        # A file may hold a buffer: in the memory, or in version 0.1.0 as an attribute.
        buffer = self.memory.buffer if "memory" in vars(self) else vars(self).pop("replay_buffer", None)
        self.memory = ReplayMemory(codec, self.observation_space)
        request = BufferRequest(
            kind=None if automatic else self.replay_buffer_class,
            buffer_size=self.buffer_size,
            observation_space=self.memory.mask_layout.space if self._wants_masks() else self.observation_space,
            action_space=self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            n_steps=self.n_steps,
            gamma=self.gamma,
            kwargs=self.replay_buffer_kwargs,
        )
        request.check()
        self._buffer_request = request.resolved(self._vec_normalize_env is not None, self.verbose)
        self.replay_buffer_class = self._buffer_request.kind
        self._automatic_buffer_class = self.replay_buffer_class if automatic else None
        self.replay_buffer = self._buffer_request.build(self.env) if buffer is None else buffer
        return automatic or self._buffer_request.takes_n_steps

    @property
    def replay_buffer(self) -> ReplayBuffer | None:
        """The replay buffer of the memory. Another one may be assigned."""
        return self.memory.buffer

    @replay_buffer.setter
    def replay_buffer(self, buffer: ReplayBuffer | None) -> None:
        if "memory" in vars(self):  # SB3's constructor assigns None before there is one
            self.memory.buffer = buffer

    @replay_buffer.deleter
    def replay_buffer(self) -> None:
        del self.memory.buffer

    def train(self, gradient_steps: int, batch_size: int = 128) -> None:
        """Makes ``gradient_steps`` updates of all networks, each on a batch of its own.

        Reads nothing from the device, unless the replay buffer is prioritised: its next batch depends on the TD errors.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.learner.optimizers)
        self.learner.tau.fill_(self.tau)
        self.updates.prepare(self.gamma, self._vec_normalize_env)

        for _ in range(gradient_steps):
            self._set_scheduled_values()
            self._n_updates += 1
            self.updates.run(batch_size, track_targets=self._n_updates % self.target_update_interval == 0)

        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.check_losses(every=1 if self.device.type == "cpu" else UPDATES_BETWEEN_CHECKS)

    def _set_scheduled_values(self) -> None:
        """Sets temperature, entropy coefficient and other scheduled values for the next update."""
        temperature = self._value_at(self._temperature_schedule)
        if not is_above_0(temperature):
            raise ValueError(
                f"temperature={self.temperature!r} became {temperature!r} after {self._n_updates} updates: it must "
                "stay above 0. Let the schedule end above 0, such as temperature='linear:1:0.1'."
            )
        self.learner.temperature.fill_(temperature)
        self.logger.record("train/temperature", temperature)
        if self._target_entropy_schedule is not None:
            self.coefficient.target_fraction.fill_(self._value_at(self._target_entropy_schedule))
        if self._ent_coef_schedule is not None and self.coefficient.scheduled_value is not None:
            self.coefficient.scheduled_value.fill_(self._value_at(self._ent_coef_schedule))
        for name, (schedule, tensor) in self._estimator_schedules.items():
            value = self._value_at(schedule)
            tensor.fill_(value)
            self.logger.record(f"train/{name}", value)
        if isinstance(self.replay_buffer, PrioritizedReplayBuffer):
            self.replay_buffer.beta = self._value_at(self.replay_buffer.beta_schedule)
            self.logger.record("train/beta", self.replay_buffer.beta)

    def check_losses(self, every: int = 1) -> None:
        """Raises an error if a loss was NaN or infinite since the last log.

        :param every: does nothing if fewer updates than this were made since the last check
        :raises ValueError: a loss became NaN or infinite, and so did the weights
        """
        if self._n_updates - self._updates_checked < every:
            return
        not_finite = self.updates.metrics.not_finite()
        if not_finite:
            raise ValueError(
                f"{' and '.join(not_finite)} became infinite or not a number between the updates "
                f"{self._updates_checked} and {self._n_updates}, at step {self.num_timesteps}, and so did the weights. "
                "Go on from the last checkpoint with a lower learning_rate, or with smaller rewards."
            )
        self._updates_checked = self._n_updates

    def sample_batch(self, batch_size: int) -> Batch:
        """Transitions from the replay buffer, as an update sees them."""
        return self.memory.sample(batch_size, self.gamma, self._vec_normalize_env).batch

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

        :param use_masking: what to do with the environment's ``action_masks()``: True requires them, False ignores them, None
            obeys them if there are any
        :raises ValueError: masks are required and there are none, a mask allows nothing, or the replay buffer already
            holds transitions without masks
        """
        self._use_masking = use_masking
        with self._limited_threads():
            return super().learn(
                total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
            )

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError(
                "learn() needs an environment, and this model has none: pass one to load(..., env=env), or call "
                "set_env(env) first."
            )
        if self._use_masking and not masking.supports_masks(self.env):
            raise ValueError(
                "use_masking=True needs an environment with a method action_masks(), and this one has none: add the "
                "method, wrap it in one that has it, or leave use_masking out."
            )
        if self._wants_masks():
            self.memory.make_room_for_masks(self._empty_buffer_with_masks)
        if reset_num_timesteps or self._last_obs is None:
            self.explorer.restart()
        with self.guard.shapes_must_fit(self.num_timesteps):
            ready = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        assert self._last_obs is not None
        self.guard.check_observation(self.num_timesteps, self._last_obs)
        self._last_masks = self._current_masks() if self.memory.stores_masks else None
        return ready

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Collects transitions as SB3 does, with a clear error where an observation does not fit its space.

        :raises ValueError: an observation of another shape
        """
        with self.guard.shapes_must_fit(self.num_timesteps + env.num_envs):
            return super().collect_rollouts(env, *args, **kwargs)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.num_timesteps < learning_starts:
            actions = self.explorer.uniform(n_envs, self._last_masks)
        else:
            epsilon = None
            if self.epsilon != 0:
                epsilon = self._value_at(self._epsilon_schedule)
                self.logger.record("rollout/epsilon", epsilon)
            assert self._last_obs is not None
            actions = self.explorer.act(
                self.policy, self._last_obs, n_envs, self.noise_duration, self._last_masks, epsilon
            )
        return actions, actions

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        self.guard.check_transition(self.num_timesteps, new_obs, reward, dones, infos)
        self.explorer.observe(dones)
        if self.memory.stores_masks:
            assert self._last_masks is not None
            masks, self._last_masks = self._last_masks, self._current_masks()
            next_masks = masking.masks_of_next_states(self._last_masks, dones, infos, self.memory.codec)
            replay_buffer = self.memory.writer(replay_buffer, masks, next_masks)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def _wants_masks(self) -> bool:
        return self.env is not None and masking.supports_masks(self.env) and self._use_masking is not False

    def _current_masks(self) -> np.ndarray:
        """The masks of the current states, bool [n_envs, D]; all True where masks are ignored or there are none."""
        assert self.env is not None
        if not self._wants_masks():
            return all_allowed(self.n_envs, self.memory.codec.groups.flat_size)
        return masking.current_masks(self.env, self.memory.codec, self.num_timesteps)

    def _empty_buffer_with_masks(self) -> ReplayBuffer:
        return replace(self._buffer_request, observation_space=self.memory.mask_layout.space).build(self.env)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Samples an action for each observation, or takes the most probable one if ``deterministic``.

        :param action_masks: what is allowed, bool [D], or [n, D] for n observations; everything if None
        :return: actions in the environment's own integers, and ``state``
        :raises ValueError: masks of another shape, or one that allows nothing
        """
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)

    def dump_logs(self) -> None:
        """Writes the log, with the means of all losses since the last time, which are read from the device only here."""
        self.check_losses()
        means = self.updates.metrics.pop()
        if self.log_ent_coef is None:
            means.pop("ent_coef_loss", None)
            means.pop("target_entropy", None)
        if not self.bound_targets:
            means.pop("clamp_fraction", None)
        for name, mean in means.items():
            self.logger.record(f"train/{name}", mean)
        super().dump_logs()

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Writes the model to a zip file as :meth:`gsac.algorithms.base.Algorithm.save` does.

        :param include: what is left out otherwise, such as ``["replay_buffer"]``
        """
        # SB3 writes attributes of the model; these two stand in objects that it holds.
        self._noise_and_ends = self.explorer.noise, self.explorer.ended
        include = None if include is None else {"memory" if name == "replay_buffer" else name for name in include}
        try:
            super().save(path, exclude, include)
        finally:
            del self._noise_and_ends

    @classmethod
    def load(cls: type[SelfGSAC], path: str | pathlib.Path | io.BufferedIOBase, *args: Any, **kwargs: Any) -> SelfGSAC:
        """Loads a file as :meth:`gsac.algorithms.base.Algorithm.load` does.

        :raises ValueError: also if ``ent_coef`` is given and learned where that of the file is not, or the other way round
        :raises TypeError: an argument of version 0.1.0 that ``target`` has replaced
        """
        old = [name for name in OLD_TARGET_ARGUMENTS if name in kwargs]
        if old:
            raise TypeError(
                f"{cls.__name__} has no argument {old[0]!r} any more: pass target='mode', 'mean' or 'soft'."
            )
        if "target" in kwargs:
            kwargs |= dict.fromkeys(OLD_TARGET_ARGUMENTS)  # a file of version 0.1.0 has them, and they would count
        if "ent_coef" in kwargs:
            learned, _ = parse_ent_coef(kwargs["ent_coef"])
            _, parameters, _ = load_from_zip_file(cls._open_checked(path), device="cpu", load_data=False)
            was_learned = "ent_coef_optimizer" in parameters
            if learned != was_learned:
                was, is_ = ("learned" if each else "not learned" for each in (was_learned, learned))
                raise ValueError(
                    f"The model's entropy coefficient was {was}, and with ent_coef={kwargs['ent_coef']!r} it is {is_}, which "
                    f"load() cannot change: use save_weights() and {cls.__name__}.from_weights(path, ent_coef=...)."
                )
        return super().load(path, *args, **kwargs)

    def _constructor_arguments(self) -> dict[str, Any]:
        arguments = super()._constructor_arguments()
        if self._automatic_buffer_class is not None:
            arguments["replay_buffer_class"] = None
        return arguments

    def _excluded_save_params(self) -> list[str]:
        held = ["explorer", "memory", "coefficient", "learner", "updates", "guard"]
        derived = [
            "actor",
            "critic",
            "critic_target",
            "ent_coef_tensor",
            "_estimator_schedules",
            "_buffer_request",
            "_last_masks",
        ]
        return [*super()._excluded_save_params(), *held, *derived]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "actor.optimizer", "critic.optimizer"]
        if self.ent_coef_optimizer is None:
            return state_dicts, []
        return [*state_dicts, "ent_coef_optimizer"], ["log_ent_coef"]
