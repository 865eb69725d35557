"""Each estimator against the exact gradient, which is computed here by enumeration."""

import math

import pytest
import torch
from torch import nn

from gsac import ESTIMATORS, FactorisedCategorical
from gsac.estimators import resolve_estimator

SAMPLES = 40_000
HALF = torch.tensor(0.5)
GROUPINGS = [[4], [3, 2], [2, 2, 2]]


def linear(d):
    weight = torch.randn(d)
    return lambda action: action @ weight


def multilinear(sizes):
    """Linear in each group's action, with interactions: the product of a linear form of each group."""
    weight = torch.randn(sum(sizes))
    return lambda action: torch.stack([part.sum(-1) for part in (action * weight).split(sizes, -1)], -1).prod(-1)


def quadratic(d):
    matrix = torch.randn(d, d)
    return lambda action: ((action @ matrix) * action).sum(-1)


def mlp(d):
    net = nn.Sequential(nn.Linear(d, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    for parameter in net.parameters():
        parameter.data.mul_(3.0)
    net.requires_grad_(False)
    return lambda action: net(action).squeeze(-1)


def exact_gradient(logits, sizes, q):
    """The gradient of the sum over all joint actions of their probability times their value."""
    logits = logits.clone().requires_grad_()
    parts = [part.softmax(-1) for part in logits.split(sizes)]
    total = torch.zeros(())
    for choice in torch.cartesian_prod(*(torch.arange(k) for k in sizes)).reshape(-1, len(sizes)):
        action = torch.cat([nn.functional.one_hot(c, k).float() for c, k in zip(choice, sizes, strict=True)])
        total = total + math.prod(part[c] for part, c in zip(parts, choice, strict=True)) * q(action)
    return torch.autograd.grad(total, logits)[0]


def sampled_gradients(name, logits, sizes, q, temperature=HALF, n=SAMPLES):
    """[n, D], one gradient a sample."""
    batch = logits.expand(n, -1).clone().requires_grad_()
    value = ESTIMATORS[name](FactorisedCategorical(batch, sizes), q, temperature)
    assert value.shape == (n,)
    return torch.autograd.grad(value.sum(), batch)[0]


def standard_errors_from_exact(gradients, exact):
    error = gradients.std(0) / math.sqrt(len(gradients))
    return ((gradients.mean(0) - exact).abs() / (error + 1e-6)).max().item()


@pytest.fixture(params=GROUPINGS, ids=str)
def sizes(request):
    return request.param


@pytest.mark.parametrize("problem", [linear, quadratic, mlp])
def test_expected_is_the_exact_gradient(problem, sizes):
    q, logits = problem(sum(sizes)), torch.randn(sum(sizes))
    gradients = sampled_gradients("expected", logits, sizes, q, n=3)
    exact = exact_gradient(logits, sizes, q)
    assert torch.allclose(gradients, exact.expand(3, -1), atol=1e-5)


def test_straight_through_is_exact_and_without_variance_on_a_linear_value(sizes):
    q, logits = linear(sum(sizes)), torch.randn(sum(sizes))
    gradients = sampled_gradients("straight_through", logits, sizes, q, n=100)
    assert torch.allclose(gradients, exact_gradient(logits, sizes, q).expand(100, -1), atol=1e-5)


def test_both_gumbel_estimators_have_the_same_biased_gradient_on_a_linear_value(sizes):
    q, logits, gradients = linear(sum(sizes)), torch.randn(sum(sizes)), []
    for name in ("gumbel_softmax", "straight_through_gumbel"):
        torch.manual_seed(1)
        gradients.append(sampled_gradients(name, logits, sizes, q, temperature=torch.tensor(1.0)))
    assert torch.allclose(*gradients, atol=1e-5)
    assert standard_errors_from_exact(gradients[0], exact_gradient(logits, sizes, q)) > 6


@pytest.mark.parametrize("multi", [[3, 2], [2, 2, 2]], ids=str)
def test_straight_through_is_unbiased_where_the_value_is_linear_in_each_group(multi):
    q, logits = multilinear(multi), torch.randn(sum(multi))
    gradients = sampled_gradients("straight_through", logits, multi, q)
    assert gradients.std(0).max() > 0.01
    assert standard_errors_from_exact(gradients, exact_gradient(logits, multi, q)) < 4.5


@pytest.mark.parametrize("name", ["straight_through", "straight_through_gumbel", "gumbel_softmax"])
def test_biased_on_a_quadratic_value(name, sizes):
    q, logits = quadratic(sum(sizes)), torch.randn(sum(sizes))
    gradients = sampled_gradients(name, logits, sizes, q, temperature=torch.tensor(1.0))
    assert standard_errors_from_exact(gradients, exact_gradient(logits, sizes, q)) > 6


def test_the_bias_of_gumbel_softmax_falls_with_the_temperature_and_its_variance_rises():
    d = 4
    q, logits = mlp(d), torch.randn(d)
    exact = exact_gradient(logits, [d], q)
    bias, spread = [], []
    for temperature in (2.0, 1.0, 0.5, 0.25):
        gradients = sampled_gradients("gumbel_softmax", logits, [d], q, torch.tensor(temperature), n=400_000)
        bias.append((gradients.mean(0) - exact).norm().item())
        spread.append(gradients.std(0).norm().item())
    assert bias == sorted(bias, reverse=True)
    assert bias[-1] < 0.3 * bias[0]
    assert spread == sorted(spread)


def test_gumbel_softmax_is_asked_inside_the_simplex_and_the_others_at_its_corners(sizes):
    logits = torch.randn(sum(sizes))
    for name in ESTIMATORS:
        seen = []
        ESTIMATORS[name](
            FactorisedCategorical(logits.expand(5, -1), sizes),
            lambda action, seen=seen: seen.append(action) or action[..., 0],
            HALF,
        )
        corners = torch.cat([action.reshape(-1, sum(sizes)) for action in seen])
        assert corners.eq(corners.round()).all().item() is (name != "gumbel_softmax")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_gradients_sum_to_zero_in_each_group_and_ignore_a_shift_of_the_logits(name, sizes):
    q, logits = mlp(sum(sizes)), torch.randn(sum(sizes))
    gradients = []
    for shift in (0.0, 3.0):
        torch.manual_seed(1)
        gradients.append(sampled_gradients(name, logits + shift, sizes, q, n=50))
    policy = FactorisedCategorical(logits, sizes)
    assert policy.groups.sum(gradients[0]).abs().max() < 1e-4
    assert torch.allclose(*gradients, atol=1e-3)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_masked_logits_get_no_gradient(name):
    mask = torch.tensor([True, False, True, True, True])
    logits = torch.randn(200, 5, requires_grad=True)
    policy = FactorisedCategorical(logits, [3, 2], mask)
    ESTIMATORS[name](policy, mlp(5), HALF).sum().backward()
    assert logits.grad[:, 1].eq(0).all()
    assert logits.grad[:, mask].ne(0).any()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_extreme_logits_and_low_temperature_give_no_nan(name):
    logits = torch.tensor([[1e4, -1e4, 0.0, 1e4]]).expand(500, -1).clone().requires_grad_()
    ESTIMATORS[name](FactorisedCategorical(logits, [4]), mlp(4), torch.tensor(1 / 16)).sum().backward()
    assert logits.grad.isfinite().all()


def test_the_default_depends_on_whether_the_critics_are_linear():
    assert resolve_estimator("auto", linear=True) is ESTIMATORS["straight_through"]
    assert resolve_estimator("auto", linear=False) is ESTIMATORS["gumbel_softmax"]


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"estimator='gumble_softmax' is unknown. Did you mean 'gumbel_softmax'\?"):
        resolve_estimator("gumble_softmax", linear=True)
    with pytest.raises(TypeError, match="estimator=3 is neither"):
        resolve_estimator(3, linear=True)
    assert resolve_estimator(linear, linear=True) is linear
