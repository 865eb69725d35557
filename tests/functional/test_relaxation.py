import math

import torch

from gsac.functional.groups import Groups
from gsac.functional.relaxation import gumbel_like, gumbel_softmax, straight_through

EULER = 0.5772156649


def test_gumbel_noise_has_its_mean_and_variance():
    noise = gumbel_like(torch.empty(1_000_000))
    assert abs(noise.mean().item() - EULER) < 4 * math.sqrt(math.pi**2 / 6 / 1e6)
    assert abs(noise.var().item() - math.pi**2 / 6) < 0.02


def test_gumbel_noise_is_finite_float32_even_where_the_exponential_is_zero(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.zero_())
    noise = gumbel_like(torch.empty(3, dtype=torch.bfloat16))
    assert noise.dtype == torch.float32
    assert noise.isfinite().all()


def test_relaxation_by_hand():
    perturbed = torch.tensor([[math.log(1.0), math.log(3.0), 5.0]])
    relaxed = gumbel_softmax(perturbed, Groups([2, 1]), torch.tensor(0.5))
    assert torch.allclose(relaxed, torch.tensor([[0.1, 0.9, 1.0]]))  # 1 : 3 squared is 1 : 9


def test_straight_through_is_the_hard_one_forwards_and_the_soft_one_backwards():
    soft = torch.tensor([0.3, 0.7], requires_grad=True)
    hard = torch.tensor([0.0, 1.0])
    out = straight_through(hard, soft)
    assert out.equal(hard)
    (out * torch.tensor([2.0, 5.0])).sum().backward()
    assert soft.grad.tolist() == [2.0, 5.0]
