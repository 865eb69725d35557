"""MinAtar's games, as SB3 and the command line see them."""

import copy
import json
import pickle
import subprocess
import sys
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN
from stable_baselines3.common.vec_env import VecTransposeImage

from gsac import GSAC, SmallCNN
from gsac.cli import main as cli
from gsac.envs.minatar import GAMES
from gsac.envs.minatar import make as registered
from gsac.experiments import compare
from gsac.experiments.peers import PEERS
from gsac.experiments.settings import with_readable_extractor

PLANES_AND_ACTIONS = {
    "Asterix": (4, 5),
    "Breakout": (4, 3),
    "Freeway": (7, 3),
    "Seaquest": (10, 6),
    "SpaceInvaders": (6, 4),
}
BREAKOUT = "gsac.envs.minatar:gsac/MinAtar-Breakout-v1"
QUICK = ("--total-timesteps", "60", "--eval-episodes", "1")


def make(game, **kwargs):
    return gymnasium.make(f"gsac.envs.minatar:gsac/MinAtar-{game}-v1", **kwargs)


def episodes(env, seed, n_steps=300):
    """The transitions after a reset with this seed, by a fixed series of actions."""
    actions = np.random.default_rng(5).integers(env.action_space.n, size=n_steps)
    observation, _ = env.reset(seed=seed)
    seen = [(observation, 0.0, False)]
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append((observation, reward, terminated))
        if terminated or truncated:
            env.reset()
    return seen


def same(a, b):
    return all(x[0].tobytes() == y[0].tobytes() and x[1:] == y[1:] for x, y in zip(a, b, strict=True))


def test_all_games_are_there():
    assert GAMES.keys() == PLANES_AND_ACTIONS.keys()
    assert {f"gsac/MinAtar-{game}-v1" for game in GAMES} <= gymnasium.registry.keys()


@pytest.mark.parametrize("game", GAMES)
def test_sb3_sees_an_image_with_as_many_channels_as_there_are_planes(game):
    planes, actions = PLANES_AND_ACTIONS[game]
    env = make_vec_env(f"gsac.envs.minatar:gsac/MinAtar-{game}-v1", 1, seed=0)
    assert is_image_space(env.observation_space)
    assert env.observation_space.shape == ((10, 10, 10) if game == "Seaquest" else (10, 10, planes))
    assert env.action_space == gymnasium.spaces.Discrete(actions)
    model = GSAC("CnnPolicy", env, buffer_size=200, device="cpu")
    assert isinstance(model.get_env(), VecTransposeImage) is (game != "Seaquest")
    assert model.observation_space.shape == (planes, 10, 10)
    game_state = env.envs[0].unwrapped.game.state
    observations = model.get_env().reset()
    for _ in range(5):
        assert observations.dtype == np.uint8
        assert np.array_equal(observations[0], 255 * game_state().transpose(2, 0, 1))
        assert type(model.actor.features_extractor) is SmallCNN
        observations, *_ = model.get_env().step(np.array([1]))


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped", "ignore:The minimal resolution")
@pytest.mark.parametrize("game", GAMES)
def test_both_checkers_pass(game):
    check_env(registered(GAMES[game]), skip_render_check=True)
    sb3_check_env(make(game))


@pytest.mark.parametrize("game", GAMES)
def test_after_a_seed_episodes_do_not_depend_on_those_before(game):
    new = episodes(make(game), seed=3)
    assert len({observation.tobytes() for observation, *_ in new}) > 50
    for before in range(5):  # actions that could be repeated in the first step
        env = make(game)
        env.reset(seed=before)
        for _ in range(before + 1):
            env.step(before % env.action_space.n)
        assert same(episodes(env, seed=3), new)
    assert not same(episodes(make(game), seed=4), new)


@pytest.mark.parametrize("game", GAMES)
def test_observations_stay_as_they_were_given(game):
    env = make(game)
    seen = [env.reset(seed=0)[0]]
    copies = [seen[0].copy()]
    for _ in range(30):
        observation, _, terminated, _, _ = env.step(env.action_space.n - 1)
        seen.append(observation)
        copies.append(observation.copy())
        if terminated:
            env.reset()
    assert all(np.array_equal(a, b) for a, b in zip(seen, copies, strict=True))
    assert not any(np.shares_memory(a, b) for a, b in pairwise(seen))
    assert len({observation.tobytes() for observation in seen}) > 5
    assert {0, 255} == set(np.unique(seen))
    assert all(observation.flags.c_contiguous for observation in seen)


def test_a_copy_and_a_pickled_one_go_on_as_the_environment_does():
    env = make("SpaceInvaders")
    env.reset(seed=0)
    for _ in range(20):
        env.step(1)
    others = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    for _ in range(50):
        observation, reward, terminated, *_ = env.step(2)
        for other in others:
            theirs = other.step(2)
            assert np.array_equal(theirs[0], observation)
            assert theirs[1:3] == (reward, terminated)
        if terminated:
            break


def test_actions_stick_unless_it_is_said_otherwise():
    def moved(**kwargs):
        env = make("Freeway", **kwargs)
        assert env.unwrapped.game.sticky_action_prob == kwargs.get("sticky_action_prob", 0.1)
        stuck = 0
        env.reset(seed=0)
        for step in range(1000):
            env.step(step % 2)
            stuck += env.unwrapped.game.last_action != env.unwrapped.action_set[step % 2]
        return stuck

    assert moved(sticky_action_prob=0.0) == 0
    assert 60 < moved() < 140  # 100 expected, with a standard deviation of 9


def test_episodes_are_cut_off_after_5000_steps_or_the_number_that_is_given():
    assert make("Freeway").spec.max_episode_steps == 5000
    env = make("Seaquest", max_episode_steps=7)
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(7)]
    assert ends == [(False, False)] * 6 + [(False, True)]


def test_the_commands_train_evaluate_and_export(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ("--learning-starts", "30", "--buffer-size", "200", "--seed", "0", "--device", "cpu")
    cli.main(["train", BREAKOUT, *QUICK, *small, "--logdir", "out", "--no-progress-bar"])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["env"], config["policy"]) == (BREAKOUT, "CnnPolicy")
    trained = capsys.readouterr().out.splitlines()[-1]
    assert trained.startswith(f"{BREAKOUT}: ")
    cli.main(["evaluate", "out", "--episodes", "2"])
    assert capsys.readouterr().out.startswith(f"{BREAKOUT}: ")
    cli.main(["export", "out", "--onnx", "policy.onnx"])
    import onnxruntime

    model = GSAC.load(tmp_path / "out" / "model.zip", device="cpu")
    observations = np.stack([seen[0] for seen in episodes(make("Breakout"), seed=0, n_steps=50)])
    (actions,) = onnxruntime.InferenceSession("policy.onnx").run(None, {"observation": observations})
    assert np.array_equal(actions, model.predict(observations, deterministic=True)[0])


@pytest.mark.parametrize("algo", compare.algorithms())
def test_every_algorithm_can_be_compared_on_it(algo):
    settings = {} if algo in ("reinforce", "ppo") else {algo: {"buffer_size": 200}}
    (contender,) = compare.contenders(BREAKOUT, [algo], [], settings)
    assert compare.why_not(contender, BREAKOUT) is None
    model, eval_env = compare.build(contender, BREAKOUT, seed=0)
    assert any(isinstance(module, SmallCNN) for module in model.policy.modules())
    assert not any(isinstance(module, NatureCNN) for module in model.policy.modules())
    assert eval_env.observation_space == model.observation_space
    if algo in PEERS:
        named = {"policy_kwargs": {"features_extractor_class": FlattenExtractor}}
        assert with_readable_extractor(named, model.observation_space) == named
        larger = gymnasium.spaces.Box(0, 255, (3, 84, 84), np.uint8)
        assert with_readable_extractor({"gamma": 0.9}, larger) == {"gamma": 0.9}


def test_the_command_compares_on_it_in_processes_of_their_own(tmp_path, capsys):
    settings = json.dumps({"dqn": {"learning_starts": 50, "buffer_size": 200}})
    command = ["compare", BREAKOUT, "--algos", "dqn", *QUICK, "--seeds", "1", "--jobs", "1", "--arguments", settings]
    cli.main([*command, "--logdir", str(tmp_path)])
    (line,) = (tmp_path / "runs.jsonl").read_text().splitlines()
    run = json.loads(line)
    assert (run["algo"], run["env"], len(run["final_returns"])) == ("dqn", BREAKOUT, 20)
    assert "| dqn |" in capsys.readouterr().out


MISSING = """
import sys
sys.modules["minatar"] = None
from gsac.cli import main as cli
cli.main(["train", "gsac.envs.minatar:gsac/MinAtar-Breakout-v1"])
"""


def test_without_the_package_the_command_names_it_in_one_line(tmp_path):
    result = subprocess.run([sys.executable, "-c", MISSING], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.strip().endswith('Write: pip install "gsac[minatar]"')
