import math

import pytest
import torch

from gsac.estimators.quality import gradient_quality


def test_by_hand():
    estimates = torch.tensor([[4.0, 3.0], [4.0, 1.0], [4.0, 2.0]])  # mean (4, 2), variance 1 in the second
    found = gradient_quality(estimates, torch.tensor([[3.0, 0.0]]))
    assert found.relative_bias == pytest.approx(math.sqrt(1 + 4 - 1 / 3) / 3)
    assert found.relative_std == pytest.approx(1 / 3)
    assert found.snr == pytest.approx(math.sqrt(16 + 4 - 1 / 3))
    assert found.cosine == pytest.approx((4 / 5 + 4 / math.sqrt(17) + 4 / math.sqrt(20)) / 3)
    assert found.rmse(4) == pytest.approx(math.sqrt(found.relative_bias**2 + (1 / 3) ** 2 / 4))


def test_the_noise_of_the_measurement_does_not_count_as_bias():
    true = torch.randn(50)
    biases = [gradient_quality(true + torch.randn(40, 50), true + torch.randn(40, 50)).relative_bias for _ in range(20)]
    assert sorted(biases)[10] < 0.1  # uncorrected, sqrt(50 / 40 + 50 / 40) / 7 = 0.22
    shifted = gradient_quality(true * 1.5 + torch.randn(40, 50), true + torch.randn(40, 50))
    assert shifted.relative_bias == pytest.approx(0.5, abs=0.1)


def test_without_noise_the_ratio_is_infinite():
    exact = torch.randn(1, 5)
    found = gradient_quality(exact.expand(3, -1), exact)
    assert found.snr == math.inf
    assert found.relative_bias == pytest.approx(0.0, abs=1e-6)
    assert found.cosine == pytest.approx(1.0)
