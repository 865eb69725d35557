"""How the updates of an algorithm are run: what is captured as a graph, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from gsac.optimizer import FusedAdam
from gsac.policies import GSACPolicy
from gsac.training.acceleration import Captured, choose_mode
from gsac.training.learner import Learner
from gsac.training.replay import DeviceReplayBuffer


class AcceleratedUpdates(OffPolicyAlgorithm):
    """Runs ``_update(batch_size, track_targets)`` as ``acceleration`` says. To be named before SB3's own class."""

    acceleration: str
    policy: GSACPolicy
    _learner: Learner
    _stored_masks: Any
    _captured: Captured | None
    log_ent_coef: torch.Tensor | None
    ent_coef_optimizer: torch.optim.Optimizer | None

    def _update(self, batch_size: int, track_targets: bool) -> None:
        """One update, from the replay buffer to the metrics. It leaves everything on the device."""
        raise NotImplementedError

    def _accelerate(self) -> None:
        mode = choose_mode(self.acceleration, self.device)
        if mode == "compile":
            self._learner.compile()
        self._captured = Captured(self._update) if mode != "eager" and self.device.type == "cuda" else None

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
            self._captured.watch(self._addresses())
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
                return f"{type(optimizer).__name__} may keep numbers on the host, as gsac.optimizer.FusedAdam does not"
        return None

    def _addresses(self) -> list[Any]:
        """What a captured update refers to: objects, and the addresses of tensors whose storage can be replaced."""
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        tensors = [*self.policy.parameters(), *([] if self.log_ent_coef is None else [self.log_ent_coef])]
        return [
            self.replay_buffer,
            self._stored_masks,
            self._learner,
            *(optimizer.state for optimizer in self._optimizers),
            *(group["lr"] for group in groups),
            *(tensor.data_ptr() for tensor in tensors),
        ]
