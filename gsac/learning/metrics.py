"""Averages the metrics of updates on the device, which are read from it once per log."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Metrics(NamedTuple):
    """Scalars of one update, each a 0-d tensor on the device."""

    actor_loss: Tensor
    critic_loss: Tensor
    ent_coef_loss: Tensor
    ent_coef: Tensor
    entropy: Tensor
    target_entropy: Tensor
    q_value: Tensor
    clamp_fraction: Tensor


class RunningMean:
    """Averages metrics over updates. Adding reads nothing from the device, and can be captured in a CUDA graph.

    :param device: of the metrics
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.one = torch.ones((), device=device)
        self.totals = torch.zeros(len(Metrics._fields) + 1, device=device)
        """The sum of each metric, and last the number of updates, so that a replayed graph counts too."""

    def add(self, metrics: Metrics) -> None:
        """Adds the metrics of one update."""
        self.totals.add_(torch.stack((*metrics, self.one)))

    def not_finite(self) -> list[str]:
        """The names of metrics that were NaN or infinite in any update since the last :meth:`pop`; reads from the device."""
        *totals, _ = self.totals.tolist()
        return [name for name, total in zip(Metrics._fields, totals, strict=True) if not math.isfinite(total)]

    def pop(self) -> dict[str, float]:
        """Returns the means since the last call by name, empty if there was no update, and starts anew."""
        *totals, count = self.totals.tolist()
        if count == 0:
            return {}
        self.totals.zero_()
        return {name: total / count for name, total in zip(Metrics._fields, totals, strict=True)}
