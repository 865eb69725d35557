import pytest
import torch

from gsac.functional import losses


def test_td_target_by_hand():
    target = losses.td_target(torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.0]), torch.tensor([10.0, 10.0]))
    assert target.tolist() == [10.0, 1.0]


def test_critic_loss_sums_over_critics_and_averages_over_the_batch():
    values, target = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([0.0, 0.0])
    assert losses.critic_loss(values, target).item() == 0.5 * (1 + 4) / 2


def test_critic_loss_with_weights_by_hand_and_without():
    values, target = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([0.0, 1.0])
    weights = torch.tensor([1.0, 0.5])
    assert losses.critic_loss(values, target, weights).item() == 0.5 * (1 + 0.5 * 1 + 0 + 0.5 * 4) / 2
    values, target = torch.randn(2, 100), torch.randn(100)
    assert losses.critic_loss(values, target).equal(losses.critic_loss(values, target, torch.ones(100)))
    assert losses.critic_loss(values, target).item() == pytest.approx(((values - target) ** 2).mean().item(), rel=1e-5)


def test_actor_loss_divides_by_nothing_but_the_batch():
    value, entropy = torch.tensor([2.0, 4.0]), torch.tensor([1.0, 1.0])
    assert losses.actor_loss(value, entropy, torch.tensor(0.5)).item() == -3.5


@pytest.mark.parametrize(("entropy", "direction"), [(0.2, -1), (0.8, 1)])
def test_coefficient_rises_below_the_target_and_falls_above(entropy, direction):
    log_ent_coef = torch.zeros((), requires_grad=True)
    entropies = torch.tensor([entropy - 0.1, entropy + 0.1])
    (log_ent_coef * (entropies - 0.5)).mean().backward()
    gradient = losses.ent_coef_gradient(entropies, torch.tensor(0.5))
    assert gradient.item() == pytest.approx(log_ent_coef.grad.item()) == pytest.approx(entropy - 0.5)
    assert gradient.sign().item() == direction


def test_aggregations_by_hand():
    values = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
    assert losses.Q_AGGREGATIONS["min"](values).tolist() == [1.0, 2.0]
    assert losses.Q_AGGREGATIONS["mean"](values).tolist() == [2.0, 3.0]


def test_policy_gradient_is_the_advantage_times_the_scores_gradient_and_trains_no_baseline():
    logits, baseline = torch.tensor([0.3, -0.2], requires_grad=True), torch.tensor(1.0, requires_grad=True)
    losses.policy_gradient(torch.tensor(4.0) - baseline, logits.log_softmax(-1)[0]).backward()
    assert torch.allclose(logits.grad, 3.0 * (torch.tensor([1.0, 0.0]) - logits.detach().softmax(-1)))
    assert baseline.grad is None


def test_the_range_of_values_by_hand():
    rewards, discounts = torch.tensor([1.0, -2.0, 20.0, -30.0, 0.0]), torch.tensor([0.9, 0.75, 0.0, 0.0, 0.99])
    least, greatest = losses.value_range(rewards, discounts)
    assert (least.item(), greatest.item()) == (-30.0, 20.0)  # terminated transitions return their reward
    least, greatest = losses.value_range(rewards[:2], discounts[:2])
    assert (least.item(), pytest.approx(greatest.item())) == (-8.0, 10.0)
    _, greatest = losses.value_range(rewards[:2], discounts[:2], torch.tensor(0.5))
    assert greatest.item() == pytest.approx((1 + 0.9 * 0.5) / 0.1)
    below, nothing, above = (losses.value_range(torch.tensor([r]), torch.ones(1)) for r in (-1.0, 0.0, 1.0))
    assert below[0] < -1e37
    assert (nothing[0].item(), nothing[1].item()) == (0.0, 0.0)
    assert above[1] > 1e37


def test_no_order_of_the_transitions_is_worth_more_than_the_range_and_the_best_is_worth_as_much():
    rewards, discounts = torch.randn(30, dtype=torch.float64), 0.97 * torch.rand(30, dtype=torch.float64)
    least, greatest = losses.value_range(rewards, discounts)
    best = worst = torch.zeros((), dtype=torch.float64)
    for _ in range(2000):  # value iteration where every state offers every transition
        best, worst = (rewards + discounts * best).max(), (rewards + discounts * worst).min()
    assert (best.item(), worst.item()) == pytest.approx((greatest.item(), least.item()))


def test_the_range_of_n_step_returns_lies_within_that_of_single_rewards():
    rewards = torch.randn(100)
    one = losses.value_range(rewards, torch.full((100,), 0.9))
    three = losses.value_range(rewards[:-2] + 0.9 * rewards[1:-1] + 0.81 * rewards[2:], torch.full((98,), 0.9**3))
    assert one[0] < three[0] < 0 < three[1] < one[1]
    constant = losses.value_range(torch.full((5,), 1 + 0.9 + 0.81), torch.full((5,), 0.9**3))
    assert [bound.item() for bound in constant] == pytest.approx([10.0, 10.0], rel=1e-5)
