"""What SB3's users and tools expect of an algorithm, beyond what the tests of each module show."""

import json
import warnings
import zipfile

import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations, Images
from gymnasium import spaces
from problems import Match
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
)
from torch import nn

from gsac import GSAC, DeviceReplayBuffer

QUICK = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 0, "device": "cpu"}
SMALL = {"net_arch": [8]}
SMALL_IMAGES = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}


class NormalisedExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=4)
        self.net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5))

    def forward(self, observations):
        return self.net(observations)


class Large(gymnasium.ObservationWrapper):
    """CartPole, whose observations are in other units."""

    def __init__(self):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def observation(self, observation):
        return (1000 * observation + 5000).astype(np.float32)


class Walk(gymnasium.Env):
    """Ten steps in the plane towards a goal."""

    plane = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    observation_space = spaces.Dict({"observation": plane, "achieved_goal": plane, "desired_goal": plane})
    action_space = spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = np.zeros(2, np.float32), self.np_random.integers(-3, 4, 2).astype(np.float32)
        self.steps = 0
        return self.seen(), {}

    def step(self, action):
        self.place = self.place + np.array([(1, 0), (-1, 0), (0, 1), (0, -1)], np.float32)[action]
        self.steps += 1
        return self.seen(), float(self.compute_reward(self.place, self.goal, {})), False, self.steps == 10, {}

    def seen(self):
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}

    def compute_reward(self, achieved_goal, desired_goal, _info):
        return -(np.abs(achieved_goal - desired_goal).sum(-1) > 0).astype(np.float32)


def cartpole(**kwargs):
    return GSAC("MlpPolicy", "CartPole-v1", **{**QUICK, "policy_kwargs": SMALL, **kwargs})


def tensors(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(module, before):
    return all(tensor.equal(before[name]) for name, tensor in module.state_dict().items())


def seen_by(model):
    """What reaches the actor's features extractor from now on."""
    seen = []
    model.actor.features_extractor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


@pytest.mark.parametrize("strategy", ["final", "episode", "future"])
@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("continuous", [False, True], ids=["one_bit", "any_bits"])
def test_hindsight_replaces_goals_and_rewards(strategy, images, continuous):
    env = BitFlippingEnv(n_bits=4, continuous=continuous, image_obs_space=images)
    if continuous:  # any bits at once
        env.action_space = spaces.MultiBinary(4)
    model = GSAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"goal_selection_strategy": strategy, "n_sampled_goal": 4, "copy_info_dict": True},
        policy_kwargs={"net_arch": [8]},
        **QUICK,
    ).learn(60)
    assert model._n_updates == 40
    stored = model.replay_buffer.rewards[:60].mean()
    sampled = model.replay_buffer.sample(1000)
    goals = (sampled.next_observations["achieved_goal"] == sampled.observations["desired_goal"]).flatten(1).all(1)
    assert sampled.rewards.mean() > stored  # more goals are reached in hindsight
    assert (sampled.rewards.flatten() == 0).equal(goals)


def test_normalised_observations_and_rewards_reach_the_networks_as_such():
    env = VecNormalize(DummyVecEnv([Large]), clip_obs=5.0, clip_reward=0.5)
    model = GSAC("MlpPolicy", env, policy_kwargs=SMALL, **QUICK)
    seen = seen_by(model)
    model.learn(60)
    assert max(obs.abs().max().item() for obs in seen) <= 5.0
    assert model.replay_buffer.observations[:60].mean() > 1000  # they are stored as they came
    assert model.replay_buffer.rewards[:60].min() == 1.0
    assert model.replay_buffer.sample(50, env=model.get_vec_normalize_env()).rewards.max() <= 0.5


def test_hindsight_works_on_normalised_environments_and_both_can_be_exchanged():
    def normalised():
        return VecNormalize(DummyVecEnv([Walk]), clip_obs=0.25)

    env, other = normalised(), normalised()
    model = GSAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, policy_kwargs=SMALL, **QUICK)
    seen = seen_by(model)
    model.learn(40)
    assert model.get_vec_normalize_env() is env
    model.set_env(other)
    assert model.get_vec_normalize_env() is other
    model.learn(40, reset_num_timesteps=False)
    assert max(values.abs().max().item() for obs in seen for values in obs.values()) <= 0.25


def test_stacked_images_are_transposed_and_learned_from():
    env = VecFrameStack(DummyVecEnv([Images]), n_stack=3)
    model = GSAC("CnnPolicy", env, policy_kwargs=SMALL_IMAGES, **QUICK).learn(30)
    assert is_vecenv_wrapped(model.get_env(), VecTransposeImage)
    assert model.observation_space.shape == (3, 36, 36)
    action, _ = model.predict(env.reset())  # with the channels last, as users have them
    assert action.shape == (1,)


def test_stacked_dictionaries_in_other_processes():
    env = SubprocVecEnv([lambda: DictObservations(gymnasium.make("CartPole-v1"))] * 2)
    model = GSAC("MultiInputPolicy", VecFrameStack(env, 2), train_freq=3, policy_kwargs=SMALL, **QUICK).learn(60)
    assert model.observation_space["vector"].shape == (8,)
    assert model._n_updates == 60 - 18  # six steps a rollout, and as many updates after each but the first three
    assert type(model.replay_buffer) is DeviceReplayBuffer
    model.env.close()


def test_observations_stored_once_give_the_same_transitions():
    twice, once = (
        cartpole(
            optimize_memory_usage=once, replay_buffer_kwargs={"handle_timeout_termination": False}, learning_starts=100
        ).learn(60)
        for once in (False, True)
    )
    assert not hasattr(once.replay_buffer, "next_observations")
    rows = torch.arange(50)
    for ours, theirs in zip(*(model.replay_buffer._get_samples(rows)[:5] for model in (once, twice)), strict=True):
        # The observation after an episode's end is the next one's first where each is stored once; no target asks it.
        going = torch.as_tensor(twice.replay_buffer.dones[:50, 0] == 0)
        assert ours[going].equal(theirs[going])
    assert once.learn(20, reset_num_timesteps=False)._n_updates == 0


@pytest.mark.parametrize("optimizer", [RMSpropTFLike, torch.optim.AdamW, torch.optim.SGD])
def test_other_optimisers_are_used_by_actor_and_critics(optimizer):
    model = cartpole(policy_kwargs={**SMALL, "optimizer_class": optimizer, "optimizer_kwargs": {"weight_decay": 0.1}})
    for network in (model.actor, model.critic):
        assert type(network.optimizer) is optimizer
        assert network.optimizer.param_groups[0]["weight_decay"] == 0.1
        assert network.optimizer.param_groups[0]["lr"] == 1e-3
    before = tensors(model.actor)
    model.learn(30)
    assert not same(model.actor, before)


@pytest.mark.parametrize(
    ("net_arch", "pi", "qf"),
    [(None, [64, 64], [64, 64]), ([], [], []), ([4], [4], [4]), ({"pi": [6, 5], "qf": []}, [6, 5], [])],
    ids=str,
)
@pytest.mark.parametrize("n_critics", [1, 3])
@pytest.mark.parametrize("head", ["linear", "action_in"])
def test_layers_and_number_of_critics(net_arch, pi, qf, n_critics, head):
    kwargs = {"net_arch": net_arch, "n_critics": n_critics, "critic_head": head}
    model = GSAC("MlpPolicy", Match(spaces.MultiDiscrete([3, 2])), policy_kwargs=kwargs, **QUICK).learn(30)
    assert (model.actor.net_arch, model.critic.net_arch) == (pi, qf)
    observations = torch.zeros(2, *model.observation_space.shape)
    values = model.critic(observations, torch.zeros(2, 2, dtype=torch.int64))
    assert [value.shape for value in values] == [(2, 1)] * n_critics


@pytest.mark.parametrize("shared", [False, True])
def test_statistics_move_in_training_alone_and_reach_the_targets_whole(shared):
    model = cartpole(
        policy_kwargs={**SMALL, "features_extractor_class": NormalisedExtractor, "share_features_extractor": shared},
        tau=0.0,
        gradient_steps=0,
    )
    before, weights = tensors(model.policy), [parameter.clone() for parameter in model.critic_target.parameters()]
    model.learn(40)  # collects, and makes no update
    model.predict(np.ones((5, 4), np.float32))
    assert same(model.policy, before)
    model.train(3, 16)
    mean = model.critic.features_extractor.net[1].running_mean
    assert not mean.equal(before["critic.features_extractor.net.1.running_mean"])
    assert mean.equal(model.critic_target.features_extractor.net[1].running_mean)
    assert all(a.equal(b) for a, b in zip(model.critic_target.parameters(), weights, strict=True))
    model.policy.set_training_mode(False)
    actions = {int(model.predict(np.ones(4, np.float32), deterministic=True)[0]) for _ in range(20)}
    assert len(actions) == 1  # dropout is off


@pytest.mark.parametrize("freeze", ["learning_rate", "lr_schedule"])
def test_without_a_learning_rate_only_the_targets_move(freeze):
    model = cartpole(tau=0.5, learning_rate=0.0 if freeze == "learning_rate" else 1e-3).learn(25)
    if freeze == "lr_schedule":
        model.lr_schedule = lambda _: 0.0
    policy = {name: tensor for name, tensor in tensors(model.policy).items() if "target" not in name}
    target, coefficient = tensors(model.critic_target), model.log_ent_coef.clone()
    if freeze == "learning_rate":  # the targets have nothing to follow but what we put there
        with torch.no_grad():
            for parameter in model.critic_target.parameters():
                parameter.add_(1.0)
    model.train(2, 16)
    assert all(model.policy.state_dict()[name].equal(tensor) for name, tensor in policy.items())
    assert model.log_ent_coef.equal(coefficient)
    assert not any(tensor.equal(target[name]) for name, tensor in model.critic_target.state_dict().items())


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
def test_with_tau_0_the_targets_stay_and_every_tensor_of_the_critics_moves_in_one_step(policy):
    env, kwargs = (Images(), SMALL_IMAGES) if policy == "CnnPolicy" else (gymnasium.make("CartPole-v1"), SMALL)
    model = GSAC(policy, env, policy_kwargs=kwargs, tau=0.0, gradient_steps=0, **QUICK).learn(40)
    critic, target = tensors(model.critic), tensors(model.critic_target)
    model.train(1, 16)
    assert same(model.critic_target, target)
    assert [name for name, tensor in model.critic.state_dict().items() if tensor.equal(critic[name])] == []


def test_another_environment_is_learned_from_and_other_spaces_and_numbers_are_refused():
    model = cartpole().learn(30)
    other = DummyVecEnv([lambda: Monitor(gymnasium.make("CartPole-v1"))])
    model.set_env(other)
    assert model.get_env() is other
    assert model._last_obs is None
    model.learn(30)
    model.set_env(other, force_reset=False)
    assert model._last_obs is not None
    assert model.learn(10, reset_num_timesteps=False).num_timesteps == 40
    with pytest.raises(AssertionError, match="number of environments"):
        model.set_env(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2))
    with pytest.raises(ValueError, match="spaces do not match"):
        model.set_env(gymnasium.make("Acrobot-v1"))


def test_a_model_loads_with_another_number_of_environments(tmp_path):
    cartpole().learn(30).save(tmp_path / "model")
    envs = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 3)
    assert GSAC.load(tmp_path / "model", env=envs).learn(60).replay_buffer.n_envs == 3


def test_what_is_excluded_is_not_in_the_file_and_custom_objects_replace_what_is(tmp_path):
    model = cartpole(verbose=0, temperature=0.25).learn(25)
    model.save(tmp_path / "model", exclude=["gamma", "tau"], include=["tau"])
    with zipfile.ZipFile(tmp_path / "model.zip") as file:
        names = json.loads(file.read("data"))
    assert "gamma" not in names
    assert "tau" in names
    assert not {
        "policy",
        "actor",
        "critic",
        "critic_target",
        "replay_buffer",
        "env",
        "learner",
        "memory",
        "explorer",
    } & set(names)
    model.save(tmp_path / "model")
    loaded = GSAC.load(tmp_path / "model", custom_objects={"learning_rate": 2e-5, "temperature": 0.5, "unheard_of": 1})
    assert (loaded.learning_rate, loaded.temperature) == (2e-5, 0.5)
    assert loaded.lr_schedule(1.0) == 2e-5
    assert not hasattr(loaded, "unheard_of")


def test_a_replay_buffer_that_is_included_is_in_the_file(tmp_path):
    model = cartpole().learn(25)
    model.save(tmp_path / "model", include=["replay_buffer"])
    loaded = GSAC.load(tmp_path / "model")
    assert loaded.replay_buffer.size() == 25
    assert (loaded.replay_buffer.observations == model.replay_buffer.observations).all()
    assert not hasattr(model, "_noise_and_ends")


def test_a_run_that_is_loaded_without_a_reset_keeps_its_noise(tmp_path):
    model = cartpole(noise_duration=1e9, learning_starts=0).learn(5)
    noise = model.explorer.noise
    model.save(tmp_path / "model")
    loaded = GSAC.load(tmp_path / "model", env=model.get_env(), force_reset=False)
    loaded.explorer.ended[:] = False
    loaded.learn(1, reset_num_timesteps=False)
    assert loaded.explorer.noise.equal(noise)


def test_attributes_that_are_set_between_two_runs_count_in_the_second():
    model = cartpole(learning_starts=0).learn(5)
    assert model.explorer.noise is not None
    model.noise_duration = 1
    model.learn(5)
    assert model.explorer.noise is None


def test_none_as_the_buffer_class_of_a_loaded_model_picks_one_as_in_the_constructor(tmp_path):
    cartpole().save(tmp_path / "model")
    loaded = GSAC.load(tmp_path / "model", replay_buffer_class=None)
    loaded.save_weights(tmp_path / "weights")
    assert GSAC.from_weights(tmp_path / "weights", n_steps=3).replay_buffer.n_steps == 3
    assert type(GSAC.from_weights(tmp_path / "weights", n_steps=3).replay_buffer) is NStepReplayBuffer


def test_a_subclass_with_a_constructor_of_its_own_has_its_arguments_checked():
    class Fixed(GSAC):
        def __init__(self, env):
            super().__init__("MlpPolicy", env, target_update_interval=0)

    with pytest.raises(ValueError, match="target_update_interval=0 is out of range"):
        Fixed("CartPole-v1")


def test_a_compiled_policy_is_saved_and_loaded(tmp_path):
    model = cartpole().learn(30)
    before = tensors(model.policy)
    model.policy = torch.compile(model.policy, backend="eager")
    model.save(tmp_path / "model")
    loaded = GSAC.load(tmp_path / "model", env=gymnasium.make("CartPole-v1"))
    assert same(loaded.policy, before)
    loaded.learn(30)
    assert not same(loaded.policy, before)


def test_parameters_are_exchanged_whole_or_not_at_all():
    model, other = cartpole(), cartpole(seed=1)
    parameters = other.get_parameters()
    assert set(parameters) == {"policy", "actor.optimizer", "critic.optimizer", "ent_coef_optimizer"}
    model.set_parameters(parameters)
    assert same(model.policy, parameters["policy"])
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        model.set_parameters({"policy": parameters["policy"]})
    with pytest.raises(RuntimeError, match="Missing key"):
        model.set_parameters({**parameters, "policy": dict(list(parameters["policy"].items())[:-1])})


def test_replay_buffers_are_saved_and_loaded(tmp_path):
    model = cartpole(n_steps=3).learn(40)
    model.save_replay_buffer(tmp_path / "buffer")
    other = cartpole(n_steps=3)
    other.load_replay_buffer(tmp_path / "buffer")
    assert type(other.replay_buffer) is NStepReplayBuffer
    assert np.array_equal(other.replay_buffer.actions[:40], model.replay_buffer.actions[:40])
    assert other.learn(30)._n_updates == 10


def test_evaluation_takes_the_model_the_policy_and_the_actor():
    model = cartpole().learn(30)
    env = Monitor(gymnasium.make("CartPole-v1"))
    lengths = []
    for agent in (model, model.policy, model.actor):
        env.reset(seed=1)
        lengths.append(evaluate_policy(agent, env, n_eval_episodes=1, return_episode_rewards=True)[1])
    assert all(length[0] >= 8 for length in lengths)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_same_actions_for_a_dictionary_and_for_the_vector_itself_before_and_after_training(n_envs):
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    chosen = []
    for policy, wrap in (("MlpPolicy", lambda env: env), ("MultiInputPolicy", DictObservations)):
        env = DummyVecEnv([lambda wrap=wrap: wrap(gymnasium.make("CartPole-v1"))] * n_envs)
        model = GSAC(policy, env, n_steps=1, policy_kwargs=SMALL, **QUICK)
        given = observations if policy == "MlpPolicy" else {"vector": observations}
        chosen.append([model.predict(given, deterministic=deterministic)[0] for deterministic in (True, False)])
        model.learn(60)
        chosen[-1] += [model.predict(given, deterministic=deterministic)[0] for deterministic in (True, False)]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*chosen, strict=True))


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"n_steps": 3},
        {"replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": {"n_steps": 3, "gamma": 0.9}},
        {"ent_coef": 0.1, "learning_rate": "linear:1e-3:0"},
    ],
    ids=["defaults", "n_steps", "own_n_steps", "fixed"],
)
def test_no_warning_over_a_whole_life(kwargs, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = cartpole(**kwargs).learn(30).learn(30, reset_num_timesteps=False)
        model.save(tmp_path / "model")
        model.save_replay_buffer(tmp_path / "buffer")
        model = GSAC.load(tmp_path / "model", env=gymnasium.make("CartPole-v1"))
        model.load_replay_buffer(tmp_path / "buffer")
        model.learn(30).learn(30)
    assert model.num_timesteps == 30


def test_the_interval_of_the_targets_counts_updates_over_all_calls_of_train():
    model = cartpole(target_update_interval=3, gradient_steps=0, tau=0.5).learn(25)
    moved = []
    for _ in range(7):
        before = tensors(model.critic_target)
        model.train(1, 16)
        moved.append(not same(model.critic_target, before))
    assert moved == [False, False, True, False, False, True, False]


def test_policies_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="MlpPolcy"):
        GSAC("MlpPolcy", "CartPole-v1", **QUICK)
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        GSAC("MlpPolicy", Walk(), **QUICK)
    with pytest.raises(AssertionError, match="NatureCNN"):
        GSAC("CnnPolicy", "CartPole-v1", **QUICK)
