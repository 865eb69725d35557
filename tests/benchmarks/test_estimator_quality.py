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
    found = {name: quality for name, (quality,) in estimator_quality.by_estimator([problem]).items()}
    assert found["expected"].relative_bias < 1e-6
    for name in ("local_expectation", "reinforce", "reinforce:baseline=exact", "rloo", "reinmax"):
        assert found[name].relative_bias < 0.15 * max(found[name].relative_std, 0.1)
    assert found["gumbel_softmax(2)"].relative_bias > 0.2
    assert found["gumbel_softmax(2)"].relative_bias > found["gumbel_softmax(0.25)"].relative_bias
    assert found["gumbel_softmax(2)"].relative_std < found["gumbel_softmax(0.25)"].relative_std
    assert found["rloo:samples=16"].relative_std < 0.5 * found["rloo"].relative_std


def paired(kind, name, other, of):
    """The mean difference on the same problems, in its standard errors."""
    found = estimator_quality.chosen(kind, 4, 5)
    differences = [of(a) - of(b) for a, b in zip(found[name], found[other], strict=True)]
    mean, error = estimator_quality.mean_and_error(differences)
    return mean / error


def test_the_results_say_what_the_document_reads_off_them():
    def rmse(quality):
        return quality.rmse(256)

    assert paired("mlp", "reinmax", "straight_through", rmse) < -2
    assert abs(paired("mlp", "gumbel_rao(0.25)", "straight_through", rmse)) < 2
    for name in ("reinmax", "gumbel_softmax(0.5)"):
        assert abs(paired("mlp_layer_norm", name, "straight_through", rmse)) < 2
    assert paired("mlp_layer_norm", "mixed", "straight_through", rmse) < -2
    for kind, most in (("mlp", 0.0135), ("mlp_layer_norm", 0.0305)):
        found = estimator_quality.chosen(kind, 4, 5)
        for name in ("local_expectation", "reinforce", "reinforce:baseline=exact", "rloo", "rloo:samples=16"):
            assert estimator_quality.mean_and_error([q.relative_bias for q in found[name]])[0] < most


def test_where_gumbel_softmax_has_less_variance_than_reinforce_and_where_not():
    def wins(classes, n_groups, temperature, rival):
        found = estimator_quality.chosen("mlp", classes, n_groups)
        pairs = zip(found[f"gumbel_softmax({temperature:g})"], found[rival], strict=True)
        return sum(ours.relative_std < theirs.relative_std for ours, theirs in pairs)

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
