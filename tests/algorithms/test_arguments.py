import math

import gymnasium
import pytest
from gymnasium import spaces
from problems import Match, Switches
from stable_baselines3.common.env_util import make_vec_env

from gsac import GSAC, REINFORCE, Constant, Linear
from gsac.algorithms.parsing import parse_ent_coef, parse_target_entropy
from gsac.envs.wrappers import DiscretizeAction
from gsac.networks.observations import check_observation_space
from gsac.replay.request import BufferRequest
from gsac.spaces.codec import UnsupportedSpaceError

OUT_OF_RANGE = [
    ("learning_rate", -1e-3),
    ("learning_rate", math.nan),
    ("learning_rate", "linear:1e-3:-1e-3"),
    ("gamma", 1.01),
    ("gamma", -0.1),
    ("tau", 1.5),
    ("tau", -0.01),
    ("batch_size", 0),
    ("buffer_size", 0),
    ("n_steps", 0),
    ("learning_starts", -1),
    ("gradient_steps", -2),
    ("target_update_interval", 0),
    ("max_grad_norm", 0.0),
    ("num_threads", 0),
    ("noise_duration", 0.5),
    ("noise_duration", math.inf),
    ("epsilon", -0.1),
    ("epsilon", "linear:1.5:0"),
    ("temperature", 0.0),
    ("temperature", -1.0),
    ("temperature", "linear:1:0"),
    ("temperature", math.inf),
    ("ent_coef", -0.1),
    ("ent_coef", "auto_0"),
    ("ent_coef", "auto_-1"),
    ("ent_coef", "auto_100"),
    ("ent_coef", "auto_1e-6"),
    ("ent_coef", "piecewise:0=0.1,0.25=-5,0.5=0.1"),
    ("learning_rate", "piecewise:0=0.01,0.25=-0.05,0.5=0.01"),
    ("epsilon", "piecewise:0=0.1,0.33=5,0.5=0.1"),
    ("train_freq", 0),
    ("train_freq", (0, "episode")),
    ("ent_coef", "linear:0.2:-0.1"),
    ("ent_coef", math.inf),
]
UNKNOWN = [
    ("estimator", "gumble"),
    ("q_aggregation", "median"),
    ("temperature", "fast"),
    ("temperature", "linear:1"),
    ("ent_coef", "automatic"),
    ("ent_coef", "auto_"),
    ("ent_coef", "auto_linear:1:0.1"),
    ("ent_coef", "linear:0.2"),
    ("target_entropy", "auto_much"),
    ("target_entropy", "some"),
]
WRONG_TYPES = [
    ("batch_size", 12.5),
    ("batch_size", "many"),
    ("n_steps", None),
    ("gamma", "0.9"),
    ("tau", None),
    ("noise_duration", "long"),
    ("epsilon", None),
    ("temperature", None),
    ("learning_rate", [1e-3]),
    ("estimator", 3),
    ("ent_coef", None),
    ("target_entropy", [0.3]),
    ("target_entropy", None),
    ("bound_targets", "no"),
    ("policy_kwargs", [1]),
    ("replay_buffer_kwargs", [1]),
    ("replay_buffer_class", "prioritized"),
    ("num_threads", True),
]
UNREACHABLE = [
    -2.0,
    0.0,
    0.7,
    math.log(2),
    "auto_1.0",
    "auto_0",
    "auto_-0.3",
    "linear:0.5:0",
    "linear:1.5:0.5",
    Constant(1.0),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE + UNKNOWN, ids=str)
def test_wrong_values_name_the_argument_what_came_and_what_to_write(name, value):
    with pytest.raises(ValueError, match=rf"{name}=.*{value!r}.*(?i:pass|write) "):
        GSAC("MlpPolicy", "CartPole-v1", **{name: value})


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES, ids=str)
def test_wrong_types_name_the_argument_what_came_and_what_to_write(name, value):
    with pytest.raises(TypeError, match=rf"{name}=.*(?i:pass|write) "):
        GSAC("MlpPolicy", "CartPole-v1", **{name: value})


def test_a_schedule_that_returns_no_number_is_refused():
    with pytest.raises(TypeError, match="temperature: the schedule gives 'x' with 100% of its progress left"):
        GSAC("MlpPolicy", "CartPole-v1", temperature=lambda progress_remaining: "x")


def test_train_freq_in_episodes_is_refused_with_several_environments():
    with pytest.raises(ValueError, match=r"train_freq=\(1, 'episode'\) counts the episodes of one environment"):
        GSAC("MlpPolicy", make_vec_env("CartPole-v1", 2), train_freq=(1, "episode"))


def test_n_steps_and_gamma_are_refused_in_replay_buffer_kwargs():
    with pytest.raises(ValueError, match="Write n_steps=3 beside replay_buffer_kwargs"):
        GSAC("MlpPolicy", "CartPole-v1", replay_buffer_kwargs={"n_steps": 3})
    with pytest.raises(ValueError, match="pass n_steps=1 or optimize_memory_usage=False"):
        GSAC("MlpPolicy", "CartPole-v1", n_steps=3, optimize_memory_usage=True)


@pytest.mark.parametrize("target", UNREACHABLE, ids=str)
def test_unreachable_targets_say_what_can_be_reached(target):
    with pytest.raises(ValueError, match=r"target_entropy=.*cannot be reached.*0\.6931.*'auto_0\.3'"):
        GSAC("MlpPolicy", "CartPole-v1", target_entropy=target)


@pytest.mark.parametrize(
    ("target", "fraction"),
    [
        ("auto_0.5", 0.5),
        (0.5, 0.5 / math.log(4)),
        ("0.5", 0.5 / math.log(4)),
        ("constant:0.5", 0.5),
        (Linear(0.9, 0.5), 0.5),
    ],
)
def test_targets_are_fractions_or_nats(target, fraction):
    assert parse_target_entropy(target, math.log(4))(0.0) == pytest.approx(fraction)


def test_the_target_entropy_falls_by_default():
    schedule = parse_target_entropy("auto", math.log(4))
    assert [schedule(progress) for progress in (1.0, 0.5, 0.0)] == pytest.approx([0.8, 0.5, 0.2])


@pytest.mark.parametrize(
    ("ent_coef", "parsed"),
    [
        ("auto", (True, Constant(0.1))),
        ("auto_0.5", (True, Constant(0.5))),
        (0.2, (False, Constant(0.2))),
        ("0.2", (False, Constant(0.2))),
        (0, (False, Constant(0.0))),
        ("linear:0.2:0", (False, Linear(0.2, 0.0))),
        (Linear(0.2, 0.0), (False, Linear(0.2, 0.0))),
    ],
)
def test_ent_coef_is_parsed(ent_coef, parsed):
    assert parse_ent_coef(ent_coef) == parsed


def test_target_entropy_with_a_fixed_coefficient_is_refused():
    with pytest.raises(ValueError, match=r"target_entropy=0\.3 has no effect with ent_coef=0\.1, .*: pass"):
        GSAC("MlpPolicy", "CartPole-v1", ent_coef=0.1, target_entropy=0.3)


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="target='median' is unknown.*'mode', 'mean', 'soft'"):
        GSAC("MlpPolicy", "CartPole-v1", target="median")


def test_with_a_single_action_training_runs_and_the_coefficient_stays():
    model = GSAC("MlpPolicy", Match(spaces.Discrete(1)), learning_starts=10, batch_size=8).learn(30)
    assert model._n_updates == 20
    assert model.log_ent_coef.exp().item() == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"target_entropy=0\.1.*one action.*'auto'"):
        GSAC("MlpPolicy", Match(spaces.Discrete(1)), target_entropy=0.1)


@pytest.mark.parametrize("estimator", ["expected", "reinforce:baseline=exact"])
def test_the_exact_estimators_refuse_spaces_that_they_cannot_enumerate(estimator):
    with pytest.raises(ValueError, match=r"2\^20 joint actions.*gumbel_softmax"):
        GSAC("MlpPolicy", Match(spaces.MultiBinary(20)), estimator=estimator)


@pytest.mark.parametrize("error", [AssertionError, ValueError])  # as SB3, and as here
def test_the_error_for_continuous_actions_names_the_wrapper(error):
    with pytest.raises(error, match=r"Box.*no classes.*DiscretizeAction\(env, bins=7\)"):
        GSAC("MlpPolicy", gymnasium.make("Pendulum-v1"))
    GSAC("MlpPolicy", DiscretizeAction(gymnasium.make("Pendulum-v1"), bins=7))


@pytest.mark.parametrize("algorithm", [GSAC, REINFORCE])
def test_the_error_for_tuple_observations_names_the_wrapper(algorithm):
    with pytest.raises(UnsupportedSpaceError, match=r"Tuple\(.*FlattenObservation\(env\)"):
        algorithm("MlpPolicy", gymnasium.make("Blackjack-v1"))
    model = algorithm("MlpPolicy", gymnasium.wrappers.FlattenObservation(gymnasium.make("Blackjack-v1")))
    assert model.predict(model.get_env().reset())[0] in (0, 1)


def test_each_space_of_a_dictionary_is_checked():
    readable = {"vector": spaces.Box(-1, 1, (2,)), "class": spaces.Discrete(3)}
    check_observation_space(spaces.Dict(readable))
    for part in (spaces.Text(3), spaces.Dict(readable), spaces.Sequence(spaces.Discrete(2))):
        with pytest.raises(UnsupportedSpaceError, match="a Dict of such"):
            check_observation_space(spaces.Dict({**readable, "other": part}))


def test_n_steps_with_dictionaries_need_a_buffer(monkeypatch):
    env = gymnasium.wrappers.TransformObservation(
        gymnasium.make("CartPole-v1"),
        lambda o: {"o": o},
        spaces.Dict({"o": gymnasium.make("CartPole-v1").observation_space}),
    )
    assert GSAC("MultiInputPolicy", env, n_steps=3, device="cpu").replay_buffer.n_steps == 3
    monkeypatch.setattr(BufferRequest, "_fits_on_device", lambda *_: False)
    with pytest.raises(ValueError, match="n_steps=3.*gsac.DeviceReplayBuffer.*n_steps=1"):
        GSAC("MultiInputPolicy", env, n_steps=3)


def test_policies_that_do_not_exist_or_do_not_fit():
    with pytest.raises(ValueError, match="LstmPolicy"):
        GSAC("LstmPolicy", "CartPole-v1")
    with pytest.raises(ValueError, match="n_critics=0"):
        GSAC("MlpPolicy", "CartPole-v1", policy_kwargs={"n_critics": 0})


def test_spaces_with_more_joint_actions_than_a_float_can_count():
    assert GSAC("MlpPolicy", Switches(2000), learning_starts=10, batch_size=8, buffer_size=100).learn(12)
    with pytest.raises(ValueError, match=r"target_entropy=2000.*1386"):
        GSAC("MlpPolicy", Switches(2000), target_entropy=2000, buffer_size=200)
