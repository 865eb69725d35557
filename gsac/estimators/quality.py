"""How good an estimator is: its bias, its noise, and what both do to the direction of a step."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import cosine_similarity


class GradientQuality(NamedTuple):
    """Relative to the norm of the true gradient g, and so without a unit."""

    relative_bias: float
    """||E[estimate] - g|| / ||g||. The part that the measurement's own noise adds is subtracted."""
    relative_std: float
    """sqrt(trace of the estimates' covariance) / ||g||"""
    cosine: float
    """Of the angle between an estimate and g, averaged over estimates: how much of a step goes where it should."""
    snr: float
    """Signal-to-noise ratio, ||E[estimate]|| / sqrt(trace of the covariance); infinite without noise"""

    def rmse(self, batch_size: int) -> float:
        """The relative root mean square error of the mean of ``batch_size`` estimates: only the noise averages out."""
        return math.sqrt(self.relative_bias**2 + self.relative_std**2 / batch_size)


def gradient_quality(estimates: Tensor, reference: Tensor) -> GradientQuality:
    """Compares independent estimates of a gradient with what they should be.

    :param estimates: [S, P], at least two
    :param reference: [R, P]: the true gradient, R = 1; or independent unbiased estimates of it, R >= 2
    """
    estimates, reference = estimates.double(), reference.double()
    variance = estimates.var(0).sum()
    reference_noise = reference.var(0).sum() / len(reference) if len(reference) > 1 else variance.new_zeros(())
    mean, true = estimates.mean(0), reference.mean(0)
    mean_noise = variance / len(estimates)

    norm = (true.square().sum() - reference_noise).clamp_min(0).sqrt()
    bias = ((mean - true).square().sum() - mean_noise - reference_noise).clamp_min(0).sqrt()
    signal = (mean.square().sum() - mean_noise).clamp_min(0).sqrt()
    std = variance.sqrt()
    cosine = cosine_similarity(estimates, true.expand_as(estimates), dim=-1).mean()
    return GradientQuality(*((value.item()) for value in (bias / norm, std / norm, cosine, signal / std)))
