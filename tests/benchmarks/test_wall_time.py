"""The benchmark of wall time stops where it should, keeps its times apart, and runs nothing twice."""

import json
import pickle
import time
from dataclasses import replace
from functools import partial

import pytest
import returns
import wall_time
from returns_rows import identity

from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import run_missing

LABELS = [label for _, label, _ in wall_time.PLANNED]


@pytest.fixture
def short(monkeypatch):
    """A budget of 400 steps, with an evaluation after every 150."""
    monkeypatch.setattr(wall_time, "UntilSolved", partial(wall_time.UntilSolved, budget=400, every=150))


def job(label, seed=100):
    (found,) = returns.jobs("wall_time", entrants=[label], seeds=[seed])
    return found


@pytest.mark.parametrize(("mean", "solved"), [(475.0, True), (474.95, False)])
def test_solved_is_a_mean_of_475(mean, solved, monkeypatch):
    monkeypatch.setattr(wall_time, "evaluate_policy", lambda *_, **__: ([mean] * 20, []))
    callback = wall_time.UntilSolved(0, launched=time.time())
    callback.model, callback.num_timesteps = None, 1000
    assert callback._on_step() is not solved
    assert callback.solved is solved


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("label", LABELS)
def test_an_unsolved_run_is_evaluated_at_fixed_steps_and_ends_with_its_budget(label):
    of_label = job(label)
    line = replace(of_label, launched=time.time() - 5).run()
    assert not line["solved"]
    n_envs = of_label.trial.entry.n_envs
    assert [steps // n_envs for steps, _ in line["evaluations"]] == [-(-150 // n_envs), -(-300 // n_envs)]
    assert all(1 <= mean <= 500 for _, mean in line["evaluations"])
    assert 400 <= line["steps"] < 400 + n_envs
    assert line["start_up"]["seconds"] >= 5
    assert line["training"]["cpu_seconds"] > 0
    assert line["evaluating"]["cpu_seconds"] > 0
    # what an algorithm does to its arguments stays there
    assert identity(of_label.described()) == identity(job(label).described())
    json.dumps(of_label.described() | line)


@pytest.mark.usefixtures("short")
def test_a_run_ends_where_it_is_solved(monkeypatch):
    monkeypatch.setattr(wall_time, "SOLVED", 1.0)
    line = job("REINFORCE").run()
    assert line["solved"]
    assert line["steps"] == 150
    assert len(line["evaluations"]) == 1


def test_evaluations_have_fresh_episodes_that_do_not_depend_on_training():
    seeds = []
    for first in (0, 1):
        callback = wall_time.UntilSolved(first, launched=0.0)
        seen = [callback.first_seed + wall_time.EPISODES * number for number in range(wall_time.BUDGET // 1000)]
        seeds += [seed + episode for seed in seen for episode in range(wall_time.EPISODES)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= wall_time.EVALUATION_SEEDS


def test_published_settings_end_with_the_steps_that_they_were_made_for():
    dqn, ppo = job("DQN").trial.entry, job("PPO").trial.entry
    assert (dqn.timesteps, dqn.n_envs, dqn.arguments["train_freq"]) == (50_000, 1, 256)
    assert (ppo.timesteps, ppo.n_envs, ppo.arguments["learning_rate"]) == (100_000, 8, "linear:0.001:0")


def test_a_variation_changes_what_it_names():
    changes = "n_envs=4,learning_rate=2e-3,policy.net_arch=[32;32]"
    (varied,) = returns.jobs("wall_time", entrants=["GSAC, plain"], seeds=[0], variations=[changes])
    entry = varied.trial.entry
    assert entry.n_envs == 4
    assert entry.arguments["learning_rate"] == 2e-3
    assert entry.arguments["policy_kwargs"] == {"n_critics": 1, "critic_layer_norm": False, "net_arch": [32, 32]}
    with pytest.raises(ValueError, match="variation='speed' is unknown"):
        returns.jobs("wall_time", entrants=["GSAC, plain"], variations=["speed=1"])


def test_algorithms_take_turns_seed_by_seed():
    found = returns.jobs("wall_time", entrants=["GSAC, plain", "PPO"], seeds=[3, 4], variations=["", "n_envs=2"])
    assert [(job.trial.seed, job.trial.label, job.trial.entry.n_envs) for job in found[:4]] == [
        *[(3, "GSAC, plain", 8), (3, "GSAC, plain", 2), (3, "PPO", 8), (3, "PPO", 2)]
    ]
    assert [job.trial.seed for job in found] == [3] * 4 + [4] * 4


def test_the_lines_of_the_former_program_are_the_runs_that_are_planned():
    known = {identity(line) for line in RunFile(wall_time.MEASURE.results).read()}
    assert {identity(job.described()) for job in returns.jobs("wall_time")} <= known


def test_a_finished_run_is_never_run_again_and_a_failed_one_is(tmp_path):
    file = RunFile(tmp_path / "runs.jsonl")
    steps = "timesteps=1100"
    (good,) = returns.jobs("wall_time", entrants=["REINFORCE"], seeds=[100], variations=[steps])
    (bad,) = returns.jobs("wall_time", entrants=["PPO"], seeds=[100], variations=["n_steps=-1"])
    (failed,) = run_missing([bad, good], file, 1, identity, wall_time.summary)
    assert failed.startswith("CartPole-v1: PPO n_steps=-1 seed 100: ")
    (line,) = file.read()
    assert line["evaluations"][0][0] == 1000
    assert line["start_up"]["cpu_seconds"] > 0.5  # the imports, in an interpreter of its own
    assert line["start_up"]["seconds"] >= 0.9 * line["start_up"]["cpu_seconds"]
    start = time.perf_counter()
    assert run_missing([good], file, 1, identity, wall_time.summary) == []
    assert time.perf_counter() - start < 0.5
    assert file.read() == [line]


def test_a_job_notes_when_it_is_handed_to_its_process():
    before = time.time()
    assert pickle.loads(pickle.dumps(job("DQN"))).launched >= before


def test_a_run_that_did_not_solve_it_counts_as_longer_than_any_other():
    def row(algo, seed, seconds, solved=True):
        parts = {"seconds": seconds, "cpu_seconds": seconds}
        return {
            **{"algo": algo, "seed": seed, "settings_from": "x", "n_envs": 1, "configuration": {}, "variation": ""},
            **{"solved": solved, "steps": 1000 * seed},
            **{"training": parts, "evaluating": parts, "start_up": parts},
        }

    rows = [row("a", seed, seconds=seed + 1.0, solved=seed > 0) for seed in range(3)]
    rows += [row("b", seed, seconds=0.1, solved=seed == 1) for seed in range(3)] + [row("c", 100, seconds=0.1)]
    first, second = wall_time.markdown(rows).splitlines()[2:]
    assert first == "| a | x | 2 of 3 | 2,000 | 3.0 (never, 2.0, 3.0) | 3.0 | 6.0 | 6.0 |"
    assert second == "| b | x | 1 of 3 | never | never (never, 0.1, never) | never | never | never |"
