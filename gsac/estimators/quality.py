"""Measures an estimator's gradients: bias, variance, and the angle to the true gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import cosine_similarity


class GradientQuality(NamedTuple):
    """Measures relative to the norm of the true gradient g, without a unit."""

    relative_bias: float
    """||E[estimate] - g|| / ||g||, with the part subtracted that the noise of the two means adds."""
    relative_std: float
    """sqrt(trace of the estimates' covariance) / ||g||"""
    cosine: float
    """Cosine of the angle between an estimate and g, averaged over estimates; 1 if every step has the right direction."""
    snr: float
    """Signal-to-noise ratio ||E[estimate]|| / sqrt(trace of the covariance); infinite without noise."""

    def rmse(self, batch_size: int) -> float:
        """The relative root mean square error of the mean of ``batch_size`` estimates; averaging leaves the bias as it is."""
        return math.sqrt(self.relative_bias**2 + self.relative_std**2 / batch_size)


def gradient_quality(estimates: Tensor, reference: Tensor) -> GradientQuality:
    """Compares independent estimates of a gradient with the true gradient.

    :param estimates: S estimates of P numbers, S at least 2, [S, P]
    :param reference: the true gradient [1, P], or independent unbiased estimates of it [R, P]
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
    return GradientQuality(*(value.item() for value in (bias / norm, std / norm, cosine, signal / std)))
