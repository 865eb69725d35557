import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations, Images
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from gsac import GSAC, MlpPolicy
from gsac.networks.actor import Actor
from gsac.networks.critic import Critic
from gsac.optim.adam import FusedAdam

OBSERVATIONS = spaces.Box(-1, 1, (4,), np.float32)
ACTION_SPACES = [spaces.Discrete(3, start=2), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)]


class NormalisedExtractor(BaseFeaturesExtractor):
    """With statistics and dropout, which behave differently in training."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=6)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))

    def forward(self, observations):
        return self.net(observations)


def make_policy(action_space=ACTION_SPACES[0], **kwargs):
    return MlpPolicy(OBSERVATIONS, action_space, lambda _: 1e-3, **kwargs)


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_predictions_are_actions_of_the_space(space):
    policy = make_policy(space)
    one = np.zeros(4, np.float32)
    for deterministic in (True, False):
        action, _ = policy.predict(one, deterministic=deterministic)
        assert space.contains(action if space.shape else np.int64(action))
        actions, _ = policy.predict(np.stack([one] * 5), deterministic=deterministic)
        assert actions.shape == (5, *space.shape)
        assert actions.dtype == space.dtype


def test_the_deterministic_action_is_the_mode_and_the_others_are_samples_of_the_policy():
    policy, obs = make_policy(spaces.Discrete(3)), torch.randn(1, 4)
    probs = policy.actor.distribution(obs).probs[0]
    assert policy(obs, deterministic=True).item() == probs.argmax().item()
    counts = torch.bincount(policy(obs.expand(20_000, -1)), minlength=3)
    assert ((counts / 20_000 - probs).abs() < 4 * (probs * (1 - probs) / 20_000).sqrt()).all()


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"share_features_extractor": True, "features_extractor_class": NormalisedExtractor},
        {"critic_head": "action_in", "n_critics": 3, "critic_layer_norm": False, "net_arch": {"pi": [8], "qf": [6, 5]}},
        {"activation_fn": nn.Tanh, "optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}},
    ],
    ids=["defaults", "shared", "heads", "optimizer"],
)
def test_policy_actor_and_critic_are_saved_and_loaded_each_alone(space, kwargs, tmp_path):
    policy, obs = make_policy(space, **kwargs), torch.randn(5, 4)
    policy.set_training_mode(False)
    action = policy.actor.codec.encode(policy(obs))
    for part, kind in ((policy, MlpPolicy), (policy.actor, Actor), (policy.critic, Critic)):
        part.save(tmp_path / "part.pth")
        loaded = kind.load(tmp_path / "part.pth", device="cpu")
        loaded.set_training_mode(False)
        assert str(loaded._get_constructor_parameters().keys()) == str(part._get_constructor_parameters().keys())
        for name, tensor in part.state_dict().items():
            assert tensor.equal(loaded.state_dict()[name]), name
        if kind is Critic:
            assert all(a.equal(b) for a, b in zip(part(obs, action), loaded(obs, action), strict=True))
        else:
            assert part(obs, deterministic=True).equal(loaded(obs, deterministic=True))
    policy.save(tmp_path / "policy.pth")
    loaded = MlpPolicy.load(tmp_path / "policy.pth", device="cpu")
    shared = loaded.actor.features_extractor is loaded.critic.features_extractor
    assert shared is kwargs.get("share_features_extractor", False)
    assert type(loaded.actor.optimizer) is kwargs.get("optimizer_class", FusedAdam)


def test_no_integers_in_the_state():
    assert all(tensor.is_floating_point() for tensor in make_policy(spaces.MultiDiscrete([2, 3])).state_dict().values())


def test_parameters_belong_to_one_optimizer_each():
    for shared in (True, False):
        policy = make_policy(features_extractor_class=NormalisedExtractor, share_features_extractor=shared)
        actors, critics = (
            {id(p) for group in optimizer.param_groups for p in group["params"]}
            for optimizer in (policy.actor.optimizer, policy.critic.optimizer)
        )
        assert not actors & critics
        extractor = {id(p) for p in policy.critic.features_extractor.parameters()}
        assert extractor <= (actors if shared else critics)
        assert not {id(p) for p in policy.critic_target.parameters()} & (actors | critics)


def test_training_mode_leaves_the_targets_alone_and_prediction_moves_no_statistics():
    policy = make_policy(features_extractor_class=NormalisedExtractor)
    policy.set_training_mode(True)
    assert policy.actor.training
    assert policy.critic.training
    assert not any(module.training for module in policy.critic_target.modules())
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    policy.predict(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    assert all(tensor.equal(before[name]) for name, tensor in policy.state_dict().items())


def test_a_dictionary_with_one_vector_and_the_vector_itself_give_the_same_run():
    actions = []
    for policy, wrap in (("MlpPolicy", lambda env: env), ("MultiInputPolicy", DictObservations)):
        env = wrap(gymnasium.make("CartPole-v1"))
        model = GSAC(policy, env, seed=3, learning_starts=50, device="cpu").learn(120)
        actions.append(model.replay_buffer.actions[:120].copy())
        assert len(np.unique(actions[-1])) == 2
    assert np.array_equal(*actions)


def test_images_are_learned_from():
    model = GSAC("CnnPolicy", Images(), seed=0, learning_starts=64, batch_size=64, buffer_size=2000, device="cpu")
    model.learn(250)
    env = Images()
    right = []
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        action, _ = model.predict(observation, deterministic=True)
        right.append(int(action) == env.target)
    assert all(right)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"n_critics": 0}, ValueError, "n_critics=0.*at least 1"),
        ({"n_critics": True}, TypeError, "n_critics=True.*at least 1"),
        ({"n_critics": 2.0}, TypeError, "n_critics=2.0.*at least 1"),
        ({"critic_head": "dueling"}, ValueError, "critic_head='dueling'.*'action_in'"),
    ],
)
def test_wrong_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        make_policy(**kwargs)


def test_arguments_of_other_kinds():
    with pytest.raises(TypeError, match="activation_fn='tanh'.*torch.nn.Tanh"):
        make_policy(activation_fn="tanh")
    assert make_policy(n_critics=np.int64(3)).n_critics == 3
