"""The benchmark of the estimators measures what it says, and its results say what the README says."""

import estimator_cost
import estimator_quality
import pytest
import torch

from gsac.functional.groups import Groups


@pytest.fixture(scope="module")
def problem():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimator_quality, "SAMPLES", 4000)
        return estimator_quality.measure("quadratic", 3, 2, draw=100)


def test_biased_and_unbiased_estimators_are_told_apart(problem):
    found = {name: quality for name, (quality,) in estimator_quality.by_estimator([problem]).items()}
    assert found["expected"].relative_bias < 1e-6
    for name in ("local_expectation", "reinforce", "reinforce:baseline=exact", "rloo", "reinmax"):
        assert found[name].relative_bias < 0.15 * max(found[name].relative_std, 0.1)
    assert found["gumbel_softmax(2)"].relative_bias > 0.2
    assert found["gumbel_softmax(2)"].relative_bias > found["gumbel_softmax(0.25)"].relative_bias
    assert found["gumbel_softmax(2)"].relative_std < found["gumbel_softmax(0.25)"].relative_std
    assert found["rloo:samples=16"].relative_std < 0.5 * found["rloo"].relative_std


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
    found = estimator_cost.cheapest({"much": lambda: torch.randn(500, 500) @ torch.randn(500, 500), "none": lambda: 0})
    assert found["much"] > 10 * found["none"]
