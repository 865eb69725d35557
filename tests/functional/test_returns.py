import pytest
import torch

from gsac.functional.returns import mean_of_others, returns_to_go, unit_scale


def test_returns_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 4.0], [3.0, -2.0, 0.0]])  # the second episode has two steps
    assert returns_to_go(rewards, 0.5).tolist() == [[3.0, 4.0, 4.0], [2.0, -2.0, 0.0]]
    assert returns_to_go(rewards, 1.0).tolist() == [[7.0, 6.0, 4.0], [1.0, -2.0, 0.0]]
    assert returns_to_go(rewards, 0.0).equal(rewards)


def test_the_mean_of_the_others_by_hand():
    returns = torch.tensor([[3.0, 4.0, 4.0], [2.0, -2.0, 0.0], [7.0, 0.0, 0.0]])
    assert mean_of_others(returns).tolist() == [[4.5, -1.0, 0.0], [5.0, 2.0, 2.0], [2.5, 1.0, 2.0]]


def test_the_mean_of_the_others_depends_on_no_return_of_its_own():
    returns = torch.randn(4, 5, requires_grad=True)
    mean_of_others(returns)[1].sum().backward()
    assert returns.grad[1].abs().max() == 0
    assert returns.grad[[0, 2, 3]].min() > 0


def test_scaling_keeps_the_signs_and_the_mean():
    advantage = torch.tensor([1.0, 7.0])
    assert unit_scale(advantage).tolist() == pytest.approx([0.2, 1.4])
    assert unit_scale(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
