import math

import numpy as np
import pytest
import torch
import torch._functorch.config
from gymnasium import spaces

from gsac import ESTIMATORS, CnnPolicy, MlpPolicy, MultiInputPolicy
from gsac.learning.coefficient import LOG_ENT_COEF_RANGE, EntropyCoefficient
from gsac.learning.device_reads import DeviceReads
from gsac.learning.learner import Learner, Objective
from gsac.optim.descent import descend
from gsac.replay.batch import Batch

OBSERVATIONS = spaces.Box(-1, 1, (4,), np.float32)
DISCOUNT = 0.9
SMALL = {"net_arch": [8]}


def make_learner(
    action_space=spaces.MultiDiscrete([2, 3]),
    lr=1e-2,
    ent_coef=0.3,
    learned=True,
    policy_kwargs=None,
    kind=MlpPolicy,
    observations=OBSERVATIONS,
    **kwargs,
):
    policy = kind(observations, action_space, lambda _: lr, **(policy_kwargs or {}))
    coefficient = EntropyCoefficient(ent_coef, learned, lr, torch.device("cpu"))
    settings = {"estimator": ESTIMATORS["straight_through"], "target": "soft", "bound_targets": True}
    learner = Learner(policy, coefficient, Objective(**(settings | kwargs)))
    learner.tau.fill_(0.05)
    coefficient.target_fraction.fill_(0.3)
    policy.set_training_mode(True)
    return policy, learner


def make_batch(policy, n=16):
    d = policy.actor.codec.groups.flat_size
    return Batch(
        observations=torch.randn(n, 4),
        actions=policy.actor.codec.groups.one_hot(policy.actor.codec.groups.argmax(torch.randn(n, d))),
        rewards=torch.randn(n),
        discounts=torch.where(torch.rand(n) < 0.2, 0.0, DISCOUNT),
        next_observations=torch.randn(n, 4),
    )


def snapshot(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def moved(module, before):
    return [not parameter.equal(old) for parameter, old in zip(module.parameters(), before, strict=True)]


@pytest.mark.parametrize("target", ["soft", "mean"])
@pytest.mark.parametrize("aggregation", ["min", "mean"])
@pytest.mark.parametrize("head", ["linear", "action_in"])
def test_the_critics_loss_by_enumeration(target, aggregation, head):
    policy, learner = make_learner(target=target, q_aggregation=aggregation, policy_kwargs={"critic_head": head})
    for parameter in policy.critic_target.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    batch = make_batch(policy)
    loss = learner.critic_loss(batch, torch.tensor(0.3)).loss

    logits = policy.actor.distribution(batch.next_observations).logits.detach()
    p, q = logits[:, :2].softmax(-1), logits[:, 2:].softmax(-1)
    value = torch.zeros(16)
    for i in range(2):
        for j in range(3):
            action = torch.cat([torch.eye(2)[i], torch.eye(3)[j]]).expand(16, -1)
            values = torch.cat(policy.critic_target(batch.next_observations, action), 1)
            value += p[:, i] * q[:, j] * (values.min(1).values if aggregation == "min" else values.mean(1))
    if target == "soft":
        value -= 0.3 * ((p * p.log()).sum(1) + (q * q.log()).sum(1))
    target = batch.rewards + batch.discounts * value
    current = torch.cat(policy.critic(batch.observations, batch.actions), 1)
    assert loss.item() == pytest.approx(0.5 * (current - target[:, None]).square().mean(0).sum().item(), rel=1e-4)


@pytest.mark.parametrize("aggregation", ["min", "mean"])
@pytest.mark.parametrize("head", ["linear", "action_in"])
def test_a_deterministic_target_asks_for_the_most_probable_allowed_action(aggregation, head):
    policy, learner = make_learner(
        target="mode",
        q_aggregation=aggregation,
        policy_kwargs={"critic_head": head},
    )
    for parameter in policy.critic_target.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    allowed = torch.rand(16, 5) < 0.7
    allowed[:, [0, 4]] = True
    batch = make_batch(policy)._replace(masks=torch.ones(16, 5, dtype=torch.bool), next_masks=allowed)
    loss = learner.critic_loss(batch, torch.tensor(0.3)).loss

    logits = policy.actor.distribution(batch.next_observations).logits.detach()
    values = []
    for row, free, observation in zip(logits.tolist(), allowed.tolist(), batch.next_observations, strict=True):
        first = max((i for i in (0, 1) if free[i]), key=row.__getitem__)
        second = max((i for i in (2, 3, 4) if free[i]), key=row.__getitem__)
        action = torch.zeros(1, 5)
        action[0, [first, second]] = 1.0
        values.append(torch.cat(policy.critic_target(observation[None], action), 1)[0])
    values = torch.stack(values)
    value = values.min(1).values if aggregation == "min" else values.mean(1)
    target = batch.rewards + batch.discounts * value
    current = torch.cat(policy.critic(batch.observations, batch.actions), 1)
    assert loss.item() == pytest.approx(0.5 * (current - target[:, None]).square().mean(0).sum().item(), rel=1e-4)


def test_the_errors_and_the_weighted_loss_by_enumeration():
    policy, learner = make_learner(spaces.Discrete(3), target="mean")
    batch = make_batch(policy)._replace(weights=torch.rand(16))
    loss, absolute = (getattr(learner.critic_loss(batch, torch.tensor(0.3)), name) for name in ("loss", "td_errors"))
    probs = policy.actor.distribution(batch.next_observations).logits.detach().softmax(-1)
    value = sum(
        probs[:, i] * torch.cat(policy.critic_target(batch.next_observations, action.expand(16, -1)), 1).min(1).values
        for i, action in enumerate(torch.eye(3))
    )
    errors = torch.cat(policy.critic(batch.observations, batch.actions), 1) - (
        batch.rewards + batch.discounts * value
    ).unsqueeze(1)
    assert torch.allclose(absolute, errors.abs().mean(1), atol=1e-5)
    assert not absolute.requires_grad
    expected = 0.5 * (batch.weights * errors.square().sum(1)).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_sample_weights_of_one_change_no_bit():
    ends = []
    for weights in (None, torch.ones(16)):
        torch.manual_seed(0)
        policy, learner = make_learner()
        for _ in range(3):
            update = learner.step(make_batch(policy)._replace(weights=weights))
        assert (update.td_errors is None) == (weights is None)
        ends.append(snapshot(policy))
    assert all(a.equal(b) for a, b in zip(*ends, strict=True))


def test_large_spaces_are_sampled_and_right_on_average():
    policy, learner = make_learner(spaces.MultiBinary(10))
    assert policy.actor.codec.groups.n_joint > policy.critic.q_net.max_enumerated
    with torch.no_grad():
        next_policy = policy.actor.distribution(torch.randn(1, 4).expand(20_000, -1))
        values = policy.critic_target.action_values(torch.zeros(20_000, 4))
        sampled = learner._next_value(next_policy, values)
        actions = next_policy.groups.joint_actions(torch.device("cpu"))
        probs = (actions @ next_policy.log_probs[0]).exp()
        exact = (probs * torch.cat(policy.critic_target(torch.zeros(len(actions), 4), actions), 1).min(1).values).sum()
    assert abs(sampled.mean() - exact) < 4 * sampled.std() / math.sqrt(20_000)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_step_moves_every_network_and_leaves_no_gradient_of_the_actors_loss_on_the_critics(estimator):
    policy, learner = make_learner(estimator=ESTIMATORS[estimator])
    parts = (policy.actor, policy.critic, policy.critic_target)
    before = [snapshot(part) for part in parts]
    batch = make_batch(policy)
    learner.step(batch)
    assert all(all(moved(part, old)) for part, old in zip(parts, before, strict=True))
    policy.critic.optimizer.zero_grad()
    loss = learner.actor_loss(batch, policy.critic.action_values(batch.observations).frozen(), torch.tensor(0.3)).loss
    descend(policy.actor.optimizer, loss, learner._actor_parameters)
    assert all(parameter.grad is None for parameter in policy.critic.parameters())


def test_with_a_single_choice_the_default_gradient_of_the_actor_is_the_exact_one():
    gradients = []
    for estimator in ("straight_through", "straight_through", "expected"):
        torch.manual_seed(0)
        policy, learner = make_learner(spaces.Discrete(5), estimator=ESTIMATORS[estimator])
        batch = make_batch(policy, n=200)
        torch.manual_seed(len(gradients))  # other samples each time
        values = policy.critic.action_values(batch.observations).frozen()
        loss = learner.actor_loss(batch, values, learner.coefficient.value).loss
        gradients.append(torch.autograd.grad(loss, policy.actor.logits[0].weight)[0])
    assert torch.allclose(gradients[0], gradients[2], atol=1e-6)
    assert torch.allclose(gradients[1], gradients[2], atol=1e-6)


def test_with_a_learning_rate_of_zero_only_the_targets_move():
    policy, learner = make_learner(lr=0.0)
    for parameter in policy.critic.parameters():
        parameter.data += 1.0
    before = snapshot(policy.actor), snapshot(policy.critic), snapshot(policy.critic_target)
    learner.step(make_batch(policy))
    assert not any(moved(policy.actor, before[0]) + moved(policy.critic, before[1]))
    assert all(moved(policy.critic_target, before[2]))
    assert learner.coefficient.value.item() == pytest.approx(0.3)


def test_polyak_by_hand_and_off():
    policy, learner = make_learner(lr=0.0)
    for parameter in policy.critic.parameters():
        parameter.data += 1.0
    old = snapshot(policy.critic_target)
    learner.step(make_batch(policy), track_targets=False)
    assert not any(moved(policy.critic_target, old))
    learner.step(make_batch(policy))
    for now, then in zip(policy.critic_target.parameters(), old, strict=True):
        assert torch.allclose(now, then + 0.05, atol=1e-6)
    learner.tau.fill_(0.0)
    old = snapshot(policy.critic_target)
    learner.step(make_batch(policy))
    assert not any(moved(policy.critic_target, old))


def test_the_coefficient_follows_the_entropy_and_stays_in_its_range():
    for target, end in ((1.79, LOG_ENT_COEF_RANGE[1]), (0.001, LOG_ENT_COEF_RANGE[0])):
        _, learner = make_learner(spaces.MultiDiscrete([2, 3]), lr=1.0)
        for _ in range(30):
            learner.coefficient.tune(torch.tensor([1.0]), torch.tensor(target))
        assert learner.coefficient.log_value.item() == pytest.approx(end)


def with_critics_of(value, policy):
    """The target's values of everything are all this."""
    for parameter in policy.critic_target.q_net.parameters():
        parameter.data.zero_()
    policy.critic_target.q_net.out.bias.data.fill_(value)


@pytest.mark.parametrize("target", ["soft", "mean"])
def test_next_values_are_clamped_to_the_range_of_returns(target):
    space = spaces.Discrete(3)
    policy, learner = make_learner(space, target=target, learned=False, ent_coef=0.5)
    batch = make_batch(policy)._replace(rewards=torch.full((16,), 2.0), discounts=torch.full((16,), 0.9))
    batch.rewards[0], batch.discounts[0] = -3.0, 0.0
    bonus = 0.5 * math.log(3) if target == "soft" else 0.0
    greatest = (2 + 0.9 * bonus) / 0.1
    entropy = 0.5 * policy.actor.distribution(batch.next_observations).entropy().detach()
    for value, bounded in ((100.0, greatest), (-100.0, -3.0), (15.0, 15.0)):
        with_critics_of(value, policy)
        loss, _, _, clamp_fraction, _ = learner.critic_loss(batch, learner.coefficient.value)
        next_value = bounded + (entropy if target == "soft" else 0.0)
        td_target = batch.rewards + batch.discounts * next_value
        current = torch.cat(policy.critic(batch.observations, batch.actions), 1)
        expected = 0.5 * (current - td_target[:, None]).square().mean(0).sum()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        assert clamp_fraction.item() == (value != bounded)
    assert [bound.item() for bound in learner.value_range] == pytest.approx([-3.0, greatest], rel=1e-5)


def test_the_range_of_values_only_widens_and_starts_at_zero():
    policy, learner = make_learner(target="mean")
    batch = make_batch(policy)._replace(discounts=torch.full((16,), 0.5))
    seen = []
    for reward in (1.0, 0.5, 3.0, -1.0, 0.0):
        learner.step(batch._replace(rewards=torch.full((16,), reward)))
        seen.append([policy.lowest_value.item(), policy.highest_value.item()])
    assert seen == [[0, 2], [0, 2], [0, 6], [-2, 6], [-2, 6]]


def test_without_bounds_next_values_are_not_clamped():
    policy, learner = make_learner(spaces.Discrete(3), target="mean", bound_targets=False)
    with_critics_of(100.0, policy)
    batch = make_batch(policy)._replace(rewards=torch.zeros(16), discounts=torch.ones(16))
    loss = learner.critic_loss(batch, learner.coefficient.value).loss
    current = torch.cat(policy.critic(batch.observations, batch.actions), 1)
    assert loss.item() == pytest.approx(0.5 * (current - 100).square().mean(0).sum().item(), rel=1e-4)
    assert policy.lowest_value == policy.highest_value == 0


@pytest.mark.parametrize("bound_targets", [True, False])
def test_bounded_targets_keep_diverging_critics_within_the_range_of_returns(bound_targets):
    """Tsitsiklis & Van Roy 1996: a state whose features are twice another's, and which is never learned about."""
    _, learner = make_learner(
        spaces.Discrete(2),
        lr=0.05,
        policy_kwargs={"net_arch": [], "critic_layer_norm": False},
        target="mean",
        bound_targets=bound_targets,
    )
    learner.tau.fill_(1.0)
    observations = torch.tensor([[1.0, 0, 0, 0]]).expand(32, -1)
    batch = Batch(
        observations=observations,
        actions=torch.eye(2).repeat(16, 1),
        rewards=torch.ones(32),
        discounts=torch.full((32,), 0.9),
        next_observations=2 * observations,
    )
    for _ in range(2000):
        q_value = learner.step(batch).metrics.q_value.item()
    if bound_targets:
        assert q_value == pytest.approx(10.0, rel=0.01)
    else:
        assert q_value > 50


def test_a_fixed_coefficient_stays():
    policy, learner = make_learner(learned=False, ent_coef=0.0)
    metrics = learner.step(make_batch(policy)).metrics
    assert metrics.ent_coef.item() == 0.0
    assert learner.coefficient.value.item() == 0.0


def test_gradients_are_clipped():
    policy, learner = make_learner(max_grad_norm=1e-3)
    learner.step(make_batch(policy))
    for parameters in (learner._actor_parameters, learner._critic_parameters):
        norm = torch.stack([parameter.grad.norm() for parameter in parameters]).norm().item()
        assert norm <= 1e-3 * 1.01


def test_frozen_parameters_stay():
    policy, learner = make_learner()
    frozen = policy.actor.logits[0].weight.requires_grad_(False)
    before = frozen.clone()
    learner.step(make_batch(policy))
    assert frozen.equal(before)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(8)], ids=str)
def test_a_step_reads_nothing_from_the_device(estimator, space):
    policy, learner = make_learner(space, estimator=ESTIMATORS[estimator])
    batch = make_batch(policy)
    learner.step(batch)
    weights = torch.ones(16)
    with DeviceReads() as reads:
        learner.step(batch)
        learner.step(batch._replace(weights=weights))
    assert reads.found == []


@pytest.mark.parametrize("head", ["linear", "action_in"])
@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3])], ids=str)
def test_the_first_step_of_adam_goes_against_each_weights_own_gradient(space, head):
    """The fused kernel takes gradients for laid out in memory as the weights are."""
    policy, learner = make_learner(space, lr=0.01, policy_kwargs={"critic_head": head})
    parameters = [*policy.actor.parameters(), *policy.critic.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    learner.step(make_batch(policy))
    for parameter, then in zip(parameters, before, strict=True):
        clear = parameter.grad.abs() > 1e-5
        assert torch.allclose((parameter - then)[clear], -0.01 * parameter.grad.sign()[clear], atol=1e-4)


def a_batch_with(extras, policy):
    """Of one kind after the other."""
    batch = make_batch(policy)
    groups = policy.actor.codec.groups
    masks = (
        groups.one_hot(groups.argmax(torch.randn(16, groups.flat_size))) + torch.randint(2, (16, groups.flat_size)) > 0
    )
    settings = {
        "masks": {"masks": masks, "next_masks": masks.flip(0)},
        "weights": {"weights": torch.rand(16)},
    }
    return batch._replace(**settings[extras])


@pytest.mark.parametrize("head", ["linear", "action_in"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("space", "extras"),
    [
        (spaces.Discrete(3, start=1), "weights"),
        (spaces.MultiDiscrete([2, 3]), "masks"),
    ],
    ids=["equal groups and weights", "unequal groups and masks"],
)
def test_both_losses_compile_as_a_whole_to_the_same_numbers(space, extras, estimator, head):
    policy, learner = make_learner(space, estimator=ESTIMATORS[estimator], policy_kwargs=SMALL | {"critic_head": head})
    assert_compiles(learner, a_batch_with(extras, policy))


def assert_compiles(learner, batch):
    def losses():
        torch.manual_seed(1)
        critic_loss, values, *_ = learner.critic_loss(batch, learner.coefficient.value)
        actor_loss, *_ = learner.actor_loss(batch, values, learner.coefficient.value)
        gradients = torch.autograd.grad(critic_loss, learner._critic_parameters)
        return [critic_loss, actor_loss, *gradients, *torch.autograd.grad(actor_loss, learner._actor_parameters)]

    eager = losses()
    with torch._functorch.config.patch(cse=False):
        learner.compile("aot_eager")
        compiled = losses()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(eager, compiled, strict=True))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["dictionary", "images", "small images"])
def test_the_losses_of_other_observations_compile_as_well(kind, shared):
    image = spaces.Box(0, 255, (4, 10, 10) if kind == "small images" else (1, 36, 36), np.uint8)
    space = spaces.Dict({"a": OBSERVATIONS, "b": image, "c": spaces.Discrete(3)}) if kind == "dictionary" else image
    policy, learner = make_learner(
        kind=MultiInputPolicy if kind == "dictionary" else CnnPolicy,
        observations=space,
        policy_kwargs=SMALL | {"share_features_extractor": shared},
    )
    drawn = [[space.sample() for _ in range(16)] for _ in range(2)]
    now, after = (
        {key: torch.as_tensor(np.stack([each[key] for each in one])) for key in space}
        if kind == "dictionary"
        else torch.as_tensor(np.stack(one))
        for one in drawn
    )
    batch = make_batch(policy)._replace(observations=now, next_observations=after)
    assert_compiles(learner, batch)


def test_any_number_of_learners_can_be_compiled():
    for size in range(2, 12):
        policy, learner = make_learner(spaces.Discrete(size), policy_kwargs=SMALL)
        learner.compile("aot_eager")
        with torch.no_grad():
            learner.critic_loss(make_batch(policy), learner.coefficient.value)


@pytest.mark.parametrize("head", ["linear", "action_in"])
def test_the_actor_follows_the_critics_as_they_were_before_their_step(head):
    """However far the critics move, the actor's step is the one that it makes beside critics that stand still."""
    ends = []
    for critics_move in (True, False):
        torch.manual_seed(0)
        policy, learner = make_learner(policy_kwargs={"critic_head": head})
        policy.critic.optimizer.param_groups[0]["lr"] = 1.0 if critics_move else 0.0
        torch.manual_seed(1)
        learner.step(make_batch(policy))
        ends.append(snapshot(policy.actor))
    assert all(a.equal(b) for a, b in zip(*ends, strict=True))
