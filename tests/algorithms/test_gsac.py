import inspect
import pathlib
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from problems import Match
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from gsac import ESTIMATORS, GSAC, Cosine, DeviceReplayBuffer, Mixed
from gsac.schedules import CHECKED_AT

ACTION_SPACES = [
    spaces.Discrete(3),
    spaces.Discrete(3, start=-2),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([2, 3], start=[4, -1]),
    spaces.MultiBinary(4),
]
QUICK = {"learning_starts": 40, "batch_size": 16, "buffer_size": 1000, "device": "cpu"}


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def test_the_constructor_has_sb3s_order():
    ours, theirs = (list(inspect.signature(kind.__init__).parameters) for kind in (GSAC, SAC))
    not_discrete = {"action_noise", "use_sde", "sde_sample_freq", "use_sde_at_warmup"}
    own = [
        "estimator",
        "temperature",
        "target",
        "noise_duration",
        "epsilon",
        "bound_targets",
        "q_aggregation",
        "max_grad_norm",
        "num_threads",
        "acceleration",
    ]
    shared = [
        name
        for name in theirs
        if name not in not_discrete and name not in ("ent_coef", "target_update_interval", "target_entropy")
    ]
    tail = shared.index("stats_window_size")
    assert ours[:tail] == shared[:tail]
    assert sorted(ours[tail:-7]) == sorted([*own, "ent_coef", "target_entropy", "target_update_interval"])
    assert set(ours[-7:]) == set(shared[tail:])


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_space_and_estimator_trains_and_acts_in_its_space(space, estimator):
    model = GSAC("MlpPolicy", Match(space), estimator=estimator, seed=0, **QUICK)  # the env asserts its actions
    before = weights(model).clone()
    model.learn(80)
    after = weights(model)
    assert after.isfinite().all()
    assert not after.equal(before)
    stored = model.replay_buffer.actions[:80, 0].reshape(80, *space.shape)
    assert all(space.contains(action) for action in stored.astype(space.dtype))


@pytest.mark.parametrize(
    ("space", "head", "estimator"),
    [
        (spaces.Discrete(3), "auto", "straight_through"),
        (spaces.MultiBinary(3), "auto", "gumbel_softmax"),
        (spaces.Discrete(3), "action_in", "gumbel_softmax"),
        (spaces.MultiBinary(3), "linear", "straight_through"),
    ],
)
def test_the_default_estimator_suits_the_critics(space, head, estimator):
    model = GSAC("MlpPolicy", Match(space), policy_kwargs={"critic_head": head}, **QUICK)
    assert model.learner.objective.estimator is ESTIMATORS[estimator]


@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_same_seed_gives_the_same_run(n_envs):
    runs = [
        GSAC("MlpPolicy", make_vec_env("CartPole-v1", n_envs, seed=1), seed=5, **QUICK).learn(150) for _ in range(2)
    ]
    assert weights(runs[0]).equal(weights(runs[1]))
    other = GSAC("MlpPolicy", make_vec_env("CartPole-v1", n_envs, seed=1), seed=6, **QUICK).learn(150)
    assert not weights(runs[0]).equal(weights(other))


def test_by_default_there_is_an_update_for_every_step_of_every_env():
    model = GSAC("MlpPolicy", make_vec_env("CartPole-v1", 4, vec_env_cls=SubprocVecEnv), seed=0, **QUICK)
    model.learn(200)
    assert model._n_updates == 200 - 40  # learning starts after the 40th step
    model.env.close()


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"ent_coef": 0.05},
        {"ent_coef": 0.0},
        {"n_steps": 3, "target_entropy": "linear:0.9:0.2", "temperature": Cosine(1.0, 0.1, updates=100)},
        {"estimator": lambda policy, q, temperature: ESTIMATORS["expected"](policy, q, temperature)},
        {"estimator": "rloo:samples=3"},
        {"estimator": Mixed(rho="linear:1:0")},
        {
            "policy_kwargs": {"share_features_extractor": True, "critic_head": "action_in"},
            "learning_rate": "linear:1e-3:0",
        },
    ],
    ids=["defaults", "fixed", "greedy", "schedules", "callable", "settings", "annealed", "policy"],
)
def test_save_and_load(kwargs, tmp_path):
    env = gymnasium.make("CartPole-v1")
    model = GSAC("MlpPolicy", env, seed=0, **QUICK, **kwargs).learn(120)
    model.save(tmp_path / "model")
    observations = np.stack([env.observation_space.sample() * 0 + i for i in range(5)]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone, loaded = GSAC.load(tmp_path / "model.zip"), GSAC.load(tmp_path / "model", env=env)
    for other in (alone, loaded):
        assert weights(other).equal(weights(model))
        assert np.array_equal(
            other.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
        )
        for name in model._get_torch_save_params()[1]:
            assert getattr(other, name).equal(getattr(model, name))
        for theirs, ours in zip(
            other.critic.optimizer.state.values(), model.critic.optimizer.state.values(), strict=True
        ):
            assert theirs["exp_avg"].equal(ours["exp_avg"])
    assert type(loaded.replay_buffer) is type(model.replay_buffer)
    before = weights(loaded).clone()
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded.num_timesteps == 180
    assert not weights(loaded).equal(before)
    assert loaded.ent_coef_optimizer is None or loaded.log_ent_coef is loaded.coefficient.log_value


def test_the_range_of_values_goes_wherever_the_weights_go(tmp_path):
    model = GSAC("MlpPolicy", "CartPole-v1", seed=0, bound_targets=True, **QUICK).learn(120)
    model.save(tmp_path / "model")
    model.save_weights(tmp_path / "weights")
    other = GSAC("MlpPolicy", "CartPole-v1", seed=1, bound_targets=True, **QUICK)
    other.set_parameters(model.get_parameters())
    others = GSAC.load(tmp_path / "model"), GSAC.from_weights(tmp_path / "weights.safetensors"), other
    for other in others:
        assert other.policy.lowest_value == 0
        assert other.policy.highest_value.item() == pytest.approx(100, rel=1e-4)  # 1 a step for ever
        assert other.learner.value_range[1] is other.policy.highest_value


def test_a_loaded_model_takes_other_arguments_and_checks_them(tmp_path):
    GSAC("MlpPolicy", "CartPole-v1", n_steps=3, **QUICK).save(tmp_path / "model")
    loaded = GSAC.load(tmp_path / "model", env=gymnasium.make("CartPole-v1"), n_steps=1)
    assert type(loaded.replay_buffer) is DeviceReplayBuffer
    assert loaded.replay_buffer.n_steps == 1
    with pytest.raises(ValueError, match="temperature=-1"):
        GSAC.load(tmp_path / "model", temperature=-1)


def test_an_own_replay_buffer_class_is_kept():
    class OwnBuffer(ReplayBuffer):
        pass

    model = GSAC("MlpPolicy", "CartPole-v1", replay_buffer_class=OwnBuffer, **QUICK)
    assert type(model.replay_buffer) is OwnBuffer
    assert type(GSAC("MlpPolicy", "CartPole-v1", n_steps=3, **QUICK).replay_buffer) is NStepReplayBuffer


def test_a_failed_save_keeps_the_older_file(tmp_path):
    model = GSAC("MlpPolicy", "CartPole-v1", **QUICK)
    model.save(tmp_path / "model")
    old = (tmp_path / "model.zip").read_bytes()
    model.estimator = (line for line in "no generator can be pickled")
    with pytest.raises(TypeError, match="pickle"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


def test_her_with_dictionaries_and_several_binary_actions():
    env = BitFlippingEnv(n_bits=4, continuous=False)
    model = GSAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, seed=0, **QUICK).learn(150)
    assert type(model.replay_buffer) is HerReplayBuffer
    assert model._n_updates > 0


def test_normalised_environments():
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    model = GSAC("MlpPolicy", env, seed=0, **QUICK).learn(100)
    assert weights(model).isfinite().all()


def test_repeated_learning_gives_no_warning():
    model = GSAC("MlpPolicy", "CartPole-v1", seed=0, **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(60).learn(60)
        model.learn(60, reset_num_timesteps=False)
    assert model.num_timesteps == 120


def test_the_log_has_the_keys_that_people_plot(tmp_path):
    schedules = {"temperature": "linear:1:0.5", "target_entropy": "auto_0.3"}
    model = GSAC("MlpPolicy", "CartPole-v1", seed=0, **schedules, **QUICK)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(400)
    header, *rows = (tmp_path / "progress.csv").read_text().splitlines()
    values = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    names = (
        "ent_coef",
        "actor_loss",
        "critic_loss",
        "ent_coef_loss",
        "learning_rate",
        "temperature",
        "entropy",
        "q_value",
    )
    for name in (*names, "n_updates", "target_entropy"):
        assert np.isfinite(float(values[f"train/{name}"])), name
    assert 0.5 < float(values["train/temperature"]) < 0.7
    assert float(values["train/target_entropy"]) == pytest.approx(0.3 * np.log(2), rel=1e-4)
    assert 0 < float(values["train/entropy"]) < np.log(2)


def test_a_coefficient_that_is_not_learned_follows_its_schedule_or_stays_what_it_was_set_to(tmp_path):
    falling = GSAC("MlpPolicy", "CartPole-v1", ent_coef="linear:0.2:0.1", seed=0, **QUICK)
    assert falling.ent_coef_tensor.item() == pytest.approx(0.2)
    falling.set_logger(configure(str(tmp_path), ["csv"]))
    falling.learn(400)
    assert falling.ent_coef_tensor.item() == pytest.approx(0.1, abs=2e-3)
    header, *rows = (tmp_path / "progress.csv").read_text().splitlines()
    logged = [
        float(dict(zip(header.split(","), row.split(","), strict=True))["train/ent_coef"] or "nan") for row in rows
    ]
    assert sorted(logged, reverse=True) == logged
    assert 0.1 < logged[-1] < logged[0] < 0.2
    falling.save(tmp_path / "model")
    loaded = GSAC.load(tmp_path / "model", env=gymnasium.make("CartPole-v1")).learn(200, reset_num_timesteps=False)
    assert loaded.ent_coef_tensor.item() == pytest.approx(0.1, abs=2e-3)

    falling.save_weights(tmp_path / "weights")
    for other in (
        GSAC.load(tmp_path / "model", ent_coef=0.01),
        GSAC.from_weights(tmp_path / "weights", ent_coef=0.01, device="cpu"),
    ):
        assert (other.ent_coef, other.ent_coef_tensor.item()) == (0.01, pytest.approx(0.01))
        assert other.coefficient.value.item() == pytest.approx(0.01)

    steady = GSAC("MlpPolicy", "CartPole-v1", ent_coef=0.2, **QUICK)
    steady.ent_coef_tensor.fill_(0.05)
    steady.learn(60)
    assert steady.ent_coef_tensor.item() == pytest.approx(0.05)


def test_a_learned_coefficient_can_be_fixed_and_a_fixed_one_be_learned_from_weights_only(tmp_path):
    learned = GSAC("MlpPolicy", "CartPole-v1", ent_coef="auto_0.5", seed=0, **QUICK).learn(100)
    fixed = GSAC("MlpPolicy", "CartPole-v1", ent_coef=0.5, **QUICK)
    for name, model in (("learned", learned), ("fixed", fixed)):
        model.save(tmp_path / name)
        model.save_weights(tmp_path / name)
    with pytest.raises(ValueError, match="was learned, and with ent_coef=0.01 it is not learned"):
        GSAC.load(tmp_path / "learned", ent_coef=0.01)
    with pytest.raises(ValueError, match="was not learned, and with ent_coef='auto' it is learned"):
        GSAC.load(tmp_path / "fixed", ent_coef="auto")
    assert GSAC.from_weights(tmp_path / "learned", ent_coef=0.01).ent_coef_tensor.item() == pytest.approx(0.01)
    for name in ("learned", "fixed"):
        anew = GSAC.from_weights(tmp_path / name, "CartPole-v1", ent_coef="auto_0.3")
        assert anew.log_ent_coef.exp().item() == pytest.approx(0.3)
    kept = GSAC.from_weights(tmp_path / "learned")
    assert kept.log_ent_coef.item() == learned.log_ent_coef.item() != pytest.approx(np.log(0.5))


def test_the_learning_rate_can_be_set_between_two_runs():
    model = GSAC("MlpPolicy", "CartPole-v1", **QUICK).learn(60)
    model.learning_rate = 1e-5
    model._setup_lr_schedule()  # as SB3's users do
    model.learn(60, reset_num_timesteps=False)
    assert model.actor.optimizer.param_groups[0]["lr"] == 1e-5


def test_the_log_tells_of_values_that_were_out_of_range_only_where_they_are_bounded(tmp_path):
    for bound_targets in (True, False):
        model = GSAC("MlpPolicy", "CartPole-v1", bound_targets=bound_targets, seed=0, **QUICK)
        model.set_logger(configure(str(tmp_path), ["csv"]))
        model.learn(200)
        assert ("train/clamp_fraction" in (tmp_path / "progress.csv").read_text()) == bound_targets


def test_schedules_follow_the_run_and_the_updates():
    seen = []

    class Watch(BaseCallback):
        def _on_step(self):
            learner = self.model.learner
            seen.append(
                (
                    self.model._n_updates,
                    learner.temperature.item(),
                    self.model.coefficient.target_fraction.item(),
                    self.model.actor.optimizer.param_groups[0]["lr"],
                )
            )
            return True

    GSAC(
        "MlpPolicy",
        "CartPole-v1",
        temperature=Cosine(1.0, 0.5, updates=50),
        target_entropy="linear:0.8:0.2",
        learning_rate=lambda progress_remaining: 1e-3 * progress_remaining,
        **QUICK,
    ).learn(141, callback=Watch())
    updates, temperature, target, learning_rate = seen[-1]
    assert updates == 100
    assert temperature == 0.5
    assert target == pytest.approx(0.2, rel=0.05)
    assert learning_rate == pytest.approx(0.0, abs=2e-5)
    halfway = {row[0]: row[1:] for row in seen}[26]
    assert halfway[0] == pytest.approx(0.75, abs=0.01)


def test_a_schedule_within_the_estimator_follows_the_run_and_is_logged():
    seen = []

    class Watch(BaseCallback):
        def _on_step(self):
            seen.append((self.model.learner.objective.estimator.rho.item(), self.logger.name_to_value.get("train/rho")))
            return True

    GSAC("MlpPolicy", "CartPole-v1", estimator="mixed:rho=linear:1:0", **QUICK).learn(
        101, callback=Watch(), log_interval=1000
    )
    assert seen[50][0] == pytest.approx(0.5, abs=0.02)
    assert seen[50][1] == pytest.approx(seen[50][0])
    assert seen[-1][0] == pytest.approx(0.0, abs=0.02)


def test_a_schedule_that_falls_below_zero_on_the_way_stops_with_its_name():
    model = GSAC("MlpPolicy", "CartPole-v1", temperature=lambda p: 1.0 if p in CHECKED_AT else -1.0, **QUICK)
    with pytest.raises(ValueError, match=r"temperature=.* became -1.0 after 0 updates"):
        model.learn(60)


@pytest.mark.parametrize("variable", [None, ""], ids=["not set", "set to nothing"])
def test_threads_are_limited_during_learning_only(variable, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    torch.set_num_threads(2)
    seen = []
    for num_threads in ("auto", 2):
        model = GSAC("MlpPolicy", "CartPole-v1", num_threads=num_threads, **QUICK)
        model.learn(50, callback=lambda *_: seen.append(torch.get_num_threads()) is None)
        assert torch.get_num_threads() == 2
    assert set(seen[:50]) == {1}
    assert set(seen[50:]) == {2}


def test_the_environments_choice_of_threads_wins(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    seen = []
    GSAC("MlpPolicy", "CartPole-v1", **QUICK).learn(5, callback=lambda *_: seen.append(torch.get_num_threads()) is None)
    assert set(seen) == {2}


def test_two_dimensional_actions_work_by_the_advice_of_the_error():
    class Grid(gymnasium.Env):
        action_space = spaces.MultiDiscrete([[2, 3], [4, 5]])
        observation_space = spaces.Box(-1, 1, (2,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, np.float32), {}

        def step(self, action):
            assert self.action_space.contains(action)
            return np.zeros(2, np.float32), 0.0, True, False, {}

    with pytest.raises(ValueError, match="TransformAction"):
        GSAC("MlpPolicy", Grid(), **QUICK)
    flat = gymnasium.wrappers.TransformAction(
        Grid(), lambda action: action.reshape((2, 2)), spaces.MultiDiscrete([2, 3, 4, 5])
    )
    assert GSAC("MlpPolicy", flat, **QUICK).learn(60).num_timesteps == 60


def test_time_and_memory_of_an_update_grow_with_the_sum_of_the_sizes():
    """MultiBinary(n) has 2^n joint actions; the largest tensors of an update have a few times 2n columns."""
    peaks = []
    for n in (20, 200):
        model = GSAC("MlpPolicy", Match(spaces.MultiBinary(n)), seed=0, **QUICK).learn(45)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            model.train(1, 16)
        peaks.append(max(event.self_cpu_memory_usage for event in profile.key_averages()))
    assert peaks[1] < 12 * peaks[0]


def test_path_objects_and_strings_and_files_can_be_saved_to(tmp_path):
    model = GSAC("MlpPolicy", "CartPole-v1", **QUICK)
    model.save(str(tmp_path / "a"))
    model.save(pathlib.Path(tmp_path / "b.zip"))
    with (tmp_path / "c.zip").open("wb") as file:
        model.save(file)
    for name in "abc":
        assert weights(GSAC.load(tmp_path / f"{name}.zip")).equal(weights(model))


def test_a_subclass_may_override_any_one_of_sb3s_hooks():
    class Doubles(GSAC):
        """Doubles the stored rewards."""

        def _store_transition(self, replay_buffer, buffer_action, new_obs, reward, dones, infos):
            super()._store_transition(replay_buffer, buffer_action, new_obs, 2 * reward, dones, infos)

    class Alternates(GSAC):
        """Takes the two actions in turn."""

        def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
            actions = np.full(n_envs, self.num_timesteps % 2)
            return actions, actions

    class Counts(GSAC):
        """Counts its updates, and makes none."""

        n_asked = 0

        def train(self, gradient_steps, batch_size=64):
            self.n_asked += gradient_steps

    class Elsewhere(GSAC):
        """Stores into a buffer of its own."""

        def _store_transition(self, replay_buffer, *transition):
            super()._store_transition(self.own, *transition)

    def made(kind):
        return kind("MlpPolicy", "CartPole-v1", seed=0, **QUICK)

    assert (made(Doubles).learn(60).replay_buffer.rewards[:60] == 2).all()
    assert made(Alternates).learn(60).replay_buffer.actions[:60, 0, 0].tolist() == [0, 1] * 30
    counts = made(Counts)
    before = weights(counts)
    assert counts.learn(60).n_asked == 20
    assert weights(counts).equal(before)
    elsewhere = made(Elsewhere)
    elsewhere.own = made(GSAC).replay_buffer
    assert elsewhere.learn(30).own.size() == 30
    assert elsewhere.replay_buffer.size() == 0


@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0])
def test_a_polyak_step_moves_the_targets_by_the_fraction_tau_also_if_it_is_changed_later(tau):
    model = GSAC("MlpPolicy", "CartPole-v1", seed=0, **QUICK).learn(60)
    model.tau = tau
    before = [parameter.clone() for parameter in model.critic_target.parameters()]
    model.train(1, 16)
    for target, old, new in zip(model.critic_target.parameters(), before, model.critic.parameters(), strict=True):
        assert torch.allclose(target, old + tau * (new - old), atol=1e-6)
