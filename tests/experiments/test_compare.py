"""Comparisons, as a user runs them: in processes of their own."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from inspect import signature
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from gsac.cli import main as cli
from gsac.experiments import compare
from gsac.experiments.evaluation import EvaluateAtSteps
from gsac.experiments.peers import PEERS, ZOO
from gsac.experiments.processes import Failure, run_in_processes
from gsac.experiments.run_file import RunFile

GSAC = [sys.executable, "-c", "from gsac.cli.main import main; main()"]
TINY = ("--total-timesteps", "400", "--eval-episodes", "1", "--jobs", "1", "--logdir", "out")
SMALL_GSAC = ("--arguments", '{"gsac": {"learning_starts": 300}}')

ENVIRONMENTS = """
import os
import gymnasium
import numpy as np
from gymnasium import spaces

class Two(gymnasium.Env):
    observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)

    def __init__(self, action_space, breaks=False):
        self.action_space, self.breaks = action_space, breaks

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.breaks and seed == 1 and not os.path.exists("mended"):
            raise RuntimeError("the motor is broken")
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, False, self.steps == 5, {}

gymnasium.register("Breaks-v0", lambda: Two(spaces.Discrete(2), breaks=True))
gymnasium.register("Several-v0", lambda: Two(spaces.MultiDiscrete([2, 3])))
gymnasium.register("Many-v0", lambda: Two(spaces.MultiBinary(20)))
gymnasium.register("FromOne-v0", lambda: Two(spaces.Discrete(2, start=1)))
"""


def environment(*paths):
    return os.environ | {"COLUMNS": "200", "PYTHONPATH": os.pathsep.join([*map(str, paths), *sys.path])}


def gsac(*arguments, cwd, paths=()):
    return subprocess.run(
        [*GSAC, "compare", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env=environment(*paths),
        check=False,
    )


@pytest.fixture
def module(tmp_path):
    (tmp_path / "two_parts.py").write_text(ENVIRONMENTS)
    return tmp_path


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Two algorithms on seed 0, in a folder that a killed process has left an unfinished line in."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "out").mkdir()
    (folder / "out" / "runs.jsonl").write_bytes(b'{"env": "CartPole-v1", "algo": "gs')
    result = gsac("CartPole-v1", "--algos", "gsac,ppo", "--seeds", "1", *SMALL_GSAC, *TINY, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def lines(folder):
    """Those that are whole."""
    found = (folder / "out" / "runs.jsonl").read_bytes().splitlines(keepends=True)
    return [line for line in found if line.endswith(b"}\n")]


def test_each_run_has_a_line_with_everything_that_it_depends_on(first):
    runs = [json.loads(line) for line in lines(first[0])]
    assert [(run["label"], run["seed"]) for run in runs] == [("gsac", 0), ("ppo", 0)]
    for run in runs:
        assert [point["step"] for point in run["curve"]] == list(range(20, 401, 20))
        assert len(run["final_returns"]) == 20
        assert run["final"] == np.mean(run["final_returns"])
        assert run["cpu_seconds"] > 0
        assert run["versions"]["torch"].startswith("2.")
    of_gsac, of_ppo = runs
    assert of_gsac["estimator"] == "auto"
    assert of_gsac["settings_from"] == "defaults, learning_starts=300"
    assert of_gsac["settings"]["arguments"]["learning_starts"] == 300
    assert of_gsac["settings"]["arguments"]["batch_size"] == 128  # the defaults stand there as well
    assert of_ppo["settings_from"] == "zoo 2.9.2, for 100,000 steps"
    assert (of_ppo["settings"]["n_envs"], of_ppo["settings"]["arguments"]["n_epochs"]) == (8, 20)


def test_a_picture_and_a_table_come_out(first):
    folder, result = first
    assert (folder / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = (folder / "out" / "table.md").read_text()
    assert table in result.stdout
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    assert [row[0] for row in rows] == ["algorithm", "---", "gsac", "ppo"]
    assert rows[0][5] == "steps to 475, median"
    assert rows[3][1:3] == ["zoo 2.9.2, for 100,000 steps", "0"]
    assert rows[3][3] == f"{json.loads(lines(folder)[1])['final']:.4g}"


def test_only_what_is_missing_is_run_again(first):
    folder, _ = first
    before = lines(folder)
    more = gsac("CartPole-v1", "--algos", "ppo", "--seeds", "2", *TINY, cwd=folder)
    assert more.returncode == 0, more.stderr
    assert "1 of 2 runs are in" in more.stdout
    assert "[1/1] ppo, seed 1: " in more.stdout
    after = lines(folder)
    assert after[:2] == before
    assert [(json.loads(line)["algo"], json.loads(line)["seed"]) for line in after[2:]] == [("ppo", 1)]
    table = (folder / "out" / "table.md").read_text().splitlines()
    assert len(table) == 3  # of the present command's algorithms
    assert "| 0, 1 |" in table[2]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    """Of all its threads."""
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_ends_early_leaves_whole_lines_and_no_children(how, tmp_path):
    long = ("--algos", "dqn", "--seeds", "2", "--total-timesteps", "100000000", "--eval-episodes", "1")
    out = tmp_path / "out" / "runs.jsonl"
    process = subprocess.Popen(
        [*GSAC, "compare", "CartPole-v1", *long, "--jobs", "1", "--logdir", "out"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not out.parent.exists() or not children(process.pid):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.5 if how == signal.SIGKILL else 0.0)  # during the training, or before it
    below = children(process.pid)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, error = process.communicate(timeout=20)
    deadline = time.time() + 10
    while any(map(alive, below)):
        assert time.time() < deadline, "a child goes on"
        time.sleep(0.05)
    assert RunFile(out).read() == []
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "to resume: the same command" in error
        assert error.count("\n") == 1


def test_a_failed_run_is_told_at_the_end_and_tried_again_next_time(module):
    command = ("two_parts:Breaks-v0", "--algos", "ppo", "--seeds", "2")
    small = ("--arguments", '{"ppo": {"n_steps": 200}}')
    failed = gsac(*command, *small, *TINY, cwd=module, paths=[module])
    assert failed.returncode == 1
    assert "gsac: failed: ppo, seed 1: RuntimeError: the motor is broken (" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert [json.loads(line)["seed"] for line in lines(module)] == [0]
    assert "| 0 | 5 | 5 |" in (module / "out" / "table.md").read_text()
    (module / "mended").touch()
    again = gsac(*command, *small, *TINY, cwd=module, paths=[module])
    assert again.returncode == 0, again.stderr
    assert [json.loads(line)["seed"] for line in lines(module)] == [0, 1]


@pytest.fixture
def several(module, monkeypatch):
    """The name of an environment with MultiDiscrete actions."""
    monkeypatch.chdir(module)
    monkeypatch.syspath_prepend(module)
    yield "two_parts:Several-v0"
    for name in ("Breaks-v0", "Several-v0", "Many-v0", "FromOne-v0"):
        gymnasium.registry.pop(name, None)
    sys.modules.pop("two_parts", None)


def test_what_does_not_fit_the_actions_is_left_out_before_anything_trains(several, capsys):
    named = compare.contenders(several, ["gsac", "dqn", "ppo"], [], {})
    reasons = {contender.label: compare.why_not(contender, several) for contender in named}
    assert reasons == {"gsac": None, "ppo": None, "dqn": reasons["dqn"]}
    assert "MultiDiscrete([2 3])" in reasons["dqn"]
    (enumerating,) = compare.contenders("two_parts:Many-v0", ["gsac"], ["expected"], {})
    assert "too many to enumerate" in compare.why_not(enumerating, "two_parts:Many-v0")
    named = compare.contenders("two_parts:FromOne-v0", ["gsac", "ppo", "dqn"], [], {})
    reasons = {contender.label: compare.why_not(contender, "two_parts:FromOne-v0") for contender in named}
    assert reasons["gsac"] is None
    assert reasons["ppo"] == reasons["dqn"]
    assert reasons["ppo"].startswith("SB3's algorithms count classes from 0")
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", several, "--algos", "dqn"])
    assert stop.value.code == 2
    assert "Nothing is left to compare on two_parts:Several-v0." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CartPol-v1"], "CartPole"),
        (["CartPole-v1", "--algos", "gsac,dqm"], "algos='dqm' is unknown. Did you mean 'dqn'?"),
        (["CartPole-v1", "--estimators", "expected,gumbel_softmx"], "Did you mean 'gumbel_softmax'?"),
        (["CartPole-v1", "--algos", "dqn", "--estimators", "expected"], "not among the --algos"),
        (["CartPole-v1", "--seeds", "0"], "--seeds=0"),
        (["CartPole-v1", "--jobs", "0"], "--jobs=0"),
        (["CartPole-v1", "--first-seed", "-1"], "--first-seed=-1"),
        (["CartPole-v1", "--logdir", os.path.join(os.devnull, "x")], os.devnull),
        (["CartPole-v1", "--arguments", '{"gsac": {"gama": 1}}'], "Did you mean 'gamma'?"),
        (["CartPole-v1", "--arguments", '{"gsac": {"gamma": 2}}'], "gamma=2 is out of range"),
        (["CartPole-v1", "--arguments", '{"gsac": 2}'], "arguments of gsac=2"),
        (["CartPole-v1", "--arguments", '{"sac": {}}'], "Did you mean 'gsac'?"),
        (["CartPole-v1", "--sedes", "3"], "Did you mean '--seeds'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_answered_with_one_line_and_exit_code_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["rliable", "matplotlib"])
def test_a_missing_package_is_named_before_anything_trains(package, tmp_path):
    program = f"""
import sys
import threading

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ({package!r}, "pandas"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from gsac.cli.main import main
main(["compare", "CartPole-v1", "--total-timesteps", "100"])
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert package in result.stderr
    assert 'pip install "gsac[compare]"' in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_process_that_dies_is_a_failure_of_its_job_only():
    outcomes = {}
    run_in_processes(os._exit, [7], 1, outcomes.__setitem__)
    run_in_processes(math.sqrt, [4.0, -1.0], 2, outcomes.__setitem__)
    assert outcomes[7] == Failure("its process ended without a result, with exit code 7")
    assert outcomes[4.0] == 2.0
    assert outcomes[-1.0].message.startswith("ValueError: ")


def test_names_are_split_at_commas_but_not_inside_an_estimators_settings():
    assert compare.split_names(["gsac,dqn", "ppo", "dqn"]) == ["gsac", "dqn", "ppo"]
    words = ["rloo:samples=8,baseline=mean,expected", "gumbel_softmax"]
    assert compare.split_names(words) == ["rloo:samples=8,baseline=mean", "expected", "gumbel_softmax"]


def test_every_named_estimator_is_a_curve():
    named = compare.contenders("CartPole-v1", ["gsac", "ppo"], ["expected", "auto"], {"gsac": {"gamma": 0.9}})
    assert [contender.label for contender in named] == ["gsac (expected)", "gsac (auto)", "ppo"]
    assert named[0].settings.arguments == {"gamma": 0.9, "estimator": "expected"}


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "LunarLander-v3", "MountainCar-v0"])
@pytest.mark.parametrize("algo", PEERS)
def test_the_peers_have_the_published_settings(algo, env_id):
    if env_id.startswith("Lunar"):
        pytest.importorskip("Box2D", reason="LunarLander needs Box2D: pip install 'gsac[box2d]'")
    published = ZOO[algo][env_id]
    (contender,) = compare.contenders(env_id, [algo], [], {})
    assert contender.settings == published
    model, _ = compare.build(contender, env_id, seed=0)
    assert model.n_envs == published.n_envs
    assert (model.get_vec_normalize_env() is not None) == published.normalize
    for name, value in published.arguments.items():
        if name not in ("learning_rate", "clip_range", "train_freq"):
            assert getattr(model, name) == value, name
    start = published.arguments.get("learning_rate", 3e-4)
    if isinstance(start, str):
        assert [model.lr_schedule(progress) for progress in (1.0, 0.5, 0.0)] == [1e-3, 5e-4, 0.0]
        assert [model.clip_range(progress) for progress in (1.0, 0.5, 0.0)] == [0.2, 0.1, 0.0]
    else:
        assert model.lr_schedule(0.3) == start


def test_the_settings_of_a_run_are_all_arguments_that_matter():
    (contender,) = compare.contenders("Pendulum-v1", ["ppo"], [], {})
    described = compare.Job(contender, "Pendulum-v1", 0, 100, 1).described()
    assert described["settings_from"] == "SB3 defaults"
    not_settings = {"policy", "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size"}
    expected = signature(PEERS["ppo"]).parameters.keys() - not_settings - {"_init_setup_model"}
    assert described["settings"]["arguments"].keys() == expected


def test_a_run_is_recognised_after_it_was_written_down(tmp_path):
    file = RunFile(tmp_path / "runs.jsonl")
    contenders = compare.contenders("CartPole-v1", ["gsac", "dqn", "ppo"], ["expected", "auto"], {})
    jobs = [compare.Job(contender, "CartPole-v1", 0, 100, 1) for contender in contenders]
    for job in jobs:
        file.append(job.described())
    assert [compare.identity(run) for run in file.read()] == [compare.identity(job.described()) for job in jobs]
    assert len({compare.identity(run) for run in file.read()}) == 4


def test_evaluations_are_at_the_same_steps_whatever_the_number_of_environments():
    """And see the policy after the updates up to that step, which is there when the next step is asked for."""
    (contender,) = compare.contenders("CartPole-v1", ["ppo"], [], {"ppo": {"n_epochs": 1}})
    model, eval_env = compare.build(contender, "CartPole-v1", seed=0)
    seen = []

    class Noted(EvaluateAtSteps):
        def evaluate(self, episodes):
            seen.append((self.model.num_timesteps, self.model._n_updates))
            return super().evaluate(episodes)

    callback = Noted([100, 256, 260, 263, 530], eval_env, 1)
    model.learn(530, callback=callback)  # eight environments, an update each 256 steps
    assert [point["step"] for point in callback.curve] == [100, 256, 260, 263, 530]
    assert callback.curve[2]["mean"] == callback.curve[3]["mean"]  # both mean step 264
    assert [updates for _, updates in seen] == [0, 1, 1, 2]
    assert seen[1][0] == 256


def test_normalised_evaluations_use_the_trainings_statistics_and_leave_them_alone():
    (contender,) = compare.contenders("MountainCar-v0", ["ppo"], [], {"ppo": {"n_epochs": 1}})
    model, eval_env = compare.build(contender, "MountainCar-v0", seed=0)
    callback = EvaluateAtSteps([256, 512], eval_env, 1)
    model.learn(512, callback=callback)
    training = model.get_vec_normalize_env()
    assert isinstance(eval_env, VecNormalize)
    assert training.gamma == 0.99
    count = training.obs_rms.count
    assert count == pytest.approx(512 + 16, abs=1)  # the evaluations' observations are not among them
    evaluation = callback.evaluate(2)
    assert evaluation.returns == [-200.0, -200.0]  # rewards as they are
    np.testing.assert_array_equal(eval_env.obs_rms.mean, training.obs_rms.mean)
    assert training.obs_rms.count == count


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_ctrl_c_is_answered_by_the_main_thread_and_ends_every_process():
    before, below = set(children(os.getpid())), set()

    def interrupt():
        while len(below) < 2:
            time.sleep(0.05)
            new = set(children(os.getpid())) - before
            below.update(pid for pid in new if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_in_processes(time.sleep, [60, 60, 60], 2, lambda job, outcome: None)
    thread.join()
    assert not any(map(alive, below))
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
