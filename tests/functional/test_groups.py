import pytest
import torch

from gsac.functional.groups import Groups

RAGGED = Groups([2, 1, 3])
EQUAL = Groups([3, 3])


def test_sums_by_hand():
    flat = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    assert RAGGED.sum(flat).tolist() == [[3.0, 3.0, 15.0]]
    assert EQUAL.sum(flat).tolist() == [[6.0, 15.0]]


def test_argmax_takes_the_first_of_equals():
    flat = torch.tensor([[0.0, 0.0, 7.0, 1.0, 5.0, 5.0]])
    assert RAGGED.argmax(flat).tolist() == [[0, 0, 1]]
    assert EQUAL.argmax(flat).tolist() == [[2, 1]]


def test_one_hot_of_classes():
    assert RAGGED.one_hot(torch.tensor([[1, 0, 2]])).tolist() == [[0, 1, 1, 0, 0, 1]]


@pytest.mark.parametrize("sizes", [[2, 1, 3], [3, 3], [4], [5, 2, 2, 7]])
def test_softmax_is_that_of_each_slice(sizes):
    groups, flat = Groups(sizes), torch.randn(2, 5, sum(sizes), dtype=torch.float64)
    slices = flat.split(sizes, -1)
    assert torch.allclose(groups.log_softmax(flat), torch.cat([s.log_softmax(-1) for s in slices], -1), atol=1e-12)
    assert torch.allclose(groups.softmax(flat), torch.cat([s.softmax(-1) for s in slices], -1), atol=1e-12)


@pytest.mark.parametrize("sizes", [[2, 1, 3], [3, 3]])
def test_gradients_match_finite_differences(sizes):
    flat = torch.randn(2, sum(sizes), dtype=torch.float64, requires_grad=True)
    groups = Groups(sizes)
    assert torch.autograd.gradcheck(groups.log_softmax, flat)
    assert torch.autograd.gradcheck(groups.sum, flat)


def test_joint_actions_are_all_of_them_once():
    actions = Groups([2, 3]).joint_actions(torch.device("cpu"))
    assert actions.shape == (6, 5)
    assert len({tuple(row) for row in actions.tolist()}) == 6
    assert Groups([2, 3]).sum(actions).eq(1).all()


def test_too_many_joint_actions_are_refused():
    with pytest.raises(ValueError, match=r"2\^2000 joint actions are too many to enumerate \(2\^12 at most\)"):
        Groups([2] * 2000).joint_actions(torch.device("cpu"))


@pytest.mark.parametrize("sizes", [[], [0], [3, -1]])
def test_wrong_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="each at least 1"):
        Groups(sizes)


def test_ragged_work_grows_with_the_sum_of_the_sizes():
    """One large group among many small ones: padding each group to the largest would need 500 times as much."""
    groups = Groups([4096] + [2] * 1000)
    flat = torch.randn(4, groups.flat_size)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        groups.log_softmax(flat)
        groups.argmax(flat)
    largest = max(event.self_cpu_memory_usage for event in profile.key_averages())
    assert largest < 40 * flat.nelement() * flat.element_size()


def test_neighbours_by_hand():
    one_hot = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 1.0]])
    assert RAGGED.neighbours(one_hot)[:, 0].tolist() == [
        [1, 0, 1, 0, 0, 1],
        [0, 1, 1, 0, 0, 1],
        [0, 1, 1, 0, 0, 1],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 1, 0],
        [0, 1, 1, 0, 0, 1],
    ]


def test_unchosen_columns_by_hand():
    columns, instead_of = RAGGED.unchosen(torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 1.0]]))
    assert columns.tolist() == [[0, 3, 4]]
    assert instead_of.tolist() == [[1, 5, 5]]


@pytest.mark.parametrize("sizes", [[2, 3], [1, 4, 2], [3, 3]], ids=str)
def test_compiled_code_chooses_the_same_classes(sizes):
    groups = Groups(sizes)
    flat = torch.randn(50, 3, sum(sizes)).round()  # many are equal
    flat[0] = -1e8
    torch._dynamo.reset()
    assert torch.compile(groups.argmax, backend="eager", fullgraph=True)(flat).equal(groups.argmax(flat))
