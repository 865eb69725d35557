"""What an update reports, averaged on the device and read from it once per log."""

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


class RunningMean:
    """The mean of metrics over updates. Adding reads nothing from the device."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def add(self, metrics: Metrics) -> None:
        """Counts one update's metrics in."""
        values = torch.stack(metrics)
        self.total = values if self.total is None else self.total.add_(values)
        self.count += 1

    def not_finite(self) -> list[str]:
        """The names of those that were infinite or not a number in any update since the last :meth:`pop`. Reads the sums
        from the device: they stay as they are from the first such update on.
        """
        if self.total is None:
            return []
        return [
            name for name, total in zip(Metrics._fields, self.total.tolist(), strict=True) if not math.isfinite(total)
        ]

    def pop(self) -> dict[str, float]:
        """The means since the last call, by name; empty if there was no update."""
        if self.total is None:
            return {}
        means = (self.total / self.count).tolist()
        self.total, self.count = None, 0
        return dict(zip(Metrics._fields, means, strict=True))
