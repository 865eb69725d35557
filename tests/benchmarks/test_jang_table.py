"""The networks with categorical latents learn by the right gradients, and their losses are those of enumeration."""

import json
import math
from itertools import product

import jang_table
import pytest
import torch
from stochastic_networks import RecordingValue, StochasticNetwork, slope_annealed
from torch import nn
from torch.nn import functional as F

from gsac import ESTIMATORS, FactorisedCategorical
from gsac.functional.relaxation import gumbel_like

SIZES, D, INPUTS, PIXELS = [3, 2], 5, 4, 6
TEMPERATURE = torch.tensor(0.7)
UNBIASED = ["reinforce", "rloo", "local_expectation"]
HARD = [*sorted(set(ESTIMATORS) - {"gumbel_softmax", "expected"}), "slope_annealed"]


def two_layers():
    return StochasticNetwork([nn.Linear(INPUTS, D), nn.Linear(D, D)], SIZES, decoder(), prior=False)


def vae():
    return StochasticNetwork([nn.Linear(PIXELS, D)], SIZES, decoder(), prior=True)


def decoder():
    return nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, PIXELS))


def estimator(name):
    return slope_annealed if name == "slope_annealed" else ESTIMATORS[name]


def one_hots():
    return [torch.cat([F.one_hot(torch.tensor(c), k) for c, k in zip(z, SIZES, strict=True)]).float()
            for z in product(range(3), range(2))]  # fmt: skip


def probability(logits, one_hot):
    """[B] of one joint choice."""
    parts = zip(logits.split(SIZES, -1), one_hot.split(SIZES), strict=True)
    return math.prod((part.softmax(-1) * chosen).sum(-1) for part, chosen in parts)


def pixels_log_prob(net, z, pixels):
    p = net.decoder(z).sigmoid()
    return torch.where(pixels == 1, p, 1 - p).log().sum(-1)


def every_path(net, given):
    """The probability [B] and the last latent of each joint choice of all layers."""
    for first in one_hots():
        p = probability(net.layers[0](given), first)
        if len(net.layers) == 1:
            yield p, first
        else:
            for second in one_hots():
                yield p * probability(net.layers[1](first), second), second


def exact_gradients(net, given, pixels):
    loss = -sum(p * pixels_log_prob(net, z, pixels) for p, z in every_path(net, given))
    if net.prior:
        probs = torch.stack([p for p, _ in every_path(net, given)])
        loss = loss + (probs * (probs * 6).log()).sum(0)
    return dict(
        zip((n for n, _ in net.named_parameters()), torch.autograd.grad(loss.mean(), [*net.parameters()]), strict=True)
    )


def stepped_gradients(net, given, pixels, name):
    net.zero_grad()
    net.step(given, pixels, estimator(name), TEMPERATURE)
    return {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


def standard_errors(net, given, pixels, name, of, repeats=40, copies=400):
    """The greatest distance of the mean gradient of a step from the exact one, over the parameters that start so."""
    exact = exact_gradients(net, given, pixels)
    many = given.repeat(copies, 1), pixels.repeat(copies, 1)
    found = [stepped_gradients(net, *many, name) for _ in range(repeats)]
    distances = []
    for parameter in (parameter for parameter in exact if parameter.startswith(of)):
        steps = torch.stack([gradients[parameter] for gradients in found])
        error = steps.std(0) / math.sqrt(repeats)
        distances.append(((steps.mean(0) - exact[parameter]).abs() / (error + 1e-5)).max().item())
    return max(distances)


@pytest.fixture(params=[two_layers, vae])
def problem(request):
    torch.manual_seed(3)
    net = request.param()
    for parameter in net.parameters():
        parameter.data.mul_(1.5)
    pixels = torch.randint(2, (2, PIXELS)).float()
    return net, pixels if net.prior else torch.randn(2, INPUTS), pixels


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_estimators_give_every_parameter_its_exact_gradient(problem, name):
    assert standard_errors(*problem, name, of="") < 5


@pytest.mark.parametrize("name", HARD)
def test_the_decoder_has_its_exact_gradient_from_every_estimator_of_hard_samples(problem, name):
    assert standard_errors(*problem, name, of="decoder") < 5


def test_a_biased_estimator_is_seen_to_be():
    torch.manual_seed(3)
    net = vae()
    for parameter in net.parameters():
        parameter.data.mul_(4)
    pixels = torch.randint(2, (2, PIXELS)).float()
    assert standard_errors(net, pixels, pixels, "straight_through_gumbel", of="layers", copies=1000) > 6


def test_with_gumbel_softmax_one_backward_pass_through_the_relaxed_sample_gives_the_same_gradients():
    net, pixels = vae(), torch.randint(2, (8, PIXELS)).float()
    torch.manual_seed(1)
    gradients = stepped_gradients(net, pixels, pixels, "gumbel_softmax")
    torch.manual_seed(1)
    net.zero_grad()
    logits = net.layers[0](pixels)
    perturbed = (logits + gumbel_like(logits)) / TEMPERATURE
    relaxed = torch.cat([part.softmax(-1) for part in perturbed.split(SIZES, -1)], -1)
    loss = F.binary_cross_entropy_with_logits(net.decoder(relaxed), pixels, reduction="none").sum(-1)
    for part in logits.split(SIZES, -1):
        p = part.softmax(-1)
        loss = loss + (p * (p * part.shape[-1]).log()).sum(-1)
    loss.mean().backward()
    for name, parameter in net.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-6), name


def test_a_step_adds_to_each_gradient_once_and_reaches_all():
    net, given, pixels = two_layers(), torch.randn(8, INPUTS), torch.ones(8, PIXELS)
    for name in [*HARD, "gumbel_softmax"]:
        assert all((gradient != 0).any() for gradient in stepped_gradients(net, given, pixels, name).values()), name


@pytest.mark.parametrize("name", [*HARD, "gumbel_softmax"])
def test_what_follows_learns_at_one_sample_of_the_policy(name):
    policy = FactorisedCategorical(torch.tensor([[9.0, -9, -9, -9, 9]]).repeat(8, 1).requires_grad_(), SIZES)
    q = RecordingValue(lambda action: action.sum(-1), policy.groups)
    estimator(name)(policy, q, torch.tensor(0.3))
    assert torch.allclose(q.sample, torch.tensor([1.0, 0, 0, 0, 1]).repeat(8, 1), atol=1e-3)
    assert not q.sample.requires_grad


def test_slope_annealing_counts_backwards_as_the_steeper_softmax():
    logits, weight = torch.tensor([[0.5, -1.0, 0.2, 0.3, 0.9]], requires_grad=True), torch.arange(5.0)
    values = []
    value = slope_annealed(
        FactorisedCategorical(logits, SIZES), lambda a: values.append(a.detach()) or a @ weight, torch.tensor(0.25)
    )
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    steep = torch.cat([part.softmax(-1) for part in (4 * logits).split(SIZES, -1)], -1)
    (by_hand,) = torch.autograd.grad((steep @ weight).sum(), logits)
    assert torch.allclose(gradient, by_hand, atol=1e-6)
    assert sorted(values[0][0].tolist()) == [0, 0, 0, 1, 1]


def test_the_negative_log_likelihood_is_that_of_enumeration():
    torch.manual_seed(3)
    net, given, pixels = two_layers(), torch.randn(2, INPUTS), torch.randint(2, (2, PIXELS)).float()
    for parameter in net.parameters():
        parameter.data.mul_(3)
    exact = -sum(p * pixels_log_prob(net, z, pixels).exp() for p, z in every_path(net, given)).log()
    assert torch.allclose(net.losses(given, pixels, 20_000), exact, atol=0.02)
    one = -sum(p * pixels_log_prob(net, z, pixels) for p, z in every_path(net, given))
    by_one = torch.stack([net.losses(given, pixels, 1) for _ in range(2_000)]).mean(0)
    assert torch.allclose(by_one, one, atol=0.2)
    assert (one > exact + 0.1).all()


def test_the_loss_of_the_vae_is_its_bound():
    net, pixels = vae(), torch.randint(2, (2, PIXELS)).float()
    bound = sum(p * (pixels_log_prob(net, z, pixels) - (6 * p).log()) for p, z in every_path(net, pixels))
    assert torch.allclose(net.losses(pixels, pixels, 20_000), -bound, atol=0.02)


def test_the_divergence_by_hand():
    policy = FactorisedCategorical(
        torch.tensor([[0.5, 0.25, 0.25, 0.5, 0.5], [0, 0, 0, 0, 0]]).clamp(1e-12).log(), SIZES
    )
    expected = 0.5 * math.log(1.5) + 2 * 0.25 * math.log(0.75)
    assert vae().divergence(policy).tolist() == pytest.approx([expected, 0.0], abs=1e-6)


def test_the_images_are_split_without_loss():
    from sklearn.datasets import load_digits

    split = jang_table.images()
    assert [len(part) for part in split.values()] == [1197, 300, 300]
    together = torch.cat(list(split.values()))
    assert together.unique().tolist() == [0, 1]
    assert sorted(together.tolist()) == sorted((load_digits().data >= 8).astype(float).tolist())


def test_a_run_repeats_itself_and_only_reported_seeds_see_the_test_images():
    first, again, tuning = (jang_table.Job("vae", "reinmax", 0.01, None, seed, steps=3).run() for seed in (0, 0, 100))
    assert (first["test"], first["curve"]) == (again["test"], again["curve"])
    assert "test" not in tuning


def test_a_finished_run_is_not_run_again(tmp_path, capsys):
    path = tmp_path / "again.jsonl"
    command = ["--tune", "--tasks", "vae", "--estimators", "straight_through", "--rates", "0.01", "--steps", "2"]
    command.append("--results")
    jang_table.main([*command, str(path)])
    lines = path.read_text().splitlines()
    assert sorted(json.loads(line)["seed"] for line in lines) == [100, 101]
    jang_table.main([*command, str(path)])
    assert path.read_text().splitlines() == lines
    path.write_text(lines[1] + "\n")
    jang_table.main([*command, str(path)])
    assert path.read_text().splitlines()[0] == lines[1]
    said = [line for line in capsys.readouterr().out.splitlines() if "already" in line]
    assert [line.split(" runs")[0] for line in said] == ["2 of 2", "1 of 2"]
    assert len(jang_table.load(path, steps=2)) == 2
    assert jang_table.load(path) == [], "two steps are no trial of as many as are reported"


def test_settings_are_chosen_on_the_tuning_seeds_and_compared_seed_by_seed():
    def row(name, lr, seed, **losses):
        return {"task": "vae", "estimator": name, "lr": lr, "temperature": None, "seed": seed} | losses

    rows = [row("reinforce", 0.1, seed, validation=loss) for seed, loss in ((100, 5.0), (101, 3.0))]
    rows += [row("reinforce", 0.2, seed, validation=loss) for seed, loss in ((100, 1.0), (101, 6.0), (0, 9.0))]
    rows[-1]["test"] = 8.0
    assert jang_table.tried(rows, "vae", "reinforce") == {(0.2, None): 3.5, (0.1, None): 4.0}
    assert jang_table.reported(rows, "vae") == {"reinforce": {0: 8.0}}
    assert [job.lr for job in jang_table.reporting_jobs(rows, ["vae"], ["reinforce"], 9)] == [0.2] * 6
    with pytest.raises(SystemExit, match="reinmax has no temperature"):
        jang_table.tuning_jobs(["vae"], ["reinmax"], None, ["0.5"], 9)
    with pytest.raises(SystemExit, match="rloo has not been tuned for vae"):
        jang_table.reporting_jobs(rows, ["vae"], ["rloo"], 9)


def test_intervals_and_ranks_by_hand():
    mean, half = jang_table.mean_and_interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.302653 / math.sqrt(3), rel=1e-5))
    assert jang_table.ranks({"a": 2.0, "b": 1.0, "c": 2.0, "d": 3.0}) == {"a": 2, "b": 1, "c": 2, "d": 4}
