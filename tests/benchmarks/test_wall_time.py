"""The benchmark of wall time stops where it should, keeps its times apart, and runs nothing twice."""

import json
import time

import pytest
import wall_time

from gsac.experiments.run_file import RunFile


def job(algo, seed=100, **changes):
    return {
        **{"algo": algo, "variation": "", "seed": seed, "settings": wall_time.settings(algo)},
        **{"budget": 400, "every": 150},
    } | changes


def test_solved_is_a_mean_of_475():
    assert wall_time.is_solved(475.0)
    assert not wall_time.is_solved(474.95)


@pytest.mark.parametrize("algo", wall_time.ALGORITHMS)
def test_an_unsolved_run_is_evaluated_at_fixed_steps_and_ends_with_its_budget(algo):
    row = wall_time.run(job(algo), launched=time.time() - 5)
    assert not row["solved"]
    n_envs = row["settings"]["n_envs"]
    assert [steps // n_envs for steps, _ in row["evaluations"]] == [-(-150 // n_envs), -(-300 // n_envs)]
    assert all(1 <= mean <= 500 for _, mean in row["evaluations"])
    assert 400 <= row["steps"] < 400 + n_envs
    assert row["start_up"]["seconds"] >= 5
    assert row["training"]["cpu_seconds"] > 0
    assert row["evaluating"]["cpu_seconds"] > 0
    assert wall_time.identity(row) == wall_time.identity(
        job(algo)
    )  # what an algorithm does to its arguments stays there
    json.dumps(row)


def test_a_run_ends_where_it_is_solved(monkeypatch):
    monkeypatch.setattr(wall_time, "SOLVED", 1.0)
    row = wall_time.run(job("reinforce"), launched=time.time())
    assert row["solved"]
    assert row["steps"] == 150
    assert len(row["evaluations"]) == 1


def test_evaluations_have_fresh_episodes_that_do_not_depend_on_training():
    seeds = []
    for first in (0, 1):
        callback = wall_time.UntilSolved(first, 400, 100)
        seen = [callback.first_seed + wall_time.EPISODES * number for number in range(wall_time.BUDGET // 1000)]
        seeds += [seed + episode for seed in seen for episode in range(wall_time.EPISODES)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= wall_time.EVALUATION_SEEDS


def test_published_settings_end_with_the_steps_that_they_were_made_for():
    dqn, ppo = wall_time.settings("dqn"), wall_time.settings("ppo")
    assert (dqn["total_timesteps"], dqn["n_envs"], dqn["arguments"]["train_freq"]) == (50_000, 1, 256)
    assert (ppo["total_timesteps"], ppo["n_envs"], ppo["arguments"]["learning_rate"]) == (100_000, 8, "linear:0.001:0")


def test_a_variation_changes_what_it_names():
    varied = wall_time.settings("gsac", "n_envs=4,learning_rate=2e-3,policy.net_arch=[32;32]")
    assert varied["n_envs"] == 4
    assert varied["arguments"]["learning_rate"] == 2e-3
    assert varied["arguments"]["policy_kwargs"]["net_arch"] == [32, 32]
    with pytest.raises(SystemExit, match="'speed' is not a setting"):
        wall_time.settings("gsac", "speed=1")


def test_algorithms_take_turns_seed_by_seed():
    found = wall_time.jobs(["gsac", "ppo"], ["", "n_envs=2"], [3, 4], budget=10, every=5)
    assert [(job["seed"], job["algo"], job["variation"]) for job in found[:4]] == [
        *[(3, "gsac", ""), (3, "ppo", ""), (3, "gsac", "n_envs=2"), (3, "ppo", "n_envs=2")]
    ]
    assert [job["seed"] for job in found] == [3] * 4 + [4] * 4


def test_a_finished_run_is_never_run_again_and_a_failed_one_is(tmp_path):
    file = RunFile(tmp_path / "runs.jsonl")
    good, bad = job("reinforce", budget=100, every=60), job("ppo", settings={"n_envs": 1})
    assert wall_time.run_missing([bad, good], file) == ["ppo  seed 100"]
    (row,) = file.read()
    assert row["evaluations"][0][0] == 60
    assert row["start_up"]["cpu_seconds"] > 0.5  # the imports, in an interpreter of its own
    start = time.perf_counter()
    assert wall_time.run_missing([good], file) == []
    assert time.perf_counter() - start < 0.5
    assert file.read() == [row]


def test_a_run_that_did_not_solve_it_counts_as_longer_than_any_other():
    def row(algo, seed, seconds, solved=True):
        parts = {"seconds": seconds, "cpu_seconds": seconds}
        return {
            **{"algo": algo, "seed": seed, "settings": {"source": "x"}, "solved": solved, "steps": 1000 * seed},
            **{"training": parts, "evaluating": parts, "start_up": parts},
        }

    rows = [row("a", seed, seconds=seed + 1.0, solved=seed > 0) for seed in range(3)]
    rows += [row("b", seed, seconds=0.1, solved=seed == 1) for seed in range(3)] + [row("c", 100, seconds=0.1)]
    first, second = wall_time.markdown(rows).splitlines()[2:]
    assert first == "| a | x | 2 of 3 | 2,000 | 3.0 (never, 2.0, 3.0) | 3.0 | 6.0 | 6.0 |"
    assert second == "| b | x | 1 of 3 | never | never (never, 0.1, never) | never | never | never |"
