import math

import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from gsac.estimators.base import neighbours
from gsac.functional.categorical import FactorisedCategorical
from gsac.functional.groups import Groups
from gsac.functional.losses import lowest
from gsac.networks import heads
from gsac.networks.critic import Critic
from gsac.networks.ensemble import EnsembleLinear
from gsac.networks.heads import HEADS, ActionInHead, AggregatedValues, LinearHead

GROUPS = Groups([2, 3])
OBSERVATIONS = spaces.Box(-1, 1, (4,))


def make_head(head, n_critics=3, net_arch=(8, 6), layer_norm=True):
    net = HEADS[head](4, GROUPS, list(net_arch), nn.ReLU, n_critics, layer_norm)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


def make_critic(**kwargs):
    return Critic(OBSERVATIONS, spaces.MultiDiscrete([2, 3]), [8, 6], FlattenExtractor(OBSERVATIONS), 4, **kwargs)


def member_by_hand(net, c, features, action):
    """One critic of the ensemble, computed with PyTorch's own layers."""
    x = F.linear(features, net.features_in.weight[c].T, net.features_in.bias[c, 0])
    if isinstance(net, ActionInHead):
        x = x + F.linear(action, net.action_in.weight[c].T)
    for layer in net.hidden:
        if isinstance(layer, EnsembleLinear):
            x = F.linear(x, layer.weight[c].T, layer.bias[c, 0])
        elif isinstance(layer, nn.ReLU):
            x = x.relu()
        else:
            x = F.layer_norm(x, x.shape[-1:], layer.weight[c, 0], layer.bias[c, 0])
    x = F.linear(x, net.out.weight[c].T, net.out.bias[c, 0])
    return (x * action).sum(-1) if isinstance(net, LinearHead) else x.squeeze(-1)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layer_norm", [True, False])
def test_the_batched_critics_are_separate_networks(head, layer_norm):
    net, features = make_head(head, layer_norm=layer_norm), torch.randn(5, 4)
    action = GROUPS.one_hot(torch.randint(0, 2, (5, 2)))
    by_hand = torch.stack([member_by_hand(net, c, features, action) for c in range(3)])
    assert torch.allclose(net(features)(action), by_hand, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("net_arch", [(8, 6), (8,), ()])
def test_many_actions_at_once_are_the_same_actions_one_by_one(head, net_arch):
    values = make_head(head, net_arch=net_arch)(torch.randn(5, 4))
    actions = torch.rand(7, 2, 5, GROUPS.flat_size)
    at_once = values(actions)
    assert at_once.shape == (3, 7, 2, 5)
    one_by_one = torch.stack([torch.stack([values(a) for a in pair], 1) for pair in actions], 1)
    assert torch.allclose(at_once, one_by_one, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("net_arch", [(8, 6), ()])
@pytest.mark.parametrize("sizes", [[2, 3], [3, 3], [4]])
@pytest.mark.parametrize("at_once", [1, 2**22])
def test_neighbours_have_the_values_of_separate_evaluations(head, net_arch, sizes, at_once, monkeypatch):
    monkeypatch.setattr(heads, "MAX_ACTIVATIONS", at_once)
    groups = Groups(sizes)
    values = HEADS[head](4, groups, list(net_arch), nn.ReLU, 3, True)(torch.randn(5, 4))
    for batch in ((5,), (7, 2, 5)):
        action = FactorisedCategorical(torch.randn(*batch, groups.flat_size), groups).sample()
        q = AggregatedValues(values, lowest)
        short = neighbours(q, action, groups)
        long = neighbours(lambda actions, q=q: q(actions), action, groups)
        assert short.shape == (*batch, groups.flat_size)
        assert torch.allclose(short, long, atol=1e-4)


def test_the_linear_head_is_linear_in_the_action_and_the_other_is_not():
    features, a, b = torch.randn(5, 4), torch.rand(5, 5), torch.rand(5, 5)
    for head, is_linear in (("linear", True), ("action_in", False)):
        values = make_head(head)(features)
        assert torch.allclose(values((a + b) / 2), (values(a) + values(b)) / 2, atol=1e-4) is is_linear


def test_layers_start_as_those_of_pytorch():
    net = HEADS["action_in"](30, GROUPS, [200, 50], nn.ReLU, 2, True)
    for weight, fan_in in ((net.features_in.weight, 35), (net.action_in.weight, 35), (net.hidden[2].weight, 200)):
        bound = 1 / math.sqrt(fan_in)
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_layer_norm_is_a_switch():
    with_norm, without = make_critic(layer_norm=True), make_critic(layer_norm=False)
    assert len(list(with_norm.parameters())) == len(list(without.parameters())) + 4  # a scale and an offset, two layers


def test_env_integers_and_one_hots_are_the_same_action():
    critic, obs = make_critic(n_critics=3), torch.randn(6, 4)
    actions = torch.stack([torch.randint(0, 2, (6,)), torch.randint(0, 3, (6,))], 1)
    from_integers, from_one_hots = critic(obs, actions), critic(obs, critic.codec.encode(actions))
    assert len(from_integers) == 3
    assert all(q.shape == (6, 1) for q in from_integers)
    assert all(a.equal(b) for a, b in zip(from_integers, from_one_hots, strict=True))


def test_a_shared_extractor_gets_no_gradient_from_the_critics():
    class Extractor(FlattenExtractor):
        def __init__(self, space):
            super().__init__(space)
            self.flatten = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))

    for shared in (True, False):
        extractor = Extractor(OBSERVATIONS)
        critic = Critic(OBSERVATIONS, spaces.Discrete(2), [8], extractor, 4, share_features_extractor=shared)
        sum(critic(torch.randn(3, 4), torch.zeros(3, 1, dtype=torch.long))).sum().backward()
        assert all((parameter.grad is None) is shared for parameter in extractor.parameters())


def test_memory_and_time_of_a_value_grow_with_the_sum_of_the_sizes():
    """A hundred binary choices have 10^30 joint actions; both heads handle them with weights for 200 columns."""
    groups = Groups([2] * 100)
    for head in HEADS.values():
        net = head(4, groups, [64, 64], nn.ReLU, 2, True)
        assert sum(p.numel() for p in net.parameters()) < 2 * (4 + 200 + 64 + 10) * 64 * 2
        assert net(torch.randn(3, 4))(groups.one_hot(torch.zeros(3, 100, dtype=torch.long))).shape == (2, 3)
