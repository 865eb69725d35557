"""One update of critics, actor, entropy coefficient and target networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from gsac.estimators.base import ActionValue, Estimator
from gsac.functional import losses
from gsac.functional.categorical import FactorisedCategorical
from gsac.learning.acceleration import compiled
from gsac.learning.coefficient import EntropyCoefficient
from gsac.learning.metrics import Metrics
from gsac.networks.critic import Critic
from gsac.networks.heads import ActionValues, AggregatedValues
from gsac.networks.policies import GSACPolicy
from gsac.optim.descent import gradient, take_step
from gsac.replay.batch import Batch

TARGETS = ("mode", "mean", "soft")
"""What a next state is worth: the value of the policy's mode, the policy's mean value, or that plus the weighted entropy."""


@dataclass(frozen=True)
class Objective:
    """What critics and actor are trained towards.

    :param estimator: of the actor's gradient
    :param target: what a next state is worth, one of :data:`TARGETS`
    :param q_aggregation: how the critics' values become one in the target, a name in
        :data:`gsac.functional.losses.Q_AGGREGATIONS`
    :param bound_targets: clamp the values of next states to the range of returns that the rewards seen so far allow
    :param max_grad_norm: clip the norm of the critics' and of the actor's gradient, unless None
    """

    estimator: Estimator
    target: str = "mode"
    q_aggregation: str = "min"
    bound_targets: bool = False
    max_grad_norm: float | None = None


class CriticLoss(NamedTuple):
    """The critics' loss, and what else its computation gives."""

    loss: Tensor
    """[]"""
    action_values: ActionValues
    """The critics' values of any action at the batch's observations, without a gradient for the critics."""
    q_value: Tensor
    """The mean value of the batch's actions []."""
    clamp_fraction: Tensor
    """The fraction of next states whose value was clamped []."""
    td_errors: Tensor | None
    """Of batches with weights, each transition's absolute TD error, averaged over the critics [B]."""


class ActorLoss(NamedTuple):
    """The actor's loss, and the entropies for the coefficient, in nats and without a gradient."""

    loss: Tensor
    """[]"""
    entropy: Tensor
    """Of the policy at each observation [B]."""
    target_entropy: Tensor
    """[B] with masks, else []."""


class Update(NamedTuple):
    """What one update reports."""

    metrics: Metrics
    td_errors: Tensor | None
    """See :class:`CriticLoss`."""


class Learner:
    """Trains the networks of a policy. Knows no environment, no replay buffer and no logger.

    :param policy: with actor, critics, their targets and the optimisers
    :param coefficient: the weight of the entropy
    :param objective: what to train towards
    """

    temperature: Tensor
    """The temperature of the relaxation []; the caller fills it in place."""
    tau: Tensor
    """The Polyak step []; the caller fills it in place."""

    def __init__(self, policy: GSACPolicy, coefficient: EntropyCoefficient, objective: Objective) -> None:
        self.actor, self.critic, self.critic_target = policy.actor, policy.critic, policy.critic_target
        self.coefficient = coefficient
        self.objective = objective
        self.aggregate = losses.Q_AGGREGATIONS[objective.q_aggregation]
        self.value_range = (policy.lowest_value, policy.highest_value) if objective.bound_targets else None
        self.temperature = torch.ones((), device=self.actor.device)
        self.tau = torch.zeros((), device=self.actor.device)

        self._actor_parameters = _parameters_of(self.actor.optimizer)
        self._critic_parameters = _parameters_of(self.critic.optimizer)
        self._critic_weights: list[Tensor] = list(self.critic.parameters())
        self._target_weights: list[Tensor] = list(self.critic_target.parameters())
        # One tensor per weight: given as a scalar, tau would be read from the device.
        self._taus = [self.tau] * len(self._target_weights)
        self._critic_statistics = _statistics(self.critic)
        self._target_statistics = _statistics(self.critic_target)

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Of actor, critics, and a learned entropy coefficient."""
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        return optimizers if self.coefficient.optimizer is None else [*optimizers, self.coefficient.optimizer]

    def step(self, batch: Batch, track_targets: bool = True) -> Update:
        """Makes one gradient step for each network.

        :param track_targets: make a Polyak step of the target networks
        """
        ent_coef = self.coefficient.value
        critic = self.critic_loss(batch, ent_coef)
        actor = self.actor_loss(batch, critic.action_values, ent_coef)
        # Both gradients are computed before either step, so that the actor's is that of the critics before their step.
        max_norm = self.objective.max_grad_norm
        critic_gradient = gradient(critic.loss, self._critic_parameters, max_norm)
        actor_gradient = gradient(actor.loss, self._actor_parameters, max_norm)
        take_step(self.critic.optimizer, self._critic_parameters, critic_gradient)
        take_step(self.actor.optimizer, self._actor_parameters, actor_gradient)

        ent_coef_loss = self.coefficient.tune(actor.entropy, actor.target_entropy)
        if track_targets:
            self.track_targets()
        metrics = Metrics(
            actor_loss=actor.loss.detach(),
            critic_loss=critic.loss.detach(),
            ent_coef_loss=ent_coef_loss,
            ent_coef=ent_coef,
            entropy=actor.entropy.mean(),
            target_entropy=actor.target_entropy.mean(),
            q_value=critic.q_value,
            clamp_fraction=critic.clamp_fraction,
        )
        return Update(metrics, critic.td_errors)

    def compile(self, backend: str = "inductor") -> None:
        """Has PyTorch compile both losses and their gradients at the next update.

        :param backend: of ``torch.compile``. Besides ``"inductor"``, for tests: ``"aot_eager"`` takes two draws of noise
            for the same unless ``torch._functorch.config.cse`` is off
        :raises RuntimeError: at the next update, if the networks or the estimator cannot be compiled as a whole
        """
        self.critic_loss = compiled(self.critic_loss, backend)  # type: ignore[method-assign]
        self.actor_loss = compiled(self.actor_loss, backend)  # type: ignore[method-assign]

    def critic_loss(self, batch: Batch, ent_coef: Tensor) -> CriticLoss:
        """The squared TD errors of the batch.

        :param ent_coef: []
        """
        action_values = self.critic.action_values(batch.observations)
        values = action_values(batch.actions)
        with torch.no_grad():
            next_policy = self.actor.distribution(batch.next_observations, batch.next_masks)
            next_value = self._next_value(next_policy, self.critic_target.action_values(batch.next_observations))
            next_value, clamp_fraction = self._clamped(next_value, batch, ent_coef)
            if self.objective.target == "soft":
                next_value = next_value + ent_coef * next_policy.entropy()
            target = losses.td_target(batch.rewards, batch.discounts, next_value)
        errors = None if batch.weights is None else (values.detach() - target).abs().mean(0)
        loss = losses.critic_loss(values, target, batch.weights)
        return CriticLoss(loss, action_values.frozen(), values.detach().mean(), clamp_fraction, errors)

    def actor_loss(self, batch: Batch, values: ActionValues, ent_coef: Tensor) -> ActorLoss:
        """The negative of E_pi[q] + ent_coef * H(pi), whose first term goes through the estimator.

        The actor follows the mean of the critics, also where the target takes their minimum: the minimum would keep it
        away from actions that the critics disagree about, which are those it has tried least. Where masks leave fewer
        actions, the target entropy is the same fraction of a smaller greatest entropy.

        :param values: of the critics, without a gradient for them
        :param ent_coef: []
        """
        policy = self.actor.distribution(batch.observations, batch.masks)
        action_value = self.objective.estimator(policy, AggregatedValues(values, losses.average), self.temperature)
        entropy = policy.entropy()
        target_entropy = self.coefficient.target_fraction * policy.max_entropy()
        return ActorLoss(losses.actor_loss(action_value, entropy, ent_coef), entropy.detach(), target_entropy)

    def action_value(self, observations: PyTorchObs) -> ActionValue:
        """The q that the actor maximises at these observations: the mean of the critics."""
        return AggregatedValues(self.critic.action_values(observations).frozen(), losses.average)

    def track_targets(self) -> None:
        """Polyak step: target <- target + tau * (critic - target). Batch-norm statistics are copied."""
        with torch.no_grad():
            torch._foreach_lerp_(self._target_weights, self._critic_weights, self._taus)
            for target, statistic in zip(self._target_statistics, self._critic_statistics, strict=True):
                target.copy_(statistic)

    def _clamped(self, next_value: Tensor, batch: Batch, ent_coef: Tensor) -> tuple[Tensor, Tensor]:
        """The values [B] clamped to the range of returns seen so far, this batch's included, and the fraction clamped [].

        Where the policy never returns, no new rewards correct the critics. If they agree, their values there can grow
        without bound, and their errors then dominate the loss.
        """
        if self.value_range is None:
            return next_value, torch.zeros_like(ent_coef)
        soft = self.objective.target == "soft"
        bonus = ent_coef * math.log(self.critic.codec.groups.n_joint) if soft else None
        least, greatest = losses.value_range(batch.rewards, batch.discounts, bonus)
        lowest, highest = self.value_range
        lowest.clamp_(max=least)
        highest.clamp_(min=greatest)
        clamped = next_value.clamp(lowest, highest)
        return clamped, (clamped != next_value).mean(dtype=clamped.dtype)

    def _next_value(self, policy: FactorisedCategorical, values: ActionValues) -> Tensor:
        """The value of the mode, or the policy's mean value: exact where actions can be enumerated, else of one sample. [B]"""
        if self.objective.target == "mode":
            return self.aggregate(values(policy.mode()))
        if policy.groups.n_joint <= self.critic_target.q_net.max_enumerated:
            actions = policy.groups.joint_actions(policy.logits.device)
            return (policy.joint_probs() * self.aggregate(values.joint(actions))).sum(0)
        return self.aggregate(values(policy.sample()))


def _statistics(critic: Critic) -> list[Tensor]:
    """The buffers that are saved, such as batch-norm statistics: they follow without a gradient."""
    saved = critic.state_dict()
    return [buffer for name, buffer in critic.named_buffers() if name in saved]


def _parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
