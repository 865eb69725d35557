import copy

import pytest
import torch
from torch import nn

from gsac.optim.adam import FusedAdam
from gsac.optim.descent import clipped, descend


def test_moves_as_backward_clipping_and_adam_do():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    theirs = copy.deepcopy(ours)
    optimizers = FusedAdam(ours.parameters(), lr=0.01), torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    for _ in range(20):
        inputs = 10 * torch.randn(16, 4)
        descend(optimizers[0], ours(inputs).square().mean(), list(ours.parameters()), max_grad_norm=0.1)
        optimizers[1].zero_grad()
        theirs(inputs).square().mean().backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        optimizers[1].step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a.grad, b.grad, atol=1e-7)
            assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("layout", ["transposed", "expanded", "shared", "as it is"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_gradients_are_right_however_they_lie_in_memory(layout, max_grad_norm):
    weights = torch.arange(12.0).reshape(4, 3)
    losses = {
        "transposed": lambda a, b: (a.T * weights).sum() + 2 * b.sum(),
        "expanded": lambda a, b: a.sum() + 2 * b.sum(),
        "shared": lambda a, b: (a + b).square().sum(),
        "as it is": lambda a, b: (a * b).sum(),
    }
    pairs = [[torch.arange(12.0).reshape(3, 4).requires_grad_() for _ in range(2)] for _ in range(2)]
    optimizers = [kind(pair, lr=0.1) for kind, pair in zip((FusedAdam, torch.optim.Adam), pairs, strict=True)]
    for _ in range(5):
        loss = [losses[layout](*pair) for pair in pairs]
        descend(optimizers[0], loss[0], pairs[0], max_grad_norm)
        optimizers[1].zero_grad()
        loss[1].backward()
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(pairs[1], max_grad_norm)
        optimizers[1].step()
        for a, b in zip(*pairs, strict=True):
            assert a.grad.stride() == a.stride()
            assert torch.allclose(a, b, atol=1e-6)


def test_only_the_given_parameters_get_a_gradient():
    mine, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    descend(torch.optim.SGD([mine], lr=0.5), (mine * other).sum(), [mine])
    assert mine.tolist() == [0.5, 0.5]
    assert other.grad is None


@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
@pytest.mark.parametrize("kind", [FusedAdam, torch.optim.Adam])
def test_unused_and_frozen_parameters_stay(kind, max_grad_norm):
    used, unused, frozen = (torch.ones(2, requires_grad=True) for _ in range(3))
    parameters = [used, unused, frozen]
    optimizer = kind(parameters, lr=0.1)
    descend(optimizer, (used * unused * frozen).sum(), parameters, max_grad_norm)
    assert all(parameter.max() < 1 for parameter in parameters)
    frozen.requires_grad_(False)
    before = [parameter.detach().clone() for parameter in parameters]
    descend(optimizer, (used * frozen).sum(), parameters, max_grad_norm)
    assert [parameter.equal(then) for parameter, then in zip(parameters, before, strict=True)] == [False, True, True]
    used.requires_grad_(False)
    unused.requires_grad_(False)
    descend(optimizer, frozen.sum(), parameters, max_grad_norm)
    assert used.grad is None


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_clipping_is_that_of_pytorch(scale):
    gradients = [scale * torch.randn(shape) for shape in ((3, 4), (5,), ())]
    parameters = [torch.zeros_like(gradient) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(parameters, 2.0)
    for parameter, gradient in zip(parameters, clipped(gradients, 2.0), strict=True):
        assert torch.allclose(parameter.grad, gradient)
    assert list(clipped([], 2.0)) == []
