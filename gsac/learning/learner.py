"""One update of critics, actor, entropy coefficient and targets."""

from __future__ import annotations

import math

import torch
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from gsac.estimators.base import ActionValue, Estimator
from gsac.functional import losses
from gsac.functional.categorical import FactorisedCategorical
from gsac.learning.acceleration import compiled
from gsac.learning.metrics import Metrics
from gsac.networks.actor import Actor
from gsac.networks.critic import Critic
from gsac.networks.heads import ActionValues, AggregatedValues
from gsac.optim.descent import gradient, take_step
from gsac.replay.batch import Batch

LOG_ENT_COEF_RANGE = (-10.0, 2.0)
"""A learned coefficient can neither die nor run away: it stays between 4.5e-5 and 7.4."""


TARGETS = ("mode", "mean", "soft")
"""What a next state is worth: the value of the policy's mode, the policy's mean value, or that plus the weighted entropy."""


class Learner:
    """Holds the networks and what changes while they learn.

    ``temperature``, ``target_fraction`` (of the greatest entropy) and ``tau`` are 0-d tensors on the device, filled in
    place by whoever keeps the schedules. ``td_errors`` are the absolute errors of the last batch that had weights,
    averaged over the critics. [B]

    :param critic_target: follows ``critic``, in evaluation mode
    :param estimator: of the actor's gradient
    :param q_aggregation: of the target, a name in :data:`gsac.functional.losses.Q_AGGREGATIONS`
    :param log_ent_coef: the logarithm of the entropy coefficient [1], if it is learned
    :param ent_coef_optimizer: of ``log_ent_coef``
    :param ent_coef_tensor: the entropy coefficient [], if it is fixed
    :param target: what a next state is worth, see :data:`TARGETS`
    :param value_range: the least and the greatest value that the rewards of all batches so far can add up to, each [],
        widened in place: no next state counts for more or less, if given
    :param max_grad_norm: clip the norm of the critics' and of the actor's gradient, if given
    """

    def __init__(
        self,
        actor: Actor,
        critic: Critic,
        critic_target: Critic,
        *,
        estimator: Estimator,
        q_aggregation: str,
        log_ent_coef: Tensor | None,
        ent_coef_optimizer: torch.optim.Optimizer | None,
        ent_coef_tensor: Tensor | None,
        target: str,
        value_range: tuple[Tensor, Tensor] | None,
        max_grad_norm: float | None,
    ) -> None:
        self.actor, self.critic, self.critic_target = actor, critic, critic_target
        self.estimator = estimator
        self.aggregate = losses.Q_AGGREGATIONS[q_aggregation]
        self.log_ent_coef, self.ent_coef_optimizer = log_ent_coef, ent_coef_optimizer
        self.ent_coef_tensor = ent_coef_tensor
        self.target = target
        self.value_range = value_range
        self.max_grad_norm = max_grad_norm

        device = actor.device
        self.temperature = torch.ones((), device=device)
        self.target_fraction = torch.zeros((), device=device)
        self.tau = torch.zeros((), device=device)
        self.td_errors: Tensor | None = None

        self._actor_parameters = _optimized(actor.optimizer)
        self._critic_parameters = _optimized(critic.optimizer)
        self._critic_weights: list[Tensor] = list(critic.parameters())
        self.target_weights: list[Tensor] = list(critic_target.parameters())
        # One tensor per weight: given as a scalar, tau would be read from the device.
        self._taus = [self.tau] * len(self.target_weights)
        self._critic_statistics = _statistics(critic)
        self._target_statistics = _statistics(critic_target)

    @property
    def ent_coef(self) -> Tensor:
        """The entropy coefficient now. []"""
        if self.log_ent_coef is None:
            assert self.ent_coef_tensor is not None
            return self.ent_coef_tensor
        return self.log_ent_coef.detach().exp().squeeze()

    def step(self, batch: Batch, track_targets: bool = True) -> Metrics:
        """One gradient step for each network.

        :param track_targets: let the target networks follow
        """
        ent_coef = self.ent_coef
        critic_loss, values, q_value, clamp_fraction, self.td_errors = self.critic_loss(batch, ent_coef)
        actor_loss, entropy, target_entropy = self.actor_loss(batch, values, ent_coef)
        # Both gradients before either step: the critics that the actor follows are those whose errors were measured.
        critic_gradient = gradient(critic_loss, self._critic_parameters, self.max_grad_norm)
        actor_gradient = gradient(actor_loss, self._actor_parameters, self.max_grad_norm)
        take_step(self.critic.optimizer, self._critic_parameters, critic_gradient)
        take_step(self.actor.optimizer, self._actor_parameters, actor_gradient)

        ent_coef_loss = self.tune_ent_coef(entropy, target_entropy)
        if track_targets:
            self.track_targets()
        return Metrics(
            actor_loss=actor_loss.detach(),
            critic_loss=critic_loss.detach(),
            ent_coef_loss=ent_coef_loss,
            ent_coef=ent_coef,
            entropy=entropy.mean(),
            target_entropy=target_entropy.mean(),
            q_value=q_value,
            clamp_fraction=clamp_fraction,
        )

    def compile(self, backend: str = "inductor") -> None:
        """From now on both losses, and with them their gradients, run as code that PyTorch compiles at the first update.

        :param backend: of ``torch.compile``. Besides ``"inductor"``, for tests: ``"aot_eager"`` takes two draws of noise
            for the same unless ``torch._functorch.config.cse`` is off
        :raises RuntimeError: at the first update, if the networks or the estimator cannot be compiled as a whole
        """
        self.critic_loss = compiled(self.critic_loss, backend)  # type: ignore[method-assign]
        self.actor_loss = compiled(self.actor_loss, backend)  # type: ignore[method-assign]

    def critic_loss(self, batch: Batch, ent_coef: Tensor) -> tuple[Tensor, ActionValues, Tensor, Tensor, Tensor | None]:
        """The critics' loss, their values of any action for the actor, without a gradient for the critics, the mean of
        their values of the batch's actions, the fraction of the next states whose values were out of range, and for
        weighted batches the absolute errors [B].
        """
        action_values = self.critic.action_values(batch.observations)
        values = action_values(batch.actions)
        with torch.no_grad():
            next_policy = self.actor.distribution(batch.next_observations, batch.next_masks)
            next_value = self._next_value(next_policy, self.critic_target.action_values(batch.next_observations))
            next_value, clamp_fraction = self._bounded(next_value, batch, ent_coef)
            if self.target == "soft":
                next_value = next_value + ent_coef * next_policy.entropy()
            target = losses.td_target(batch.rewards, batch.discounts, next_value)
        errors = None if batch.weights is None else (values.detach() - target).abs().mean(0)
        loss = losses.critic_loss(values, target, batch.weights)
        return loss, action_values.frozen(), values.detach().mean(), clamp_fraction, errors

    def actor_loss(self, batch: Batch, values: ActionValues, ent_coef: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The actor's loss, the policy's entropy [B], detached, and what it should be, [B] or [].

        The actor follows the mean of the critics, whatever the target does: the least of them would keep it away from
        actions that they disagree about, which are those it has tried least. Where masks leave fewer actions, the target
        is the same fraction of a smaller greatest entropy.
        """
        policy = self.actor.distribution(batch.observations, batch.masks)
        action_value = self.estimator(policy, AggregatedValues(values, losses.average), self.temperature)
        entropy = policy.entropy()
        target_entropy = self.target_fraction * policy.max_entropy()
        return losses.actor_loss(action_value, entropy, ent_coef), entropy.detach(), target_entropy

    def action_value(self, observations: PyTorchObs) -> ActionValue:
        """What the actor is to maximise: the value of actions at these observations."""
        return AggregatedValues(self.critic.action_values(observations).frozen(), losses.average)

    def tune_ent_coef(self, entropy: Tensor, target_entropy: Tensor) -> Tensor:
        """Moves the coefficient towards the one that gives the target entropy, if it is learned."""
        if self.log_ent_coef is None or self.ent_coef_optimizer is None:
            return torch.zeros_like(self.temperature)
        with torch.no_grad():
            slope = losses.ent_coef_gradient(entropy, target_entropy)
            loss = (self.log_ent_coef * slope).squeeze()
            take_step(self.ent_coef_optimizer, [self.log_ent_coef], [slope.expand(1)])
            self.log_ent_coef.clamp_(*LOG_ENT_COEF_RANGE)
        return loss

    def track_targets(self) -> None:
        """Polyak step: target <- target + tau * (critic - target). Batch-norm statistics are copied."""
        with torch.no_grad():
            torch._foreach_lerp_(self.target_weights, self._critic_weights, self._taus)
            for target, statistic in zip(self._target_statistics, self._critic_statistics, strict=True):
                target.copy_(statistic)

    def _bounded(self, next_value: Tensor, batch: Batch, ent_coef: Tensor) -> tuple[Tensor, Tensor]:
        """Values within what can be true, once this batch is counted in [B], and the fraction of those that were not [].

        Where the policy never returns, nothing else corrects critics that agree with each other: their values there can
        grow without end, and their errors drown all others.
        """
        if self.value_range is None:
            return next_value, torch.zeros_like(ent_coef)
        bonus = ent_coef * math.log(self.critic.codec.groups.n_joint) if self.target == "soft" else None
        least, greatest = losses.value_range(batch.rewards, batch.discounts, bonus)
        lowest, highest = self.value_range
        lowest.clamp_(max=least)
        highest.clamp_(min=greatest)
        bounded = next_value.clamp(lowest, highest)
        return bounded, (bounded != next_value).mean(dtype=bounded.dtype)

    def _next_value(self, policy: FactorisedCategorical, values: ActionValues) -> Tensor:
        """q(mode of pi), or E_{a~pi}[q(a)], exactly where actions can be enumerated, else by one sample. [B]"""
        if self.target == "mode":
            return self.aggregate(values(policy.mode()))
        if policy.groups.n_joint <= self.critic_target.q_net.max_enumerated:
            actions = policy.groups.joint_actions(policy.logits.device)
            return (policy.joint_probs() * self.aggregate(values.joint(actions))).sum(0)
        return self.aggregate(values(policy.sample()))


def _statistics(critic: Critic) -> list[Tensor]:
    """What is learned without a gradient: of the buffers, those that are saved."""
    saved = critic.state_dict()
    return [buffer for name, buffer in critic.named_buffers() if name in saved]


def _optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
