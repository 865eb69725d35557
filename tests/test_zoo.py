"""GSAC in RL Baselines3 Zoo, as a user runs it."""

import os
import subprocess
import sys

import numpy as np
import pytest
from optuna.trial import FixedTrial

from gsac import GSAC, zoo

FAST = ("--hyperparams", "learning_starts:50", "batch_size:16", "--eval-freq", "200", "--eval-episodes", "2")


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "gsac.zoo", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env=os.environ | {"SDL_VIDEODRIVER": "dummy"},
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    result = run("train", "--algo", "gsac", "--env", "CartPole-v1", "-n", "400", "-f", "logs", *FAST, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_training_writes_model_settings_and_evaluations(trained):
    folder = trained / "logs" / "gsac" / "CartPole-v1_1"
    model = GSAC.load(folder / "CartPole-v1.zip", device="cpu")
    assert (model.num_timesteps, model.batch_size, model.learning_starts) == (400, 16, 50)
    settings = (folder / "CartPole-v1" / "config.yml").read_text()
    assert "batch_size" in settings
    assert np.load(folder / "evaluations.npz")["timesteps"].tolist() == [200, 400]


def test_enjoy_plays_a_trained_model(trained):
    # More steps than the longest episode has: the zoo prints the mean reward only when an episode has ended.
    result = run(
        "enjoy", "--algo", "gsac", "--env", "CartPole-v1", "-f", "logs", "-n", "510", "--no-render", cwd=trained
    )
    assert result.returncode == 0, result.stderr
    assert "Mean reward" in result.stdout


def test_the_tuner_runs_trials(tmp_path):
    arguments = (
        "--n-trials",
        "2",
        "--n-startup-trials",
        "2",
        "--n-evaluations",
        "1",
        "--n-eval-envs",
        "1",
        "-n",
        "150",
    )
    result = run(
        "train", "--algo", "gsac", "--env", "CartPole-v1", "-optimize", *arguments, "-f", "logs", *FAST, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "Best trial" in result.stdout


def test_the_values_of_a_trial_become_arguments_of_the_constructor():
    sampled = {
        "one_minus_gamma": 0.01,
        "learning_rate": 5e-4,
        "batch_size_pow": 6,
        "tau": 0.02,
        "temperature": 0.3,
        "target_entropy_fraction": 0.5,
        "target": "soft",
        "net_arch": "big",
        "n_steps": 3,
    }
    arguments = zoo.sample_gsac_params(FixedTrial(sampled), 0, 1, {"using_her_replay_buffer": False})
    assert arguments == zoo.convert_gsac_params(sampled)
    model = GSAC("MlpPolicy", "CartPole-v1", buffer_size=1000, device="cpu", **arguments)
    assert (model.gamma, model.batch_size, model.n_steps, model.policy.net_arch) == (0.99, 64, 3, [256, 256])
    assert model._target_entropy_schedule(1.0) == 0.5
    assert model.target == "soft"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["trian"], "command='trian' is unknown. Did you mean 'train'? Pass one of 'train', 'enjoy'."),
        ([], "command='' is unknown. Pass one of 'train', 'enjoy'."),
    ],
    ids=" ".join,
)
def test_an_unknown_command_is_refused(arguments, error):
    with pytest.raises(SystemExit) as stop:
        zoo.main(arguments)
    assert stop.value.code == f"gsac.zoo: {error}"
