import math

import pytest
import torch

from gsac import FactorisedCategorical

SIZES = [2, 1, 4]


def test_entropy_and_log_prob_by_hand():
    logits = torch.log(torch.tensor([[0.25, 0.75, 1.0, 0.1, 0.2, 0.3, 0.4]]))
    policy = FactorisedCategorical(logits, SIZES)
    expected = -sum(p * math.log(p) for p in (0.25, 0.75, 0.1, 0.2, 0.3, 0.4))
    assert policy.entropy().item() == pytest.approx(expected, rel=1e-5)
    action = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]])
    assert policy.log_prob(action).item() == pytest.approx(math.log(0.75 * 0.3), rel=1e-5)


def test_agrees_with_independent_categoricals():
    logits = torch.randn(6, sum(SIZES))
    policy = FactorisedCategorical(logits, SIZES)
    others = [torch.distributions.Categorical(logits=part) for part in logits.split(SIZES, -1)]
    assert torch.allclose(policy.entropy(), sum(other.entropy() for other in others), atol=1e-6)


@pytest.mark.parametrize("sizes", [[5], [2, 3], [3, 3]])
def test_sample_frequencies_pass_a_chi_square_test(sizes):
    n, d = 50_000, sum(sizes)
    policy = FactorisedCategorical(torch.randn(d).expand(n, d), sizes)
    counts = policy.sample().sum(0)
    expected = n * policy.probs[0]
    chi_square = ((counts - expected).square() / expected).sum().item()
    freedom = d - len(sizes)
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_samples_are_one_hots_and_independent_across_groups():
    policy = FactorisedCategorical(torch.zeros(40_000, 4), [2, 2])
    sample = policy.sample()
    assert policy.groups.sum(sample).eq(1).all()
    both = (sample[:, 0] * sample[:, 2]).mean().item()
    assert abs(both - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 40_000)


def test_mode_is_the_most_probable():
    logits = torch.tensor([[0.1, 0.2, 5.0, 1.0, 0.0, 3.0, 3.0]])
    assert FactorisedCategorical(logits, SIZES).mode().tolist() == [[0, 1, 1, 0, 0, 1, 0]]


def test_binary_groups_are_groups_of_two():
    """Many binary entries, laid out as one reshape or by index, give the same policy."""
    logits = torch.randn(3, 8)
    equal, ragged = (
        FactorisedCategorical(logits, [2] * 4),
        FactorisedCategorical(torch.cat([logits, logits[:, :1]], 1), [2] * 4 + [1]),
    )
    assert torch.allclose(equal.entropy(), ragged.entropy(), atol=1e-6)
    assert torch.allclose(equal.probs, ragged.probs[:, :8], atol=1e-6)
    assert equal.mode().equal(ragged.mode()[:, :8])


def test_masked_classes_are_never_sampled_and_get_no_gradient():
    mask = torch.tensor([True, False, True, True, False, False, True])
    logits = torch.full((20_000, 7), 1.0)
    logits[:, ~mask] = 50.0
    logits.requires_grad_()
    policy = FactorisedCategorical(logits, SIZES, mask)
    assert policy.sample()[:, ~mask].sum() == 0
    assert policy.probs[:, ~mask].eq(0).all()
    assert policy.entropy()[0].item() == pytest.approx(math.log(2), rel=1e-5)  # groups with 1, 1 and 2 classes left
    (policy.entropy() + policy.log_prob(policy.mode())).sum().backward()
    assert logits.grad[:, ~mask].eq(0).all()


@pytest.mark.parametrize("sizes", [[4], [3, 1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_give_no_nan(sizes, dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0, 1e4]], dtype=dtype, requires_grad=True)
    policy = FactorisedCategorical(logits, sizes)
    (policy.entropy() + policy.log_prob(policy.sample())).sum().backward()
    assert logits.grad.isfinite().all()
    assert policy.log_probs.isfinite().all()


def test_joint_probabilities_sum_to_one_and_match_log_prob():
    policy = FactorisedCategorical(torch.randn(3, 5), [2, 3])
    actions, probs = policy.joint()
    assert actions.shape == (6, 3, 5)
    assert torch.allclose(probs.sum(0), torch.ones(3))
    assert torch.allclose(probs.log(), policy.log_prob(actions), atol=1e-5)


def test_errors_of_wrong_shapes_name_the_right_ones():
    with pytest.raises(ValueError, match=r"sizes=\[2, 3\].*5"):
        FactorisedCategorical(torch.zeros(1, 4), [2, 3])
    with pytest.raises(ValueError, match="5 columns"):
        FactorisedCategorical(torch.zeros(1, 5), [2, 3], mask=torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"torch\.float32"):
        FactorisedCategorical(torch.zeros(1, 5), [2, 3], mask=torch.ones(1, 5))


def test_cached_probabilities_have_a_gradient_if_first_computed_without():
    logits = torch.randn(2, 4, requires_grad=True)
    policy = FactorisedCategorical(logits, [4])
    with torch.no_grad():
        assert not policy.entropy().requires_grad
    policy.entropy().sum().backward()
    assert logits.grad.ne(0).all()
