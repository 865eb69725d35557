"""Each estimator against the exact gradient, which is computed here by enumeration."""

import math

import pytest
import torch
from torch import nn

from gsac import ESTIMATORS, RLOO, FactorisedCategorical, GumbelRao, Linear, Mixed, Reinforce
from gsac.estimators import extract_schedules, resolve_estimator
from gsac.estimators.base import neighbours

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


def sampled_gradients(estimator, logits, sizes, q, temperature=HALF, n=SAMPLES):
    """[n, D], one gradient a sample."""
    batch = logits.expand(n, -1).clone().requires_grad_()
    value = resolve_estimator(estimator, linear=False)(FactorisedCategorical(batch, sizes), q, temperature)
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
    assert gradients.std(0).max() > 1e-4
    assert standard_errors_from_exact(gradients, exact_gradient(logits, multi, q)) < 4.5


UNBIASED = {
    "local_expectation": ESTIMATORS["local_expectation"],
    "reinforce": Reinforce(),
    "reinforce, no baseline": Reinforce("none"),
    "reinforce, exact baseline": Reinforce("exact"),
    "rloo": RLOO(),
    "rloo of 2": RLOO(samples=2),
    "mixed, rho = 1": Mixed(rho=1.0),
}


@pytest.mark.parametrize("problem", [linear, quadratic, mlp])
@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_for_any_value_function(name, problem, sizes):
    q, logits = problem(sum(sizes)), torch.randn(sum(sizes))
    gradients = sampled_gradients(UNBIASED[name], logits, sizes, q)
    assert standard_errors_from_exact(gradients, exact_gradient(logits, sizes, q)) < 4.5


@pytest.mark.parametrize("draw", range(3))
def test_reinmax_is_unbiased_on_a_quadratic_value_and_straight_through_is_not(draw, sizes):
    q, logits = quadratic(sum(sizes)), torch.randn(sum(sizes))
    exact = exact_gradient(logits, sizes, q)
    assert standard_errors_from_exact(sampled_gradients("reinmax", logits, sizes, q), exact) < 4.5
    assert standard_errors_from_exact(sampled_gradients("straight_through", logits, sizes, q), exact) > 6


BIASED = ["straight_through", "straight_through_gumbel", "gumbel_rao", "gumbel_softmax", "mixed", "reinmax"]


@pytest.mark.parametrize("draw", range(3))
@pytest.mark.parametrize("name", BIASED)
def test_biased_if_the_value_is_not_linear(name, sizes, draw):
    q, logits = mlp(sum(sizes)), torch.randn(sum(sizes))
    gradients = sampled_gradients(name, logits, sizes, q, temperature=torch.tensor(1.0))
    assert standard_errors_from_exact(gradients, exact_gradient(logits, sizes, q)) > 6


def test_every_estimator_is_shown_biased_or_unbiased():
    assert set(ESTIMATORS) == {"expected", *(name for name in UNBIASED if name in ESTIMATORS), *BIASED}


def test_low_temperatures_leave_straight_through_gumbel_its_bias_and_take_it_from_gumbel_softmax():
    errors = {"gumbel_softmax": [], "straight_through_gumbel": []}
    for _ in range(5):
        q, logits = mlp(4), torch.randn(4)
        exact = exact_gradient(logits, [4], q)
        for name, found in errors.items():
            mean = sampled_gradients(name, logits, [4], q, torch.tensor(0.1), n=400_000).mean(0)
            found.append(((mean - exact).norm() / exact.norm()).item())
    medians = {name: sorted(found)[2] for name, found in errors.items()}
    assert medians["straight_through_gumbel"] > 0.15
    assert medians["gumbel_softmax"] < 0.6 * medians["straight_through_gumbel"]


def test_gumbel_rao_has_the_mean_of_straight_through_gumbel_and_less_variance(sizes):
    q, logits = quadratic(sum(sizes)), torch.randn(sum(sizes))
    plain = sampled_gradients("straight_through_gumbel", logits, sizes, q)
    variances = [plain.var(0).sum().item()]
    for samples in (1, 4, 64):
        averaged = sampled_gradients(GumbelRao(samples), logits, sizes, q)
        variances.append(averaged.var(0).sum().item())
        error = ((plain.var(0) + averaged.var(0)) / SAMPLES).sqrt()
        assert ((plain.mean(0) - averaged.mean(0)).abs() < 4.5 * error + 1e-6).all()
    assert variances[1] == pytest.approx(variances[0], rel=0.1)
    assert variances[2] < 0.9 * variances[1]
    assert variances[3] < variances[2]


def test_local_expectation_is_exact_for_a_single_group_and_sees_only_the_others_noise_for_several():
    q, logits = mlp(4), torch.randn(4)
    gradients = sampled_gradients("local_expectation", logits, [4], q, n=100)
    assert torch.allclose(gradients, exact_gradient(logits, [4], q).expand(100, -1), atol=1e-5)
    q, logits = mlp(6), torch.randn(6)
    spread = {
        name: sampled_gradients(name, logits, [2, 2, 2], q).var(0).sum() for name in ("local_expectation", "rloo")
    }
    assert 0 < spread["local_expectation"] < 0.5 * spread["rloo"]


def test_a_baseline_lowers_the_variance_of_reinforce_where_values_are_far_from_zero():
    sloped, logits = linear(4), torch.randn(4)
    spread = [
        sampled_gradients(e, logits, [4], lambda a: sloped(a) + 10).var(0).sum()
        for e in (Reinforce("none"), Reinforce("sample"), RLOO(samples=8), Reinforce("exact"))
    ]
    assert spread[0] > 10 * spread[1]
    assert spread[1] > spread[3]
    assert spread[2] < 0.5 * spread[3]  # eight samples


@pytest.mark.parametrize("estimator", [Reinforce("sample"), Reinforce("exact"), RLOO(samples=2), RLOO(samples=5)])
def test_a_value_that_is_the_same_everywhere_gives_no_gradient(estimator):
    gradients = sampled_gradients(estimator, torch.randn(5), [3, 2], lambda action: 7.0 + 0.0 * action.sum(-1), n=50)
    assert gradients.abs().max() < 1e-5


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "gumbel_softmax"])
def test_forwards_it_is_the_value_of_the_policy(name):
    q, logits = mlp(5), torch.randn(5)
    policy = FactorisedCategorical(logits.expand(SAMPLES, -1), [3, 2])
    values = ESTIMATORS[name](policy, q, HALF)
    actions, probs = policy.joint()
    exact = (probs * q(actions)).sum(0)[0]
    assert (values.mean() - exact).abs() < 4.5 * values.std() / math.sqrt(SAMPLES) + 1e-5


EVALUATIONS = {
    "expected": 24,  # of the joint actions
    "local_expectation": 9,  # a neighbour for each class
    "gumbel_softmax": 1,
    "straight_through": 1,
    "straight_through_gumbel": 1,
    "gumbel_rao": 1,
    "reinmax": 1,
    "reinforce": 2,
    "rloo": 4,
    "mixed": 2,
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_cost_is_as_described(name):
    asked = []
    policy = FactorisedCategorical(torch.randn(7, 9, requires_grad=True), [4, 3, 2])
    ESTIMATORS[name](policy, lambda a: asked.append(a[..., 0].numel() / 7) or (a * a).sum(-1), HALF).sum().backward()
    assert sum(asked) == EVALUATIONS[name]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_description_tells_bias_variance_cost_and_source(name):
    described = ESTIMATORS[name].__doc__
    for word in ("Bias: ", "Variance: ", "Cost: ", "https://"):
        assert word in described


def test_neighbours_by_hand():
    value = lambda action: action @ torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0])  # noqa: E731
    action = FactorisedCategorical(torch.tensor([[0.0, 9, 0, 0, 9]]), [3, 2]).mode()
    groups = FactorisedCategorical(action, [3, 2]).groups
    assert neighbours(value, action, groups).tolist() == [[21, 22, 23, 12, 22]]


def test_a_schedule_within_an_estimator_becomes_a_tensor_to_be_filled():
    estimator, changing = extract_schedules(Mixed(rho="linear:1:0"), torch.device("cpu"))
    schedule, tensor = changing["rho"]
    assert schedule == Linear(1.0, 0.0)
    logits = torch.randn(6)
    q = mlp(6)
    for rho, other in ((1.0, Reinforce()), (0.0, ESTIMATORS["straight_through"])):
        tensor.fill_(rho)
        gradients = []
        for each in (estimator, other):
            torch.manual_seed(1)
            gradients.append(sampled_gradients(each, logits, [3, 3], q, n=50))
        assert torch.allclose(*gradients, atol=1e-6)
    assert extract_schedules(Reinforce(), torch.device("cpu")) == (Reinforce(), {})
    with pytest.raises(TypeError, match="only GSAC can say"):
        Mixed(rho=Linear(1.0, 0.0))(FactorisedCategorical(logits, [3, 3]), q, HALF)


def test_settings_can_be_written_behind_the_name():
    assert resolve_estimator("rloo:samples=8", linear=False) == RLOO(samples=8)
    assert resolve_estimator("reinforce:baseline=exact", linear=False) == Reinforce("exact")
    assert resolve_estimator("mixed:rho=0.5", linear=False) == Mixed(rho=0.5)
    assert resolve_estimator("mixed:rho=piecewise:0=1,0.5=0.25", linear=False) == Mixed("piecewise:0=1,0.5=0.25")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rloo:sample=8", r"'sample=8' is not one of its settings; it takes samples=\.\.\."),
        ("reinmax:samples=8", "it takes no settings"),
        (
            "rloo:samples=1",
            "samples=1 is out of range: pass a whole number of at least 2, as the baseline is the mean of the others",
        ),
        ("rloo:samples=many", "samples='many' is not a whole number"),
        ("gumbel_rao:samples=0", "samples=0 is out of range"),
        ("gumbel_rao:samples=2.5", "samples='2.5' is not a whole number"),
        ("reinforce:baseline=mean", "baseline='mean' is unknown. Pass one of 'none', 'sample', 'exact'"),
        ("mixed:rho=2", r"rho=2.0 is out of range"),
        ("mixed:rho=linear:1:-1", r"rho='linear:1:-1', -0\.1 with 45% of its progress left, is out of range"),
        ("mixed:rho=much", r"rho='much' is not a schedule"),
    ],
)
def test_the_error_for_wrong_settings_names_the_right_ones(text, message):
    with pytest.raises(ValueError, match=message):
        resolve_estimator(text, linear=False)


def test_the_bias_of_gumbel_softmax_falls_with_the_temperature_and_its_variance_rises():
    """On average over drawn problems; on a single one the bias may pass through zero on its way."""
    temperatures = (2.0, 1.0, 0.5, 0.25)
    biases, spreads = torch.zeros(8, 4), torch.zeros(8, 4)
    for i in range(8):
        q, logits = mlp(4), torch.randn(4)
        exact = exact_gradient(logits, [4], q)
        for j, temperature in enumerate(temperatures):
            gradients = sampled_gradients("gumbel_softmax", logits, [4], q, torch.tensor(temperature), n=200_000)
            biases[i, j] = (gradients.mean(0) - exact).norm() / exact.norm()
            spreads[i, j] = gradients.std(0).norm() / exact.norm()
    bias, spread = biases.median(0).values.tolist(), spreads.median(0).values.tolist()
    assert bias == sorted(bias, reverse=True)
    assert bias[-1] < 0.5 * bias[0]
    assert spread == sorted(spread)


def test_gumbel_softmax_evaluates_q_inside_the_simplex_and_the_others_at_its_corners(sizes):
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_extreme_logits_and_low_temperature_give_no_nan(name, dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0, 1e4]], dtype=dtype).expand(500, -1).clone().requires_grad_()
    mask = torch.tensor([True, True, False, True])
    for policy in (FactorisedCategorical(logits, [4]), FactorisedCategorical(logits, [2, 2], mask)):
        value = ESTIMATORS[name](policy, mlp(4), torch.tensor(1 / 16))
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_the_default_depends_on_whether_the_critics_are_linear():
    assert resolve_estimator("auto", linear=True) is ESTIMATORS["straight_through"]
    assert resolve_estimator("auto", linear=False) is ESTIMATORS["gumbel_softmax"]


def test_the_error_for_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"estimator='gumble_softmax' is unknown. Did you mean 'gumbel_softmax'\?"):
        resolve_estimator("gumble_softmax", linear=True)
    with pytest.raises(TypeError, match="estimator=3 is neither"):
        resolve_estimator(3, linear=True)
    assert resolve_estimator(linear, linear=True) is linear
