"""Box actions cut into classes."""

import json
import re
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from environments import DictObservations
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from gsac import GSAC
from gsac.envs import wrappers
from gsac.envs.wrappers import DiscretizeAction, EpisodeStatistics, wrap
from gsac.experiments.environments import make_envs
from gsac.experiments.evaluation import evaluate_model


class Echo(gymnasium.Env):
    """Tells the action that came, in a Box of any shape, and masks of three classes for each of two entries."""

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return np.zeros(1, np.float32), 0.0, False, False, {"action": action}

    def action_masks(self):
        return np.array([True, True, False, False, True, True])


def box(low, high, dtype=np.float32):
    return Echo(spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype))


def test_each_entry_has_its_own_evenly_spaced_values_and_both_ends():
    env = DiscretizeAction(box([-1, 0], [1, 3]), bins=[5, 4])
    assert env.action_space == spaces.MultiDiscrete([5, 4])
    assert [values.tolist() for values in env.values] == [[-1, -0.5, 0, 0.5, 1], [0, 1, 2, 3]]
    assert env.step(np.array([1, 3]))[-1]["action"].tolist() == [-0.5, 3]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bins", [2, 3, 7, 11, 101])
def test_ends_and_middle_are_exact_in_the_boxs_own_type(dtype, bins):
    low, high = np.array([-0.1, 0.1, -0.3], dtype), np.array([0.1, 0.7, 1e4], dtype)
    env = DiscretizeAction(box(low, high, dtype), bins)
    for values, a, b in zip(env.values, low, high, strict=True):
        assert values.dtype == dtype
        assert (values[0], values[-1]) == (a, b)
        assert np.all(np.diff(values) > 0)
        exact = [float(a) + (float(b) - float(a)) * i / (bins - 1) for i in range(bins)]
        assert np.allclose(values, exact, rtol=np.finfo(dtype).eps, atol=np.finfo(dtype).eps * max(abs(a), abs(b)))
        if bins % 2:
            assert values[bins // 2] == dtype((float(a) + float(b)) / 2)
    assert env.values[0][bins // 2] == 0 or bins == 2


def test_the_widest_box_does_not_overflow():
    widest = np.finfo(np.float64).max
    (values,) = DiscretizeAction(box([-widest], [widest], np.float64), 3).values
    assert values.tolist() == [-widest, 0, widest]


def test_the_pendulum_receives_the_torque_of_each_class():
    env = DiscretizeAction(gymnasium.make("Pendulum-v1"), 5)
    assert env.action_space == spaces.MultiDiscrete([5])
    env.reset(seed=0)
    env.step(np.array([3]))
    assert env.unwrapped.last_u == 1.0  # the third of the values -2, -1, 0, 1, 2, counted from 0


def test_a_lander_goes_the_same_way_by_classes_as_by_numbers():
    pytest.importorskip("Box2D", reason='needs pip install "gymnasium[box2d]"')
    envs = [gymnasium.make("LunarLanderContinuous-v3") for _ in range(2)]
    envs[1] = DiscretizeAction(envs[1], bins=(3, 5))
    for env in envs:
        env.reset(seed=0)
    for classes, action in (([2, 0], [1, -1]), ([0, 2], [-1, 0]), ([1, 3], [0, 0.5])) * 10:
        continuous = envs[0].step(np.array(action, np.float32))
        discrete = envs[1].step(np.array(classes))
        assert np.array_equal(continuous[0], discrete[0])
        assert continuous[1:4] == discrete[1:4]


def test_a_box_of_several_dimensions_is_read_row_by_row():
    env = DiscretizeAction(Echo(spaces.Box(-1, 1, (2, 3))), bins=[3, 3, 3, 3, 3, 5])
    assert env.action_space == spaces.MultiDiscrete([3, 3, 3, 3, 3, 5])
    action = env.action([0, 1, 2, 2, 1, 1])
    assert action.tolist() == [[-1, 0, 1], [1, 0, -0.5]]
    assert env.reverse_action(action).tolist() == [0, 1, 2, 2, 1, 1]
    single = DiscretizeAction(Echo(spaces.Box(-1, 1, ())), 3)
    assert single.action([2]).shape == ()
    assert single.step(np.array([2]))[-1]["action"] == 1


def test_the_reverse_takes_the_nearest_class():
    env = DiscretizeAction(box([-1, 0], [1, 3]), bins=[5, 4])
    assert env.reverse_action(np.array([0.3, 1.4])).tolist() == [3, 1]
    assert env.reverse_action(np.array([9.0, -9.0])).tolist() == [4, 0]
    for classes in np.ndindex(5, 4):
        assert env.reverse_action(env.action(np.array(classes))).tolist() == list(classes)


@pytest.mark.parametrize(
    ("space", "bins", "error", "words"),
    [
        (
            spaces.Box(-1, 1, (2,)),
            1,
            ValueError,
            "bins=1 is out of range: pass a whole number of at least 2, both ends",
        ),
        (spaces.Box(-1, 1, (2,)), [3, 0], ValueError, "bins[1]=0 is out of range"),
        (spaces.Box(-1, 1, (2,)), [3], ValueError, "has 1 numbers, and an action of the shape (2,) has 2 entries"),
        (spaces.Box(-1, 1, (2,)), 7.0, TypeError, "bins=7.0 is not a whole number: pass"),
        (spaces.Box(-1, 1, (2,)), True, TypeError, "bins=True is not a whole number"),
        (spaces.Box(-1, 1, (2,)), np.array(3), TypeError, "bins=array(3) is not a whole number"),
        (spaces.Box(-1, 1, (2,)), "7", TypeError, "bins='7' is not a whole number"),
        (spaces.Box(np.float32([-1, -1]), np.float32([1, np.inf])), 3, ValueError, "entry 1 has no bound"),
        (spaces.Box(-np.inf, 1, (2,)), 3, ValueError, "entry 0 has no bound"),
        (spaces.Discrete(3), 3, TypeError, "cannot cut the action space Discrete(3)"),
        (spaces.Box(0, 9, (2,), np.int64), 3, TypeError, "takes a Box of fractional numbers"),
    ],
)
def test_wrong_spaces_and_bins_are_refused(space, bins, error, words):
    with pytest.raises(error) as raised:
        DiscretizeAction(Echo(space), bins)
    assert words in str(raised.value)


@pytest.mark.parametrize("action", [[3, 0], [-1, 0], [0], 0, [0.0, 0.0]], ids=str)
def test_an_action_that_is_none_of_the_classes_is_refused(action):
    with pytest.raises(ValueError, match=r"is not in MultiDiscrete\(\[3 3\]\)"):
        DiscretizeAction(box([-1, -1], [1, 1]), 3).step(np.array(action))


@pytest.mark.parametrize("bins", [7, np.int64(7), [7], (7,), np.array([7])], ids=repr)
def test_gymnasium_checks_it_and_makes_it_again_from_its_spec(bins):
    env = DiscretizeAction(gymnasium.make("Pendulum-v1"), bins)
    check_env(env, skip_render_check=True)
    spec = EnvSpec.from_json(env.spec.to_json())  # which numbers of NumPy's would not survive
    again = gymnasium.make(spec)
    assert isinstance(again, DiscretizeAction)
    assert again.action_space == spaces.MultiDiscrete([7])


def test_sb3_makes_it_with_its_arguments_and_in_processes_of_their_own():
    settings = {"wrapper_class": DiscretizeAction, "wrapper_kwargs": {"bins": 7}}
    env = make_vec_env("Pendulum-v1", 2, vec_env_cls=SubprocVecEnv, **settings)
    assert env.action_space == spaces.MultiDiscrete([7])
    env.reset()
    env.step(np.array([[0], [6]]))
    env.close()


def test_gsac_trains_on_it_and_plays_the_ends_as_well():
    env = DiscretizeAction(gymnasium.make("Pendulum-v1"), 3)
    model = GSAC("MlpPolicy", env, learning_starts=100, batch_size=32, buffer_size=1000, seed=0, device="cpu")
    before = [parameter.clone() for parameter in model.actor.parameters()]
    model.learn(400)
    assert model._n_updates == 300
    assert not any(torch.equal(a, b) for a, b in zip(before, model.actor.parameters(), strict=True))
    assert set(model.replay_buffer.actions[:400].ravel().tolist()) == {0, 1, 2}


def test_masks_of_the_inner_environment_are_obeyed():
    env = gymnasium.wrappers.TimeLimit(DiscretizeAction(box([-1, -1], [1, 1]), 3), 20)
    model = GSAC("MlpPolicy", env, learning_starts=50, batch_size=16, buffer_size=1000, seed=0, device="cpu")
    model.learn(120, use_masking=True)
    first, second = model.replay_buffer.actions[:120].reshape(120, 2).T
    assert set(first.tolist()) == {0, 1}
    assert set(second.tolist()) == {1, 2}


@pytest.mark.parametrize(
    ("wrappers", "action_space"),
    [
        (None, spaces.Box(-2, 2, (1,))),
        ([], spaces.Box(-2, 2, (1,))),
        ("environments.DictObservations", spaces.Box(-2, 2, (1,))),
        ({"gsac.envs.wrappers.DiscretizeAction": {"bins": 7}}, spaces.MultiDiscrete([7])),
        (
            ["environments.DictObservations", {"gsac.envs.wrappers.DiscretizeAction": {"bins": 3}}],
            spaces.MultiDiscrete([3]),
        ),
    ],
    ids=str,
)
def test_plain_data_names_wrappers_as_in_the_zoo(wrappers, action_space):
    rl_zoo3 = pytest.importorskip("rl_zoo3.utils")
    env = wrap(gymnasium.make("Pendulum-v1"), wrappers)
    zoos = rl_zoo3.get_wrapper_class({"env_wrapper": wrappers})
    theirs = gymnasium.make("Pendulum-v1") if zoos is None else zoos(gymnasium.make("Pendulum-v1"))
    assert env.action_space == theirs.action_space == action_space
    assert env.observation_space == theirs.observation_space


def test_the_first_of_several_wrappers_is_innermost():
    wrappers = [{"gsac.envs.wrappers.DiscretizeAction": {"bins": 3}}, "environments.DictObservations"]
    env = wrap(gymnasium.make("Pendulum-v1"), wrappers)
    assert isinstance(env, DictObservations)
    assert isinstance(env.env, DiscretizeAction)


@pytest.mark.parametrize(
    ("wrappers", "words"),
    [
        ("gsac.envs.wrappers.Discretise", "cannot be imported"),
        ("nowhere.at.All", "cannot be imported"),
        ("DiscretizeAction", "cannot be imported"),
        ("os.system", "is not a gymnasium.Wrapper"),
        ("gsac.GSAC", "is not a gymnasium.Wrapper"),
        ({"gsac.envs.wrappers.DiscretizeAction": 7}, "names no wrapper with its arguments"),
        ({"a.B": {}, "c.D": {}}, "names no wrapper with its arguments"),
        ([7], "names no wrapper with its arguments"),
    ],
    ids=str,
)
def test_names_that_are_no_wrappers_are_refused_with_an_example(wrappers, words):
    with pytest.raises(ValueError, match="env_wrapper: ") as raised:
        wrap(gymnasium.make("Pendulum-v1"), wrappers)
    assert words in str(raised.value)
    assert "DiscretizeAction" in str(raised.value)


def test_episodes_that_a_wrapper_truncates_are_reported_with_the_environments_own_return():
    cut = [
        {"gymnasium.wrappers.ClipReward": {"max_reward": -0.5}},
        {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 30}},
    ]
    env = make_envs("CartPole-v1", 1, 0, cut)
    told, lengths, length = [], [], 0
    env.reset()
    for step in range(300):
        _, (reward,), (done,), (info,) = env.step([step % 2])  # keeps the pole up for more than 30 steps at times
        length += 1
        assert reward == -0.5
        assert ("episode" in info) == done
        if done:
            assert info["episode"]["t"] >= 0
            told.append((info["episode"]["r"], info["episode"]["l"], info["TimeLimit.truncated"]))
            lengths.append(length)
            length = 0
    assert [(float(each), each, each == 30) for each in lengths] == told
    assert {truncated for *_, truncated in told} == {False, True}
    car = make_envs("MountainCar-v0", 1, 0, cut[1:])
    assert evaluate_model(GSAC("MlpPolicy", car), car, 2, deterministic=True).returns == [-30, -30]
    with pytest.raises(ValueError, match="has no Monitor: wrap Monitor"):
        EpisodeStatistics(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize("limit", [None, {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 1_000}}])
def test_a_warning_says_once_that_an_episode_may_not_end(limit, monkeypatch):
    monkeypatch.setattr(wrappers, "WARN_AFTER_STEPS", 30)
    env = make_envs("CliffWalking-v1", 1, 0, limit)
    env.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(29):
            env.step([0])  # into the wall
        assert not caught
        for _ in range(60):
            env.step([0])
    if limit is not None:
        assert not caught
    else:
        (warning,) = caught
        assert "CliffWalking-v1 has gone on for 30 steps, and nothing limits it" in str(warning.message)
        (written,) = re.findall("--env-wrapper '(.*)'", str(warning.message))
        limited = make_envs("CliffWalking-v1", 1, 0, json.loads(written))
        limited.reset()
        assert [limited.step([0])[2][0] for _ in range(1_000)] == [False] * 999 + [True]
