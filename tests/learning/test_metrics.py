import math

import pytest
import torch

from gsac.learning.metrics import Metrics, RunningMean


def test_means_are_of_the_updates_since_the_last_time_and_kept_in_one_place():
    mean = RunningMean()
    place = mean.totals.data_ptr()
    assert mean.pop() == {}
    for value in (1.0, 4.0):
        mean.add(Metrics(*torch.full((len(Metrics._fields),), value)))
    assert mean.pop() == dict.fromkeys(Metrics._fields, 2.5)
    assert mean.pop() == {}
    mean.add(Metrics(*torch.full((len(Metrics._fields),), 3.0)))
    assert mean.pop() == dict.fromkeys(Metrics._fields, 3.0)
    assert mean.totals.data_ptr() == place  # where a captured graph adds to


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_nan_is_named_until_pop(value):
    mean = RunningMean()
    mean.add(Metrics(*torch.zeros(len(Metrics._fields)))._replace(critic_loss=torch.tensor(value)))
    mean.add(Metrics(*torch.zeros(len(Metrics._fields))))
    assert mean.not_finite() == ["critic_loss"]
    mean.pop()
    assert mean.not_finite() == []
