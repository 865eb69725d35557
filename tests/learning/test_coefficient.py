import math

import pytest
import torch

from gsac.learning.coefficient import EntropyCoefficient

CPU = torch.device("cpu")


def test_a_learned_coefficient_rises_below_the_target_and_falls_above_it():
    for entropy, rises in ((0.2, True), (0.9, False)):
        coefficient = EntropyCoefficient(0.1, learned=True, learning_rate=0.01, device=CPU)
        loss = coefficient.tune(torch.tensor([entropy]), torch.tensor(0.5))
        assert loss.item() == pytest.approx(math.log(0.1) * (entropy - 0.5))
        assert math.log(coefficient.value.item() / 0.1) == pytest.approx(
            0.01 if rises else -0.01, rel=1e-3
        )  # Adam's step


def test_a_coefficient_that_is_set_has_no_parameter_and_is_filled_in_place():
    coefficient = EntropyCoefficient(0.1, learned=False, learning_rate=0.01, device=CPU)
    value = coefficient.value
    assert coefficient.log_value is None
    assert coefficient.optimizer is None
    assert coefficient.tune(torch.tensor([0.2]), torch.tensor(0.5)).item() == 0
    coefficient.scheduled_value.fill_(0.3)
    assert value.item() == pytest.approx(0.3)
