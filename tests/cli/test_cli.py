"""The program ``gsac``: training, evaluation, errors and help."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gsac import GSAC
from gsac.algorithms.arguments import constructor_parameters, table_entry
from gsac.cli import main as cli
from gsac.experiments.models import ALGORITHMS
from gsac.experiments.run import RunConfig, new_run

TRAIN = ("train", "CartPole-v1", "--total-timesteps", "400", "--learning-starts", "100", "--eval-episodes", "2")
BINS = '[{"gsac.envs.wrappers.DiscretizeAction": {%s}}]'


def gsac(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from gsac.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    arguments = (
        "--seed",
        "7",
        "--estimator",
        "gumbel_softmax",
        "--temperature",
        "cosine:1:0.1:200",
        "--target",
        "soft",
    )
    result = gsac(*TRAIN, *arguments, "--policy-kwargs", '{"net_arch": [16]}', cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_a_run_writes_all_its_files_to_its_folder(run):
    folder, result = run
    files = {path.name.split(".")[0] for path in (folder / "logs/CartPole-v1/gsac_1").iterdir()}
    assert files == {"config", "events", "progress", "evaluations", "best_model", "model", "checkpoint"}
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("CartPole-v1: ")
    assert last.endswith(" over 2 episodes, deterministic actions")
    assert float(last.split()[1]) > 0


def test_config_json_holds_the_settings_of_the_run(run):
    config = json.loads((run[0] / "logs/CartPole-v1/gsac_1/config.json").read_text())
    assert (config["env"], config["seed"], config["total_timesteps"]) == ("CartPole-v1", 7, 400)
    given = {
        "learning_starts": 100,
        "estimator": "gumbel_softmax",
        "temperature": "cosine:1:0.1:200",
        "target": "soft",
        "policy_kwargs": {"net_arch": [16]},
    }
    assert config["arguments"] == config["arguments"] | given | {"batch_size": 128}  # defaults are written, too
    assert config["versions"]["torch"].startswith("2.")


def test_the_model_has_the_arguments_of_the_flags(run):
    model = GSAC.load(run[0] / "logs/CartPole-v1/gsac_1/model.zip", device="cpu")
    assert model.estimator == "gumbel_softmax"
    assert model.temperature == "cosine:1:0.1:200"
    assert model.policy.net_arch == [16]
    assert model._n_updates == 300
    assert GSAC.load(run[0] / "logs/CartPole-v1/gsac_1/best_model.zip", device="cpu").num_timesteps <= 400


def test_tensorboard_shows_the_losses_the_evaluations_and_the_entropy(run):
    events = EventAccumulator(str(run[0] / "logs/CartPole-v1/gsac_1"))
    events.Reload()
    shown = set(events.Tags()["scalars"])
    names = ("actor_loss", "critic_loss", "ent_coef", "ent_coef_loss", "entropy", "learning_rate", "q_value")
    assert {f"train/{name}" for name in (*names, "target_entropy", "temperature")} <= shown
    assert {"eval/mean_reward", "rollout/ep_rew_mean"} <= shown
    assert events.Scalars("train/temperature")[-1].value == pytest.approx(0.1, abs=0.02)


def test_evaluation_reads_the_model_and_its_environment_and_gives_the_same_returns_again(run):
    folder = "logs/CartPole-v1/gsac_1"
    results = [gsac("evaluate", folder, "--episodes", "3", "--stochastic", cwd=run[0]) for _ in range(2)]
    assert results[0].returncode == 0, results[0].stderr
    assert results[0].stdout.strip().endswith("over 3 episodes, stochastic actions")
    assert results[0].stdout == results[1].stdout
    deterministic = gsac("evaluate", f"{folder}/best_model.zip", "--episodes", "2", cwd=run[0])
    assert deterministic.stdout.strip().endswith("over 2 episodes, deterministic actions")
    seeds = [gsac("evaluate", folder, "--episodes", "2", "--seed", seed, cwd=run[0]).stdout for seed in ("7", "8")]
    final = run[1].stdout.splitlines()[-1]
    assert [seed.strip() == final for seed in seeds] == [True, False], "the run's own seed repeats its final evaluation"


def test_the_next_run_gets_the_next_folder_and_a_folder_in_use_is_refused(run, tmp_path):
    again = gsac(*TRAIN, "--logdir", str(run[0] / "logs/CartPole-v1/gsac_1"), cwd=tmp_path)
    assert again.returncode == 2
    assert "holds a run already" in again.stderr


def test_runs_that_start_together_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [new_run(RunConfig("gsac", "CartPole-v1", 100, seed=seed)) for seed in range(2)]
    assert [prepared.folder for prepared in runs] == [Path(f"logs/CartPole-v1/gsac_{number}") for number in (1, 2)]


def test_training_with_several_environments_and_without_checkpoints(tmp_path):
    settings = ("--n-envs", "4", "--logdir", "out", "--checkpoint-every", "0", "--no-progress-bar")
    result = gsac(*TRAIN, *settings, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "out" / "checkpoint.ckpt").exists()
    assert GSAC.load(tmp_path / "out" / "model.zip", device="cpu").n_envs == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "CartPol-v1"], "CartPole"),
        (["train", "CartPole-v99"], "CartPole"),
        (["train", "CartPole-v1", "--sed", "3"], "Did you mean '--seed'?"),
        (["train", "CartPole-v1", "--checkpoint-every", "-1"], "pass 1 or more, or 0 for none"),
        (["train", "--resume", "nowhere"], "There is no nowhere/checkpoint.ckpt to go on from"),
        (["train", "--resume", "nowhere", "--seed", "3"], "'--seed' is not an option"),
        (["train", "CartPole-v1", "--temprature", "3"], "Did you mean '--temperature'?"),
        (["train", "CartPole-v1", "--seed", "x"], "--seed"),
        (["train", "CartPole-v1", "--seed", "-1"], "--seed=-1 is out of range: pass a whole number of at least 0"),
        (["evaluate", "nowhere", "--seed", "-1"], "--seed=-1 is out of range"),
        (["train", "CartPole-v1", "--train-freq", "0"], "train_freq=0 is out of range"),
        (["train", "CartPole-v1", "--env-wrapper", "gsac.envs.wrappers.X"], "is not JSON"),
        (["train", "CartPole-v1", "--estimator", "gumbel"], "gumbel_softmax"),
        (["train", "CartPole-v1", "--algo", "sac"], "gsac"),
        (["train", "CartPole-v1", "--temperature", "-1"], "temperature=-1.0"),
        (["train", "CartPole-v1", "--temperature", "cosine:1"], "temperature='cosine:1'"),
        (["train", "CartPole-v1", "--n-envs", "0"], "--n-envs=0"),
        (["train", "CartPole-v1", "--device", "gpu"], "device 'gpu'"),
        (["train", "CartPole-v1", "--policy-kwargs", "{"], "--policy-kwargs"),
        (["train", "CartPole-v1", "--policy-kwargs", '{"n_critics": 0}'], "n_critics=0"),
        (["train", "Pendulum-v1"], """--env-wrapper '{"gsac.envs.wrappers.DiscretizeAction": {"bins": 7}}'"""),
        (["train", "Blackjack-v1"], "--env-wrapper '\"gymnasium.wrappers.FlattenObservation\"'"),
        (["train"], "ENV"),
        (["trian", "CartPole-v1"], "Did you mean 'train'?"),
        (["evaluate", "nowhere"], "no model at nowhere"),
        (["evaluate", "nowhere", "--deterministic"], "'--deterministic' is not an option. See gsac evaluate --help."),
        (["evaluate", "nowhere", "--stochastics"], "Did you mean '--stochastic'?"),
        (["train", "Taxi-v3", "--preset"], "There is no preset for Taxi-v3: there are presets for CartPole-v1, "),
        (["train", "CartPole-v1", "--preset", "--algo", "reinforce"], "has settings of gsac, not of reinforce"),
        (["train", "CartPole-v1", "--preset", "--sed", "3"], "Did you mean '--seed'?"),
        (["train", "--preset"], "ENV"),
        (["train", "--resume", "nowhere", "--preset"], "'--preset' is not an option"),
        (["train", "Pendulum-v1", "--env-wrapper", "gsac"], "--env-wrapper"),
        (["train", "Pendulum-v1", "--env-wrapper", '"os.system"'], "is not a gymnasium.Wrapper"),
        (["train", "CartPole-v1", "--env-wrapper", BINS % '"bins": 3'], "cannot cut the action space Discrete(2)"),
        (["train", "Pendulum-v1", "--env-wrapper", BINS % '"bins": 1'], "pass a whole number of at least 2"),
        (["train", "Pendulum-v1", "--env-wrapper", BINS % '"bin": 3'], "unexpected keyword argument 'bin'"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_end_with_one_line_and_exit_code_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    assert error.startswith("gsac: error: ")
    assert message in error
    assert not re.search("--- |[─│]|Argument helptext", error)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_saves_its_model(tmp_path):
    command = "from gsac.cli.main import main; main()"
    arguments = ["train", "CartPole-v1", "--total-timesteps", "1000000", "--logdir", "out", "--no-progress-bar"]
    process = subprocess.Popen([sys.executable, "-c", command, *arguments], cwd=tmp_path, stderr=subprocess.PIPE)
    while not (tmp_path / "out" / "progress.csv").exists() or not (tmp_path / "out" / "progress.csv").stat().st_size:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.decode().strip().endswith("gsac: interrupted; the model so far is in out")
    assert GSAC.load(tmp_path / "out" / "model.zip", device="cpu").num_timesteps > 0


def test_a_killed_run_is_resumed_to_the_weights_of_a_run_without_a_stop(tmp_path):
    settings = ("--seed", "7", "--checkpoint-every", "50", "--no-progress-bar")
    whole = gsac(*TRAIN, *settings, "--logdir", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-c", "from gsac.cli.main import main; main()", *TRAIN, *settings, "--logdir", "killed"]
    process = subprocess.Popen(command, cwd=tmp_path)
    while not (tmp_path / "killed" / "checkpoint.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "model.zip").exists()
    (tmp_path / "killed").rename(tmp_path / "moved")
    resumed = gsac("train", "--resume", "moved", "--no-progress-bar", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]
    assert not (tmp_path / "killed").exists(), "files go to the folder's new place"
    models = [GSAC.load(tmp_path / folder / "model.zip", device="cpu") for folder in ("whole", "moved")]
    assert models[0].num_timesteps == models[1].num_timesteps == 400
    for a, b in zip(models[0].policy.parameters(), models[1].policy.parameters(), strict=True):
        assert a.equal(b)
    for name in ("timesteps", "results"):
        assert np.array_equal(*(np.load(tmp_path / folder / "evaluations.npz")[name] for folder in ("whole", "moved")))
    assert len(list((tmp_path / "moved").glob("progress*.csv"))) == 2
    again = gsac("train", "--resume", "moved", cwd=tmp_path)
    assert again.returncode == 2
    assert "has made all of its 400 steps" in again.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_an_error_of_the_parser_is_one_sentence_in_a_terminal_of_any_encoding(encoding, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)  # tyro draws its panels with other characters for each
    result = gsac("train", "CartPole-v1", "--gamma", cwd=tmp_path)
    expected = "gsac: error: Missing value for argument '--gamma'. Expected 1 values. See gsac train --help.\n"
    assert (result.returncode, result.stderr) == (2, expected)


def test_help_names_every_command_and_the_flags_of_each(capsys):
    for arguments, words in (
        (["--help"], ["train", "evaluate", "export", "compare"]),
        (["train", "--help"], ["--n-envs", "--checkpoint-every"]),
        (["evaluate", "--help"], ["--episodes", "--stochastic"]),
        (["export", "--help"], ["--onnx", "--stochastic", "--masks", "--weights"]),
        (["compare", "--help"], ["--algos", "--estimators", "--seeds"]),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        shown = capsys.readouterr().out
        assert stop.value.code == 0
        assert all(word in shown for word in words)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_help_describes_every_argument_of_the_constructor_by_its_docstring(algo, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--algo", algo, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    docs = inspect.getdoc(ALGORITHMS[algo])
    for name, parameter in constructor_parameters(ALGORITHMS[algo]).items():
        argument, flag = table_entry(name), f"--{name.replace('_', '-')}"
        if argument.flag and name != "replay_buffer_class":  # a class cannot be a flag
            text = " ".join(re.search(rf":param {name}: (.*?)\n:", docs, re.DOTALL)[1].split())
            plain = re.sub(r":\w+:(?=`)|`", "", text)
            names = f"names: {', '.join(argument.names)}; " if argument.names else ""
            default = "null" if name.endswith("_kwargs") else parameter.default
            description = re.escape(f"{plain} ({names}default: {default})")
            assert re.search(rf"{flag}\b.*\n?.*{description}", shown)
            assert not argument.choices or f"{flag} {{{','.join(argument.choices)}}}" in shown
    assert ("--checkpoint-every" in shown) == (algo == "gsac")
