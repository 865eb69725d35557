import math

import torch

from gsac.functional.categorical import FactorisedCategorical
from gsac.functional.groups import Groups
from gsac.functional.relaxation import (
    conditional_gumbel,
    gumbel_like,
    gumbel_softmax,
    softmax_tangent,
    straight_through,
)

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


def test_the_softmax_tangent_has_its_jacobian():
    logits, groups = torch.randn(5, dtype=torch.float64), Groups([2, 3])
    tangent = torch.autograd.functional.jacobian(lambda x: softmax_tangent(groups.softmax(logits), x, groups), logits)
    assert torch.allclose(tangent, torch.autograd.functional.jacobian(groups.softmax, logits), atol=1e-12)


def test_conditional_gumbels_keep_the_choice_and_mix_back_to_gumbels():
    n = 200_000
    policy = FactorisedCategorical(torch.tensor([2.0, -1.0, 0.5, 0.0, 3.0]).expand(n, -1), [3, 2])
    hard = policy.sample()
    perturbed = conditional_gumbel(policy.log_probs, hard, policy.groups, 2)
    assert perturbed.shape == (2, n, 5)
    assert policy.harden(perturbed).equal(hard.expand(2, -1, -1))
    noise = perturbed[0] - policy.log_probs  # over the choices, independent standard Gumbels
    assert ((noise.mean(0) - EULER).abs() < 4.5 * math.sqrt(math.pi**2 / 6 / n)).all()
    assert ((noise.var(0) - math.pi**2 / 6).abs() < 0.04).all()
    for threshold in (-0.5, 0.4, 1.5):
        p = math.exp(-math.exp(-threshold))
        assert ((noise < threshold).float().mean(0) - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / n)
    correlation = torch.corrcoef(noise.T) - torch.eye(5)
    assert correlation.abs().max() < 4.5 / math.sqrt(n)
