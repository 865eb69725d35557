"""How the updates of an algorithm are run: what is captured as a graph, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from gsac.learning.acceleration import Captured, choose_mode
from gsac.learning.learner import Learner
from gsac.networks.policies import GSACPolicy
from gsac.optim.adam import FusedAdam
from gsac.replay.device_buffer import DeviceReplayBuffer


class AcceleratedUpdates(OffPolicyAlgorithm):
    """Runs ``_update(batch_size, track_targets)`` as ``acceleration`` says. To be named before SB3's own class."""

    acceleration: str
    policy: GSACPolicy
    _learner: Learner
    _stored_masks: Any
    _captured: Captured | None
    log_ent_coef: torch.Tensor | None
    ent_coef_tensor: torch.Tensor | None
    ent_coef_optimizer: torch.optim.Optimizer | None

    def _update(self, batch_size: int, track_targets: bool) -> None:
        """One update, from the replay buffer to the metrics. It leaves everything on the device."""
        raise NotImplementedError

    def _accelerate(self) -> None:
        mode = choose_mode(self.acceleration, self.device)
        if mode == "compile":
            self._learner.compile()
        self._captured = (
            Captured(self._update, self.device, self._refers_to)
            if mode != "eager" and self.device.type == "cuda"
            else None
        )

    def _accelerated(self) -> Callable[[int, bool], None]:
        """What makes an update now, whatever the user has changed since the last time."""
        if self._captured is None:
            return self._update
        obstacle = self._obstacle()
        if obstacle is not None:
            self._captured.fall_back(obstacle)
        else:
            assert isinstance(self.replay_buffer, DeviceReplayBuffer)
            self.replay_buffer.flush()
            self._captured.watch()
        return self._captured

    @property
    def _optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = [self.policy.actor.optimizer, self.policy.critic.optimizer]
        return optimizers if self.ent_coef_optimizer is None else [*optimizers, self.ent_coef_optimizer]

    def _obstacle(self) -> str | None:
        """What keeps an update from being captured, if it can be told beforehand."""
        if not isinstance(self.replay_buffer, DeviceReplayBuffer):
            return f"{type(self.replay_buffer).__name__} is not on the device, as gsac.DeviceReplayBuffer is"
        if self._vec_normalize_env is not None:
            return "VecNormalize works on the host"
        for optimizer in self._optimizers:
            if not isinstance(optimizer, FusedAdam):
                return f"{type(optimizer).__name__} may keep numbers on the host, as gsac.optim.adam.FusedAdam does not"
            if optimizer.has_hooks:
                return "hooks that are registered with an optimiser run on the host"
        return None

    def _refers_to(self) -> list[Any]:
        """What a captured update refers to: objects, the addresses of tensors whose storage can be replaced, and numbers
        that are not tensors.
        """
        learner, optimizers = self._learner, self._optimizers
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        learned = [parameter for group in groups for parameter in group["params"]]
        ent_coef = self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef
        assert ent_coef is not None
        return [
            self.replay_buffer,
            getattr(self.replay_buffer, "storage", None),
            self._stored_masks,
            self.gamma,
            learner,
            learner.estimator,
            learner.aggregate,
            learner.target,
            *(learner.value_range or ()),
            learner.max_grad_norm,
            *optimizers,
            *(optimizer.state for optimizer in optimizers),
            *(optimizer.state.get(optimizer.param_groups[0]["params"][0]) for optimizer in optimizers),
            *(value for group in groups for name, value in group.items() if name != "params"),
            *(parameter.requires_grad for parameter in learned),
            *(tensor.data_ptr() for tensor in (*learned, *learner.target_weights, ent_coef)),
        ]
