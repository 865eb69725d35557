"""The benchmark of the estimators measures what it says, and its results say what the README says."""

import costs
import estimator_quality
import pytest
import torch

from gsac.functional.groups import Groups


@pytest.fixture(scope="module")
def problem():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimator_quality, "SAMPLES", 4000)
        job = estimator_quality.Job("quadratic", 3, 2, draw=100)
        return job.described() | job.run()


def test_biased_and_unbiased_estimators_are_told_apart(problem):
    found = estimator_quality.qualities([problem]).set_index("label")
    bias, std = found.relative_bias, found.relative_std
    assert bias["expected"] < 1e-6
    for name in ("local_expectation", "reinforce", "reinforce:baseline=exact", "rloo", "reinmax"):
        assert bias[name] < 0.15 * max(std[name], 0.1)
    assert bias["gumbel_softmax(2)"] > 0.2
    assert bias["gumbel_softmax(2)"] > bias["gumbel_softmax(0.25)"]
    assert std["gumbel_softmax(2)"] < std["gumbel_softmax(0.25)"]
    assert std["rloo:samples=16"] < 0.5 * std["rloo"]


def paired(kind, name, other):
    """The mean difference of a batch's error on the same problems, in its standard errors."""
    errors = estimator_quality.chosen(kind).pivot(index="draw", columns="label", values="rmse_256")
    differences = errors[name] - errors[other]
    assert len(differences) == 10
    return differences.mean() / differences.sem()


def test_the_results_say_what_the_document_reads_off_them():
    assert paired("mlp", "reinmax", "straight_through") < -2
    assert abs(paired("mlp", "gumbel_rao(0.25)", "straight_through")) < 2
    for name in ("reinmax", "gumbel_softmax(0.5)"):
        assert abs(paired("mlp_layer_norm", name, "straight_through")) < 2
    assert paired("mlp_layer_norm", "mixed", "straight_through") < -2
    for kind, most in (("mlp", 0.0135), ("mlp_layer_norm", 0.0305)):
        bias = estimator_quality.chosen(kind).groupby("label").relative_bias.mean()
        for name in ("local_expectation", "reinforce", "reinforce:baseline=exact", "rloo", "rloo:samples=16"):
            assert bias[name] < most


def test_where_gumbel_softmax_has_less_variance_than_reinforce_and_where_not():
    def wins(classes, n_groups, temperature, rival):
        found = estimator_quality.chosen("mlp", classes, n_groups)
        std = found.pivot(index="draw", columns="label", values="relative_std")
        return int((std[f"gumbel_softmax({temperature:g})"] < std[rival]).sum())

    for classes, n_groups in estimator_quality.GROUPINGS:
        few = n_groups < 5
        assert all(wins(classes, n_groups, t, "reinforce") == 10 for t in (2.0, 1.0, 0.5))
        assert (wins(classes, n_groups, 0.25, "reinforce") >= 9) is ((classes, n_groups) != (2, 1))
        assert wins(classes, n_groups, 0.125, "reinforce") == (0 if few else 10)
        assert n_groups > 1 or wins(classes, n_groups, 0.25, "reinforce:baseline=exact") <= 2
        assert wins(classes, n_groups, 0.25, "rloo") <= 1
        assert not few or wins(classes, n_groups, 0.5, "rloo") <= 1


def test_the_drawn_values_are_a_sum_over_groups_and_pairs_with_mean_0_and_variance_1():
    groups = Groups([3, 2, 2])
    values = estimator_quality.draw_values(groups)
    assert values.mean().item() == pytest.approx(0, abs=1e-6)
    assert values.std().item() == pytest.approx(1)
    actions = groups.joint_actions(torch.device("cpu"))
    pairs = torch.einsum("na,nb->nab", actions, actions).flatten(1)
    explained = pairs @ torch.linalg.lstsq(pairs, values[:, None], driver="gelsd").solution
    assert torch.allclose(explained[:, 0], values, atol=1e-4)


def test_the_fitted_critics_have_the_drawn_values_at_the_one_hots():
    groups = Groups([3, 2])
    torch.manual_seed(3)
    value, error = estimator_quality.fit(groups, layer_norm=True)
    torch.manual_seed(3)
    target = estimator_quality.draw_values(groups)
    assert error < 0.03
    assert (value(6)(groups.joint_actions(torch.device("cpu"))) - target).square().mean().sqrt() < 0.03


def test_the_cost_of_a_task_is_measured():
    found = costs.cheapest({"much": lambda: torch.randn(500, 500) @ torch.randn(500, 500), "none": lambda: 0})
    assert found["much"] > 10 * found["none"]
