"""Runs updates: one operation after the other, with compiled losses, or as one captured CUDA graph."""

from __future__ import annotations

from typing import Any

import torch

from gsac.learning.acceleration import Captured, choose_mode
from gsac.learning.learner import Learner
from gsac.learning.metrics import RunningMean
from gsac.learning.references import references
from gsac.optim.adam import FusedAdam
from gsac.replay.device_buffer import DeviceReplayBuffer
from gsac.replay.memory import ReplayMemory


class Updates:
    """Draws batches from the memory, has the learner step on them, and averages what it reports.

    :param learner: makes the gradient steps
    :param memory: gives the batches
    :param acceleration: one of :data:`gsac.learning.acceleration.MODES`
    :param device: of the networks
    :raises ValueError: ``"cudagraph"`` on another device than CUDA
    """

    NOT_RECORDED = ("captured",)

    def __init__(self, learner: Learner, memory: ReplayMemory, acceleration: str, device: torch.device) -> None:
        self.learner, self.memory = learner, memory
        self.metrics = RunningMean(device)
        self.gamma = 0.0
        self.vec_normalize: Any = None
        self.captured: Captured | None = None
        mode = choose_mode(acceleration, device)
        if mode == "compile":
            learner.compile()
        if mode != "eager" and device.type == "cuda":
            self.captured = Captured(self.update, device, self.list_references)

    def prepare(self, gamma: float, vec_normalize: Any) -> None:
        """Sets the arguments of the next updates, and drops recordings that refer to replaced objects.

        :param gamma: discount of a step
        :param vec_normalize: SB3's ``VecNormalize``, if one normalises observations and rewards
        """
        self.gamma, self.vec_normalize = gamma, vec_normalize
        if self.captured is None:
            return
        obstacle = self.obstacle()
        if obstacle is not None:
            self.captured.fall_back(obstacle)
        else:
            assert isinstance(self.memory.buffer, DeviceReplayBuffer)
            self.memory.buffer.flush()
            self.captured.drop_outdated()

    def run(self, batch_size: int, track_targets: bool) -> None:
        """Makes one update, or replays its recording. Call :meth:`prepare` first."""
        (self.captured or self.update)(batch_size, track_targets)

    def update(self, batch_size: int, track_targets: bool) -> None:
        """One update, from the replay buffer to the metrics. This is what a CUDA graph captures."""
        sampled = self.memory.sample(batch_size, self.gamma, self.vec_normalize)
        metrics, td_errors = self.learner.step(sampled.batch, track_targets)
        self.metrics.add(metrics)
        self.memory.reprioritise(sampled, td_errors)

    def list_references(self) -> list[Any]:
        """Everything that a recorded update refers to, see :func:`gsac.learning.references.references`."""
        return references(self)

    def obstacle(self) -> str | None:
        """The reason why updates cannot be captured, if it is known without trying; else None."""
        if not isinstance(self.memory.buffer, DeviceReplayBuffer):
            return f"{type(self.memory.buffer).__name__} is not on the device, as gsac.DeviceReplayBuffer is"
        if self.vec_normalize is not None:
            return "VecNormalize works on the host"
        for optimizer in self.learner.optimizers:
            if not isinstance(optimizer, FusedAdam):
                return f"{type(optimizer).__name__} may keep numbers on the host, as gsac.optim.adam.FusedAdam does not"
            if optimizer.has_hooks:
                return "hooks that are registered with an optimiser run on the host"
        return None
