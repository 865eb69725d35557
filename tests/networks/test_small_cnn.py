import numpy as np
import pytest
import torch
from environments import Pixel
from gymnasium import spaces
from sb3_soft import SDSAC
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, NatureCNN
from torch import nn

from gsac import GSAC, REINFORCE, CnnPolicy, MultiInputPolicy, SmallCNN
from gsac.learning.device_reads import DeviceReads

SPACE = spaces.Box(0, 255, (4, 10, 10), np.uint8)
QUICK = {"learning_starts": 20, "batch_size": 16, "buffer_size": 200, "seed": 0, "device": "cpu"}
SMALL = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}


def images(n, space=SPACE):
    return torch.as_tensor(np.stack([space.sample() for _ in range(n)])).float() / 255.0


def policy(space, kind=CnnPolicy, **kwargs):
    return kind(space, spaces.Discrete(3), lambda _: 1e-3, **kwargs)


def extractors(policy):
    return {type(part.features_extractor) for part in (policy.actor, policy.critic, policy.critic_target)}


def test_features_by_hand():
    net = SmallCNN(spaces.Box(0, 255, (1, 3, 4), np.uint8), features_dim=2)
    convolution, layer = net.cnn[0], net.linear[0]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        convolution.weight[0, 0] = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
        convolution.bias[0] = 0.5
        convolution.weight[15, 0, 0, 0] = -1.0
        convolution.bias[15] = 2.0
        layer.weight[0, 0] = 1.0  # filter 0, left
        layer.weight[0, 1] = 10.0  # filter 0, right
        layer.weight[0, 31] = 100.0  # filter 15, right
        layer.weight[1, 0] = -1.0
    image = torch.tensor([[[[1.0, 0.0, 4.0, 0.0], [0.0, 1.0, 1.0, 0.0], [5.0, 0.0, 1.0, 2.0]]]])
    # Filter 0: left 1 + 2 * 1 + 3 * 1 + 0.5, right 0 + 2 * 1 + 3 * 2 + 0.5; filter 15: right 2 - 0.
    assert net(image).tolist() == [[6.5 + 10 * 8.5 + 100 * 2.0, 0.0]]


def test_it_is_the_papers_network():
    net = SmallCNN(SPACE)
    plain = nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 8 * 8, 128), nn.ReLU())
    plain.load_state_dict(dict(zip(plain.state_dict(), net.state_dict().values(), strict=True)))
    batch = images(5)
    features, theirs = net(batch), plain(batch)
    assert features.shape == (5, net.features_dim) == (5, 128)
    assert features.equal(theirs)
    assert (features > 0).any()
    ours, others = (
        torch.autograd.grad(f.square().sum(), n.parameters()) for f, n in ((features, net), (theirs, plain))
    )
    for a, b in zip(ours, others, strict=True):
        assert a.equal(b)
    assert sum(parameter.numel() for parameter in net.parameters()) == 16 * (4 * 9 + 1) + 128 * (1024 + 1)


@pytest.mark.parametrize(
    "space", [spaces.Box(0, 255, (4, 2, 10), np.uint8), spaces.Box(0, 1, (100,)), spaces.Discrete(4)], ids=str
)
def test_spaces_that_are_no_images_are_refused(space):
    with pytest.raises(ValueError, match=r"SmallCNN reads images.*at least 3x3.*use MlpPolicy"):
        SmallCNN(space)


def test_images_of_less_than_36_pixels_on_a_side_are_read_by_it_and_others_by_nature_cnn():
    for shape, kind in (
        ((4, 10, 10), SmallCNN),
        ((10, 10, 10), SmallCNN),
        ((1, 35, 84), SmallCNN),
        ((1, 84, 35), SmallCNN),
        ((4, 36, 36), NatureCNN),
    ):
        space = spaces.Box(0, 255, shape, np.uint8)
        assert extractors(policy(space)) == {kind}
        NatureCNN(spaces.Box(0, 255, (1, 36, 36), np.uint8))
    with pytest.raises(RuntimeError):  # so that the limit is the true one
        NatureCNN(spaces.Box(0, 255, (1, 35, 36), np.uint8))
    floats = spaces.Box(0, 1, (4, 10, 10), np.float32)
    assert extractors(policy(floats, normalize_images=False)) == {SmallCNN}
    with pytest.raises(AssertionError, match="NatureCNN"):  # numbers that would be taken for scaled ones
        policy(floats)


def test_an_extractor_that_is_named_wins():
    assert extractors(policy(SPACE, features_extractor_class=FlattenExtractor)) == {FlattenExtractor}
    large = spaces.Box(0, 255, (1, 40, 40), np.uint8)
    assert extractors(policy(large, features_extractor_class=SmallCNN)) == {SmallCNN}

    class Own(CnnPolicy):
        features_extractor_class = FlattenExtractor

    assert extractors(policy(SPACE, Own)) == {FlattenExtractor}


def test_nature_cnn_for_small_images_is_refused_with_what_to_pass():
    with pytest.raises(ValueError, match=r"at least 36x36 pixels, and the observation space has 10x10.*gsac\.SmallCNN"):
        policy(SPACE, features_extractor_class=NatureCNN)
    both = spaces.Dict({"seen": SPACE, "felt": spaces.Box(0, 1, (2,))})
    with pytest.raises(ValueError, match=r"the observation 'seen' has 10x10.*of your own"):
        policy(both, MultiInputPolicy)

    class Own(BaseFeaturesExtractor):
        def __init__(self, observation_space):
            super().__init__(observation_space, 10)
            self.seen = SmallCNN(observation_space["seen"], 8)

        def forward(self, observations):
            return torch.cat([self.seen(observations["seen"]), observations["felt"]], 1)

    assert extractors(policy(both, MultiInputPolicy, features_extractor_class=Own)) == {Own}


def test_small_images_are_learned_from():
    model = GSAC("CnnPolicy", Pixel(), **QUICK | {"batch_size": 64}, policy_kwargs={"net_arch": []}).learn(300)
    env, right = Pixel(), 0
    observation, _ = env.reset(seed=1)
    for _ in range(100):
        action, _ = model.predict(observation, deterministic=True)
        right += int(action) == env.right
        observation, *_ = env.step(action)
    assert right >= 90


@pytest.mark.parametrize("kind", [DQN, SDSAC, REINFORCE])
def test_other_algorithms_train_with_it(kind):
    chosen = {} if kind is REINFORCE else {"features_extractor_class": SmallCNN}
    quick = {"seed": 0, "device": "cpu"} if kind is REINFORCE else QUICK
    model = kind("CnnPolicy", Pixel(), **quick, policy_kwargs={**SMALL, **chosen})
    found = {name: module for name, module in model.policy.named_modules() if isinstance(module, SmallCNN)}
    assert found
    assert not any(isinstance(module, NatureCNN) for module in model.policy.modules())
    before = {name: net.cnn[0].weight.clone() for name, net in found.items()}
    model.learn(40)
    assert any(not net.cnn[0].weight.equal(before[name]) for name, net in found.items())


def test_an_extractor_named_to_reinforce_wins():
    named = {"features_extractor_class": FlattenExtractor}
    model = REINFORCE("CnnPolicy", Pixel(), device="cpu", policy_kwargs=named)
    assert type(model.policy.features_extractor) is FlattenExtractor


@pytest.mark.parametrize("named", [{}, {"features_extractor_class": SmallCNN}], ids=["by itself", "named"])
@pytest.mark.parametrize("kind", [GSAC, REINFORCE])
def test_a_saved_model_loads_with_small_cnn(kind, named, tmp_path):
    quick = QUICK if kind is GSAC else {"seed": 0, "device": "cpu"}
    model = kind("CnnPolicy", Pixel(), **quick, policy_kwargs={**SMALL, **named}).learn(30)
    model.save(tmp_path / "model")
    model.save_weights(tmp_path / "model")
    observations = model.get_env().reset()
    for loaded in (
        kind.load(tmp_path / "model", device="cpu"),
        kind.from_weights(tmp_path / "model", device="cpu"),
        kind.from_weights(tmp_path / "model", env=Pixel(), device="cpu"),
    ):
        assert any(isinstance(module, SmallCNN) for module in loaded.policy.modules())
        for name, tensor in model.policy.state_dict().items():
            assert tensor.equal(loaded.policy.state_dict()[name])
        assert loaded.predict(observations, deterministic=True)[0] == model.predict(observations, deterministic=True)[0]
    model.policy.save(tmp_path / "policy.pth")
    alone = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
    assert any(isinstance(module, SmallCNN) for module in alone.modules())


def test_it_reads_nothing_from_the_device_and_compiles_as_a_whole():
    net, batch = SmallCNN(SPACE), images(4)
    with DeviceReads() as reads:
        torch.autograd.grad(net(batch).sum(), list(net.parameters()))
    assert reads.found == []
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(batch), net(batch), atol=1e-6)
