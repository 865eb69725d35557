"""Presets: one file for the zoo, the command line and Python."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import fields
from importlib.metadata import distributions
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium import spaces

from gsac import GSAC, Linear, zoo
from gsac.cli import main as cli
from gsac.cli.train import train_command
from gsac.experiments import presets
from gsac.experiments.models import run_config
from gsac.experiments.presets import FILE, KEYS, preset

ROOT = Path(__file__).parents[2]
NAMES = [name for name in presets.read() if name != presets.DEFAULT]
WRAPPED = '[{"gsac.envs.wrappers.DiscretizeAction": {"bins": 3}}]'
PENDULUM = ("train", "Pendulum-v1", "--env-wrapper", WRAPPED, "--total-timesteps", "300", "--learning-starts", "50")
QUICK = ("--eval-episodes", "1", "--batch-size", "16", "--checkpoint-every", "100", "--seed", "7", "--no-progress-bar")


def written(folder, settings):
    file = folder / "mine.yml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.parametrize("name", NAMES)
def test_each_preset_builds_its_model(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file there
    tuned = preset(f"gsac.envs.minatar:{name}" if "MinAtar" in name else name)
    try:
        env = tuned.make_env(seed=0)
    except (gymnasium.error.DependencyNotInstalled, gymnasium.error.NamespaceNotFound, ImportError) as error:
        pytest.skip(f"{name} cannot be made here: {error}")
    model = GSAC(tuned.policy, env, **tuned.arguments | {"buffer_size": 1000, "device": "cpu"})
    assert model.n_envs == tuned.n_envs
    for argument, value in tuned.arguments.items():
        assert argument in ("buffer_size", "learning_rate", "train_freq") or getattr(model, argument) == value
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_starts_from_each_preset(name):
    command = cli.parse(["train", f"some.module:{name}", "--preset"])
    given = {f.name: getattr(command, f.name) for f in fields(command)}
    assert given == given | preset(name).flags()
    plain = cli.parse(["train", name, "--no-preset"])
    assert vars(plain) == vars(cli.parse(["train", name]))
    assert (plain.total_timesteps, plain.env_wrapper) == (20_000, None)


def test_every_key_of_a_preset_is_a_flag():
    flags = {f.name for f in fields(train_command("gsac"))}
    assert set(KEYS) - {"n_timesteps"} <= flags


def test_the_cheetah_is_cut_into_seven_values_for_each_joint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("mujoco", reason='needs pip install "gsac[mujoco]"')
    env = preset("HalfCheetah-v5").make_env()
    assert env.action_space == spaces.MultiDiscrete([7] * 6)
    env.close()


@pytest.mark.parametrize(
    ("name", "least"), [("LunarLander-v3", -20.0), ("LunarLanderContinuous-v3", -20.0), ("BipedalWalker-v3", -10.0)]
)
def test_a_crash_costs_less_in_training_and_all_of_it_in_the_return(name, least):
    pytest.importorskip("Box2D", reason='needs pip install "gsac[box2d]"')
    env = preset(name).make_env(seed=0)
    env.action_space.seed(0)
    env.reset()
    rewards, done = [], False
    while not done:
        _, (reward,), (done,), (info,) = env.step(np.array([env.action_space.sample()]))
        rewards.append(float(reward))
    assert not info["TimeLimit.truncated"]
    assert rewards[-1] == least
    assert info["episode"]["r"] == pytest.approx(sum(rewards) - 100.0 - least, abs=10.0)  # others may be cut, too
    env.close()


def test_the_file_names_each_environment_once_and_holds_plain_data():
    names = re.findall(r"^([^\s#][^:]*):", FILE.read_text(), re.MULTILINE)
    assert sorted(names) == sorted(presets.read())  # of two settings for one, YAML would take the last
    assert yaml.safe_load(yaml.safe_dump(presets.read())) == presets.read()


def test_the_zoos_own_words_become_ours(tmp_path):
    settings = {
        "n_timesteps": 1e5,
        "policy": "MlpPolicy",
        "n_envs": 2,
        "learning_rate": "lin_1.5e-3",
        "train_freq": [2, "episode"],
        "policy_kwargs": {"net_arch": [32]},
        "target_entropy": "linear:0.8:0.2",
    }
    tuned = preset("CartPole-v1", written(tmp_path, {"CartPole-v1": settings}))
    assert (tuned.total_timesteps, tuned.n_envs, tuned.policy) == (100_000, 2, "MlpPolicy")
    assert tuned.arguments == {
        "learning_rate": "linear:1.5e-3:0",
        "train_freq": (2, "episode"),
        "policy_kwargs": {"net_arch": [32]},
        "target_entropy": "linear:0.8:0.2",
    }
    single = GSAC(tuned.policy, "CartPole-v1", buffer_size=1000, device="cpu", **tuned.arguments)
    assert [single.lr_schedule(p) for p in (1.0, 0.5, 0.0)] == [1.5e-3, 7.5e-4, 0.0]
    assert single._target_entropy_schedule == Linear(0.8, 0.2)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("normalize", True, "the key='normalize' is unknown"),
        ("frame_stack", 4, "the key='frame_stack' is unknown"),
        ("n_step", 3, "Did you mean 'n_steps'?"),
        ("replay_buffer_class", "HerReplayBuffer", "the key='replay_buffer_class' is unknown"),
        ("seed", 3, "the key='seed' is unknown"),
        ("learning_rate", "1e-3", "write a number with a point"),  # a string to YAML 1.1
        ("learning_rate", "linear:0.001:0", "or lin_0.001"),
        ("n_envs", 0, "n_envs=0 is out of range"),
        ("n_timesteps", "5e4", "n_timesteps='5e4' is not a whole number"),
    ],
)
def test_what_is_not_implemented_is_refused_by_its_name(key, value, words, tmp_path):
    file = written(tmp_path, {"A-v0": {"n_timesteps": 10, "policy": "MlpPolicy", key: value}})
    with pytest.raises(ValueError, match=r"mine.yml: A-v0: ") as raised:
        preset("A-v0", file)
    assert words in str(raised.value)


def test_a_file_that_holds_no_presets_is_refused(tmp_path):
    file = tmp_path / "mine.yml"
    for text, words in (("a: [", "is not YAML"), ("- a", "no settings by environment"), ("a: 3", "no settings by")):
        file.write_text(text)
        with pytest.raises(ValueError, match=words):
            preset("a", file)
    with pytest.raises(ValueError, match="n_timesteps is missing"):
        preset("a", written(tmp_path, {"a": {"policy": "MlpPolicy"}}))


@pytest.mark.parametrize("name", ["default", "Nowhere-v0"])
def test_an_environment_without_a_preset_is_answered_with_those_that_have_one(name):
    with pytest.raises(ValueError, match=f"no preset for {name}: there are presets for CartPole-v1, "):
        preset(name)


@pytest.fixture(scope="module")
def zoos_reading(tmp_path_factory):
    """What the zoo makes of a file of settings, for one environment."""
    pytest.importorskip("rl_zoo3")
    from rl_zoo3.exp_manager import ExperimentManager

    import gsac.envs.minatar  # noqa: F401 - which registers its games

    zoo.register()

    def reading(name, config):
        folder = str(tmp_path_factory.mktemp("zoo"))
        manager = ExperimentManager(argparse.Namespace(), "gsac", name, folder, config=config, verbose=0)
        hyperparams, saved = manager.read_hyperparameters()
        arguments, wrapper, *_ = manager._preprocess_hyperparams(dict(hyperparams))
        return dict(saved), arguments, wrapper, manager

    return reading


@pytest.mark.parametrize("name", NAMES)
def test_the_zoo_reads_the_same_from_the_file_and_from_the_module(name, zoos_reading):
    saved, arguments, wrapper, manager = zoos_reading(name, str(FILE))
    assert saved == zoos_reading(name, "gsac.zoo")[0] == zoo.hyperparams[name] == presets.read()[name]
    tuned = preset(name)
    assert (manager.n_timesteps, manager.n_envs, arguments.pop("policy")) == (
        tuned.total_timesteps,
        tuned.n_envs,
        tuned.policy,
    )
    assert (wrapper is None) == (tuned.env_wrapper is None)
    assert arguments.keys() == tuned.arguments.keys()
    for argument, value in arguments.items():
        assert argument == "learning_rate" or value == tuned.arguments[argument]


def test_the_zoo_trains_and_plays_the_wrapped_environment(tmp_path):
    wrapper = {"gsac.envs.wrappers.DiscretizeAction": {"bins": 7}}
    settings = {
        "n_timesteps": 300,
        "policy": "MlpPolicy",
        "learning_starts": 100,
        "env_wrapper": [wrapper],
        "n_envs": 2,
    }
    written(tmp_path, {"Pendulum-v1": settings | {"learning_rate": "lin_0.001"}})
    own = ("-conf", "mine.yml", "--eval-freq", "150", "--eval-episodes", "1")
    for command in (("train", *own), ("enjoy", "-n", "50", "--no-render", "--exp-id", "1")):
        arguments = [command[0], "--algo", "gsac", "--env", "Pendulum-v1", "-f", "logs", *command[1:]]
        result = subprocess.run(
            [sys.executable, "-m", "gsac.zoo", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
    model = GSAC.load(tmp_path / "logs/gsac/Pendulum-v1_1/Pendulum-v1.zip", device="cpu")
    assert model.action_space == spaces.MultiDiscrete([7])


def test_flags_win_over_the_preset_and_the_run_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ("--total-timesteps", "150", "--learning-starts", "100", "--policy-kwargs", '{"net_arch": [8]}')
    cli.main(["train", "--seed", "3", "CartPole-v1", "--preset", *given, "--eval-episodes", "1", "--no-progress-bar"])
    tuned = preset("CartPole-v1")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gsac: preset CartPole-v1: ")]
    assert len(said) == 1
    assert "total_timesteps=150" in said[0].split("; given instead: ")[1]
    config = json.loads((tmp_path / "logs/CartPole-v1/gsac_1/config.json").read_text())
    assert (config["preset"], config["total_timesteps"], config["policy"]) == ("CartPole-v1", 150, tuned.policy)
    assert config["arguments"] == config["arguments"] | tuned.arguments | {
        "policy_kwargs": {"net_arch": [8]},
        "learning_starts": 100,
    }


def test_the_line_lists_what_holds_and_what_was_given_instead():
    tuned = presets.Preset("A-v0", "A-v0", 10, "MlpPolicy", {"n_steps": 3, "policy_kwargs": {"n_critics": 2}}, n_envs=4)
    kept = 'preset A-v0: n_steps=3, policy_kwargs={"n_critics": 2}, n_envs=4, policy=MlpPolicy, total_timesteps=10'
    assert tuned.summary({"n_steps": 3, "gamma": 0.9}) == kept
    assert tuned.summary({"n_envs": 1, "env_wrapper": "a.B"}) == (
        kept.replace(" n_envs=4,", "") + "; given instead: n_envs=1, env_wrapper=a.B"
    )


def test_help_shows_the_presets_values(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.parse(["train", "LunarLander-v3", "--preset", "--help"])
    assert stop.value.code == 0
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert (
        f"--total-timesteps INT Steps in the environment. (default: {preset('LunarLander-v3').total_timesteps})"
        in shown
    )
    assert "--policy-kwargs and --env-wrapper replace the whole of the preset's" in shown


def test_the_wrapped_environment_is_there_again_to_evaluate_to_export_and_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main([*PENDULUM, *QUICK, "--logdir", "whole"])
    whole = capsys.readouterr().out.splitlines()[-1]
    assert run_config(tmp_path / "whole/model.zip")["env_wrapper"] == json.loads(WRAPPED)

    cli.main(["evaluate", "whole", "--episodes", "2"])
    assert re.fullmatch(r"Pendulum-v1: -\d+\.\d\d .* over 2 episodes, deterministic actions\n", capsys.readouterr().out)
    cli.main(["export", "whole", "--weights", "pendulum.safetensors"])
    exported = GSAC.from_weights("pendulum.safetensors")
    assert exported.action_space == spaces.MultiDiscrete([3])

    command = [sys.executable, "-c", "from gsac.cli.main import main; main()", *PENDULUM, *QUICK, "--logdir", "killed"]
    process = subprocess.Popen(command)
    while not (tmp_path / "killed" / "checkpoint.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "model.zip").exists()
    cli.main(["train", "--resume", "killed", "--no-progress-bar"])
    assert capsys.readouterr().out.splitlines()[-1] == whole
    models = [GSAC.load(tmp_path / folder / "model.zip", device="cpu") for folder in ("whole", "killed")]
    for a, b in zip(*(model.policy.parameters() for model in models), strict=True):
        assert a.equal(b)
    observation = np.array([1, 0, 0], np.float32)
    assert models[0].predict(observation, deterministic=True)[0] == exported.predict(observation, deterministic=True)[0]


def test_a_run_of_before_there_were_wrappers_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ("train", "CartPole-v1", "--total-timesteps", "60", "--learning-starts", "50")
    cli.main([*arguments, *QUICK, "--logdir", "out"])
    config = run_config(tmp_path / "out/model.zip")
    for name in ("env_wrapper", "preset"):
        del config[name]
    (tmp_path / "out/config.json").write_text(json.dumps(config))
    cli.main(["evaluate", "out", "--episodes", "1"])
    with pytest.raises(SystemExit):
        cli.main(["train", "--resume", "out"])
    assert "has made all of its" in capsys.readouterr().err  # read, and refused for its own reason


def test_the_file_ships_in_the_wheel(tmp_path):
    if not any(int(found.version.split(".")[0]) >= 77 for found in distributions(name="setuptools")):
        pytest.skip("setuptools 77, which builds the wheel, is not installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "gsac", tmp_path / "gsac", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    result = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as members:
        assert members.read("gsac/experiments/presets.yml") == FILE.read_bytes()
