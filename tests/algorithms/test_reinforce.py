import inspect
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations, Images
from gymnasium import spaces
from problems import Match
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from gsac import REINFORCE
from gsac.cli import main as cli

QUICK = {"episodes_per_update": 4, "device": "cpu"}
BY_HAND = {
    "normalize_advantage": False,
    "max_grad_norm": None,
    "learning_rate": 1.0,
    "policy_kwargs": {"net_arch": [], "optimizer_class": torch.optim.SGD},
}


class Count(gymnasium.Env):
    """Shows how many steps were made; the lengths of its episodes are drawn from ``lengths``; all end by truncation.

    The action is the reward.
    """

    def __init__(self, *lengths, action_space=None):
        self.lengths = lengths
        self.action_space = action_space or spaces.Discrete(2)
        self.observation_space = spaces.Box(0, 1000, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.length = 0, self.np_random.choice(self.lengths)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.steps += 1
        return np.full(1, self.steps, np.float32), float(np.sum(action)), False, self.steps == self.length, {}


class Batches(BaseCallback):
    """Keeps what each update is made from, and the policy's state before it."""

    def __init__(self):
        super().__init__()
        self.batches, self.states = [], []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.batches.append(self.model.rollout_buffer.batch(self.model.device))
        self.states.append({name: value.clone() for name, value in self.model.policy.state_dict().items()})


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def episodes_of(model, timesteps):
    """The observations of each episode that an update was made from."""
    watch = Batches()
    model.learn(timesteps, callback=watch)
    return [
        episode.flatten().tolist()
        for batch in watch.batches
        for episode in batch.observations.split(batch.mask.sum(1).tolist())
    ]


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
def test_an_update_is_the_policy_gradient_computed_by_hand(baseline):
    gamma = 0.5
    model = REINFORCE(
        "MlpPolicy", Count(1, 3), episodes_per_update=3, baseline=baseline, gamma=gamma, seed=1, ent_coef=0, **BY_HAND
    )
    torch.nn.init.zeros_(model.policy.value_net.weight)
    torch.nn.init.constant_(model.policy.value_net.bias, 0.25)
    watch = Batches()
    model.learn(1, callback=watch)
    (batch,), (before,) = watch.batches, watch.states
    assert len(set(batch.mask.sum(1).tolist())) == 2  # episodes of both lengths

    rewards, returns, actions = [row.tolist() for row in batch.rewards], [], iter(batch.actions.tolist())
    for r in rewards:
        r += [0.0] * (3 - len(r))
        returns.append([r[0] + gamma * r[1] + gamma**2 * r[2], r[1] + gamma * r[2], r[2]])
    weight, bias = before["action_net.weight"][:, 0].numpy(), before["action_net.bias"].numpy()
    weight_gradient, bias_gradient, n = np.zeros(2), np.zeros(2), 0
    for i, mask in enumerate(batch.mask.tolist()):
        for t in range(sum(mask)):
            others = [returns[j][t] for j in range(3) if j != i]
            compared_with = {"none": 0.0, "mean": sum(others) / 2, "value": 0.25}[baseline]
            exp = np.exp(weight * t + bias)
            score = np.eye(2)[next(actions)] - exp / exp.sum()
            bias_gradient += (returns[i][t] - compared_with) * score
            weight_gradient += (returns[i][t] - compared_with) * score * t
            n += 1
    after = {name: value.numpy() for name, value in model.policy.state_dict().items()}
    assert np.allclose(after["action_net.bias"] - bias, bias_gradient / n, atol=1e-6)
    assert np.allclose(after["action_net.weight"][:, 0] - weight, weight_gradient / n, atol=1e-6)
    assert np.abs(bias_gradient).max() > 0.1


def test_the_value_is_fitted_after_it_was_compared_with_and_only_by_its_baseline():
    for baseline, moves in (("value", True), ("mean", False), ("none", False)):
        model = REINFORCE("MlpPolicy", Count(2), baseline=baseline, seed=0, **QUICK)
        value = torch.nn.utils.parameters_to_vector(model._value_parameters()).clone()
        model.learn(1)
        assert value.equal(torch.nn.utils.parameters_to_vector(model._value_parameters())) != moves


def test_the_value_tends_to_the_returns_of_whole_episodes_without_bootstrapping():
    """Episodes of two truncated steps with a reward of 1 each; a bootstrapping algorithm expects 1 / (1 - gamma)."""
    env = Count(2, action_space=spaces.Discrete(1, start=1))
    model = REINFORCE("MlpPolicy", env, gamma=0.9, seed=0, **QUICK)
    watch = Batches()
    model.learn(800, callback=watch)
    assert all((batch.rewards == 1).all() for batch in watch.batches)
    values = model.policy.predict_values(torch.tensor([[0.0], [1.0]])).flatten().tolist()
    assert values == pytest.approx([1.9, 1.0], abs=0.1)


def test_more_value_steps_fit_better():
    errors = []
    for value_steps in (1, 50):
        model = REINFORCE("MlpPolicy", Count(8), value_steps=value_steps, seed=0, **QUICK)
        watch = Batches()
        model.learn(1, callback=watch)
        returns = torch.tensor([sum(0.99**k * r for k, r in enumerate(watch.batches[0].rewards[0].tolist()))])
        errors.append((model.policy.predict_values(torch.zeros(1, 1)) - returns).abs().item())
    assert errors[1] < errors[0] / 2


def test_episodes_are_whole_and_each_environment_brings_its_share():
    env = DummyVecEnv([lambda: Monitor(Count(1)), lambda: Monitor(Count(4)), lambda: Monitor(Count(9))])
    model = REINFORCE("MlpPolicy", env, episodes_per_update=5, device="cpu")
    episodes = episodes_of(model, 100)
    shares = [[0.0]] * 2 + [[0.0, 1.0, 2.0, 3.0]] * 2 + [[float(i) for i in range(9)]]
    assert episodes == shares * 4  # nine steps of three environments each
    assert model.num_timesteps == 4 * 9 * 3
    assert model._n_updates == 4


@pytest.mark.parametrize("n_envs", [1, 4])
def test_short_episodes_are_not_preferred(n_envs):
    env = make_vec_env(lambda: Count(1, 19), n_envs, seed=0)
    model = REINFORCE("MlpPolicy", env, episodes_per_update=4, baseline="none", device="cpu")
    lengths = [len(episode) for episode in episodes_of(model, 8000)]
    assert np.mean(lengths) == pytest.approx(10.0, abs=4 * 9 / np.sqrt(len(lengths)))
    logged = [info["l"] for info in model.ep_info_buffer]
    assert np.mean(logged) == pytest.approx(10.0, abs=4 * 9 / np.sqrt(len(logged)))


def test_an_episode_that_was_begun_by_an_earlier_policy_is_not_used():
    model = REINFORCE("MlpPolicy", Count(10), device="cpu", episodes_per_update=1)
    model.learn(25, callback=lambda values, _: values["self"].num_timesteps < 25)  # stops amid the third episode
    assert (model.num_timesteps, model._n_updates) == (25, 2)
    watch = Batches()
    model.learn(10, callback=watch, reset_num_timesteps=False)
    assert watch.batches[0].observations.flatten().tolist() == list(range(10))
    assert model.num_timesteps == 35


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Discrete(3, start=-2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiDiscrete([2, 3], start=[4, -1]),
        spaces.MultiBinary(4),
        spaces.Box(-0.1, 0.2, (2,)),
        spaces.Box(0.0, 2.0, (2, 3)),
    ],
    ids=str,
)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_every_space_trains_and_acts_in_its_space(space, n_envs):
    env = make_vec_env(lambda: Count(3, 5, action_space=space), n_envs, seed=0)  # the env asserts its actions
    model = REINFORCE("MlpPolicy", env, seed=0, **QUICK)
    before = weights(model).clone()
    model.learn(100)
    assert weights(model).isfinite().all()
    assert not weights(model).equal(before)
    for deterministic in (True, False):
        evaluate_policy(model, env, 3, deterministic=deterministic)
        action, _ = model.predict(np.zeros(1, np.float32), deterministic=deterministic)
        assert space.contains(action.astype(space.dtype))


def test_a_start_reaches_the_environment_and_the_predictions():
    model = REINFORCE("MlpPolicy", Count(20, action_space=spaces.Discrete(3, start=7)), seed=0, **QUICK)
    watch = Batches()
    model.learn(1, callback=watch)
    assert watch.batches[0].rewards.unique().tolist() == [7, 8, 9]
    assert watch.batches[0].actions.unique().tolist() == [0, 1, 2]
    predicted = {int(model.predict(np.zeros(1, np.float32))[0]) for _ in range(100)}
    assert predicted == {7, 8, 9}


def test_actions_beyond_a_box_are_clipped_on_their_way_but_not_in_the_gradient():
    model = REINFORCE("MlpPolicy", Count(20, action_space=spaces.Box(-0.1, 0.1, (1,))), seed=0, **QUICK)
    watch = Batches()
    model.learn(1, callback=watch)
    assert watch.batches[0].rewards.abs().max() == pytest.approx(0.1)
    assert watch.batches[0].actions.abs().max() > 0.5


@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_same_seed_gives_the_same_run(n_envs):
    runs = [
        REINFORCE("MlpPolicy", make_vec_env("CartPole-v1", n_envs, seed=1), seed=seed, **QUICK).learn(300)
        for seed in (5, 5, 6)
    ]
    assert weights(runs[0]).equal(weights(runs[1]))
    assert not weights(runs[0]).equal(weights(runs[2]))


@pytest.mark.parametrize("kwargs", [{}, {"baseline": "mean", "learning_rate": "linear:1e-2:0"}], ids=str)
def test_a_saved_model_continues_as_the_one_in_memory(kwargs, tmp_path):
    model = REINFORCE("MlpPolicy", "CartPole-v1", seed=0, **QUICK, **kwargs).learn(500)
    model.save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = REINFORCE.load(tmp_path / "model", device="cpu")
        loaded = REINFORCE.load(tmp_path / "model.zip", env=gymnasium.make("CartPole-v1"), device="cpu")
    assert weights(alone).equal(weights(model))
    model.set_env(gymnasium.make("CartPole-v1"))
    for continued in (model, loaded):
        continued.set_random_seed(3)
        continued.learn(500, reset_num_timesteps=False)
    assert weights(loaded).equal(weights(model))
    assert not weights(loaded).equal(weights(alone))
    assert loaded.num_timesteps == model.num_timesteps >= 1000
    assert loaded._n_updates == model._n_updates > alone._n_updates
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


def test_parameters_can_be_set_from_another_model():
    source, target = (REINFORCE("MlpPolicy", "CartPole-v1", seed=seed, **QUICK).learn(200) for seed in (0, 1))
    target.set_parameters(source.get_parameters())
    assert weights(target).equal(weights(source))
    theirs, ours = (list(model.value_optimizer.state.values()) for model in (source, target))
    assert all(a["exp_avg"].equal(b["exp_avg"]) for a, b in zip(theirs, ours, strict=True))


def test_callbacks_are_called_as_by_sb3(tmp_path):
    class Order(BaseCallback):
        def __init__(self):
            super().__init__()
            self.calls = []

        def _on_training_start(self):
            self.calls.append("training start")

        def _on_rollout_start(self):
            self.calls.append("rollout start")

        def _on_step(self):
            assert {"new_obs", "rewards", "dones", "infos", "actions", "env"} <= self.locals.keys()
            self.calls.append("step")
            return self.num_timesteps < 9

        def _on_rollout_end(self):
            self.calls.append("rollout end")

        def _on_training_end(self):
            self.calls.append("training end")

    watch = Order()
    model = REINFORCE("MlpPolicy", Count(2), device="cpu", episodes_per_update=2, tensorboard_log=str(tmp_path))
    assert isinstance(model, OnPolicyAlgorithm)
    model.learn(100, callback=watch)
    rollout = ["rollout start", "step", "step", "step", "step", "rollout end"]
    assert watch.calls == ["training start", *rollout, *rollout, "rollout start", "step", "training end"]
    assert model.num_timesteps == 9
    assert [path.name for path in tmp_path.iterdir()] == ["REINFORCE_1"]


def test_the_log_has_the_keys_that_people_plot(tmp_path):
    model = REINFORCE("MlpPolicy", "CartPole-v1", learning_rate="linear:1e-3:0", seed=0, **QUICK)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(1500, log_interval=2)
    header, *rows = (tmp_path / "progress.csv").read_text().splitlines()
    values = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    names = ("policy_loss", "value_loss", "entropy", "explained_variance", "learning_rate", "value_learning_rate")
    for name in (*names, "n_updates"):
        assert np.isfinite(float(values[f"train/{name}"])), name
    assert 0 < float(values["train/entropy"]) < np.log(2)
    assert 0 <= float(values["train/learning_rate"]) < 5e-4
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "rollout/discarded_steps"} <= values.keys()


def test_a_learning_rate_never_falls_below_its_end():
    model = REINFORCE("MlpPolicy", Count(50), learning_rate="linear:1e-3:0", **QUICK).learn(60)
    assert model.num_timesteps == 200  # the update that reaches the end is made
    assert model.policy.optimizer.param_groups[0]["lr"] == 0


def test_an_episode_that_never_ends_is_given_up_with_advice(monkeypatch):
    monkeypatch.setattr("gsac.algorithms.reinforce.ENDLESS_EPISODE", 300)
    model = REINFORCE("MlpPolicy", Count(10**9), **QUICK)
    with pytest.raises(ValueError, match="TimeLimit"):
        model.learn(100)


def test_the_policys_gradient_leaves_the_value_alone_and_images_have_two_extractors():
    model = REINFORCE("CnnPolicy", Images(), baseline="none", seed=0, **QUICK)
    assert model.policy.vf_features_extractor is not model.policy.pi_features_extractor
    before = {name: value.clone() for name, value in model.policy.named_parameters()}
    model.learn(1)
    moved = {name for name, value in model.policy.named_parameters() if not value.equal(before[name])}
    assert {"pi_features_extractor.cnn.0.weight", "action_net.weight"} <= moved | {
        name.replace("features_extractor.", "pi_features_extractor.", 1) for name in moved
    }
    assert not any(name.startswith(("vf_", "value_net")) for name in moved)


def test_what_is_shared_on_demand_is_trained_by_the_policy_alone():
    shared = {"share_features_extractor": True}
    model = REINFORCE("CnnPolicy", Images(), seed=0, learning_rate=0.0, policy_kwargs=shared, **QUICK)
    before = {name: value.clone() for name, value in model.policy.named_parameters()}
    model.learn(20)
    moved = {name for name, value in model.policy.named_parameters() if not value.equal(before[name])}
    assert moved == {"value_net.weight", "value_net.bias"}


def test_observations_that_are_numbers_of_states():
    class States(Count):
        def __init__(self):
            super().__init__(3)
            self.observation_space = spaces.Discrete(4)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 0, {}

        def step(self, action):
            observation, *rest = super().step(action)
            return int(observation[0]), *rest

    assert episodes_of(REINFORCE("MlpPolicy", States(), **QUICK), 12) == [[0, 1, 2]] * 4


def test_dictionaries_subprocesses_and_normalised_environments():
    model = REINFORCE("MultiInputPolicy", DictObservations(gymnasium.make("CartPole-v1")), seed=0, **QUICK).learn(200)
    assert weights(model).isfinite().all()
    env = VecNormalize(make_vec_env("CartPole-v1", 3, vec_env_cls=SubprocVecEnv, seed=0))
    model = REINFORCE("MlpPolicy", env, seed=0, **QUICK)
    watch = Batches()
    model.learn(1000, callback=watch)
    env.close()
    assert model.get_vec_normalize_env() is env
    observations = torch.cat([batch.observations for batch in watch.batches])
    assert observations.std(0).min() > 0.5  # as they come, velocities and angles have less, or more


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"learning_rate": -1.0}, ValueError, "learning_rate=-1.0"),
        ({"learning_rate": "linear:1"}, ValueError, "learning_rate='linear:1'"),
        ({"value_learning_rate": None}, TypeError, "value_learning_rate=None"),
        ({"episodes_per_update": 0}, ValueError, "episodes_per_update=0"),
        ({"episodes_per_update": 2.5}, TypeError, "episodes_per_update=2.5"),
        ({"episodes_per_update": 1, "baseline": "mean"}, ValueError, "at least 2 with 1 environments"),
        ({"gamma": 1.1}, ValueError, "gamma=1.1"),
        ({"baseline": "vale"}, ValueError, "Did you mean 'value'?"),
        ({"ent_coef": -0.1}, ValueError, "ent_coef=-0.1"),
        ({"ent_coef": "auto"}, TypeError, "ent_coef='auto'"),
        ({"value_steps": 0}, ValueError, "value_steps=0"),
        ({"max_grad_norm": 0.0}, ValueError, "max_grad_norm=0.0"),
        ({"num_threads": 0}, ValueError, "num_threads=0"),
        ({"normalize_advantage": "yes"}, TypeError, "normalize_advantage='yes'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_with_what_to_write(kwargs, error, message, tmp_path):
    with pytest.raises(error, match="pass|Pass|Write") as refused:
        REINFORCE("MlpPolicy", "CartPole-v1", **kwargs)
    assert message in str(refused.value)
    REINFORCE("MlpPolicy", "CartPole-v1").save(tmp_path / "model")
    with pytest.raises(error):
        REINFORCE.load(tmp_path / "model", **kwargs)


def test_more_environments_than_episodes_are_refused():
    with pytest.raises(ValueError, match="at least 6 with 6 environments"):
        REINFORCE("MlpPolicy", make_vec_env("CartPole-v1", 6), episodes_per_update=4)


def test_actions_of_two_dimensions_are_refused_with_advice():
    env = Count(2, action_space=spaces.MultiDiscrete([[2, 3], [4, 5]]))
    with pytest.raises(ValueError, match="TransformAction"):
        REINFORCE("MlpPolicy", env)


def test_the_constructor_has_sb3s_names_and_order_and_describes_each():
    ours, theirs = (list(inspect.signature(kind.__init__).parameters) for kind in (REINFORCE, A2C))
    shared = [name for name in ours if name in theirs]
    last = "stats_window_size"
    assert shared[shared.index(last) :] == theirs[theirs.index(last) :]
    assert all(f":param {name}:" in REINFORCE.__doc__ for name in ours if name not in ("self", "_init_setup_model"))


def test_the_command_line_trains_evaluates_and_names_its_own_arguments(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "CartPole-v1", "--algo", "reinforce", "--total-timesteps", "400", "--eval-episodes", "2"]
    own = ["--baseline", "mean", "--episodes-per-update", "4", "--n-envs", "2", "--no-normalize-advantage"]
    cli.main([*arguments, *own, "--learning-rate", "linear:1e-2:0", "--no-progress-bar", "--device", "cpu"])
    assert "over 2 episodes, deterministic actions" in capsys.readouterr().out
    model = REINFORCE.load(tmp_path / "logs/CartPole-v1/reinforce_1/model.zip", device="cpu")
    assert (model.baseline, model.episodes_per_update, model.n_envs) == ("mean", 4, 2)
    assert model.learning_rate == "linear:1e-2:0"
    assert not model.normalize_advantage
    cli.main(["evaluate", "logs/CartPole-v1/reinforce_1", "--episodes", "2", "--device", "cpu"])
    assert "over 2 episodes" in capsys.readouterr().out
    model.save(tmp_path / "alone" / "model")
    cli.main(["evaluate", "alone", "--env", "CartPole-v1", "--algo", "reinforce", "--episodes", "1", "--device", "cpu"])
    assert "over 1 episodes" in capsys.readouterr().out
    for wrong, message in ((["--baseline", "vale"], "--baseline"), (["--temperature", "1"], "--temperature")):
        with pytest.raises(SystemExit):
            cli.main([*arguments, *wrong])
        assert message in capsys.readouterr().err


def test_a_failed_save_keeps_the_older_file(tmp_path):
    model = REINFORCE("MlpPolicy", "CartPole-v1", device="cpu")
    model.save(tmp_path / "model")
    old = (tmp_path / "model.zip").read_bytes()
    model.learning_rate = (line for line in "no generator can be pickled")
    with pytest.raises(TypeError, match="pickle"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


def test_threads_are_limited_during_learning_only(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    seen = []
    model = REINFORCE("MlpPolicy", Count(3), **QUICK)
    model.learn(10, callback=lambda *_: seen.append(torch.get_num_threads()) is None)
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "space", [spaces.Discrete(5, start=-2), spaces.MultiDiscrete([3, 4], start=[1, -1]), spaces.MultiBinary(4)], ids=str
)
def test_match_is_learned_in_every_discrete_space(space):
    env = make_vec_env(lambda: Match(space), 4, seed=1)
    model = REINFORCE("MlpPolicy", env, baseline="mean", seed=1, device="cpu")
    mean, _ = evaluate_policy(model.learn(8000), Monitor(Match(space)), 20)
    assert mean > 9  # a random policy has 2, about 3 and 5


@pytest.mark.slow
def test_cartpole_is_balanced_far_longer_than_by_chance():
    model = REINFORCE("MlpPolicy", "CartPole-v1", seed=103, device="cpu").learn(20_000)
    mean, _ = evaluate_policy(model, Monitor(gymnasium.make("CartPole-v1")), 20)
    assert mean > 150  # by chance, 22
