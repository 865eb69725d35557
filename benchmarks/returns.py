"""What do the algorithms reach, and how soon? Trains each on each problem and seed, with evaluations at fixed steps.

    python benchmarks/returns.py                      # everything that the report shows; hours
    python benchmarks/returns.py --problems CartPole-v1 Acrobot-v1 --entrants "GSAC, preset" DQN --seeds 0 1 2 3 4
    python benchmarks/returns.py --problems LunarLander-v3 --entrants "GSAC, preset" --seeds 211 748 \
        --variation n_steps=5 --variation gamma=0.995,policy.net_arch=[128;128] --episodes 200 --results search.jsonl
    python benchmarks/returns.py --list

A run is one process on one thread and appends one line to the results, with its whole configuration; a run that stands
there is not run again, and one that was stopped starts anew. An evaluation is 20 whole episodes with the deterministic
policy and 20 with the stochastic one, on seeds that were never used before. ``final`` is the last of them, ``area`` their
mean over the run. Seeds from 100 up are for tuning, those below for reporting. Tuning may ask for more episodes: settings
that are a few per cent apart look the same through 20, as Acrobot-v1's do.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import defaults
import numpy as np
from arena import ENTRANTS, PROBLEMS, Settings, build, configuration
from defaults import EPISODES
from gymnasium import Env
from returns_rows import RESULTS, identity, plan_of
from stable_baselines3.common.base_class import BaseAlgorithm

from gsac.experiments.compare import AtSteps
from gsac.experiments.processes import Failure, available_cores, run_in_processes
from gsac.experiments.run import versions
from gsac.experiments.run_file import RunFile

EVALUATION_SEEDS = 1_000_000
FIELDS = [field.name for field in dataclasses.fields(Settings) if field.name != "source"]
"""Of the settings, as a line names them."""

KINDS = ("deterministic", "stochastic")


def play(model: BaseAlgorithm, envs: Sequence[Env], seed: int, deterministic: bool) -> list[float]:
    """The return of a whole episode in each environment, seeded one after the other.

    It is the environment's own, as its ``Monitor`` has it below all wrappers: one may clip the rewards to train with.
    An environment rests when its episode is over: stepping it on until the longest is done, as vectorised ones do, would
    cost more than training.
    """
    statistics = model.get_vec_normalize_env()
    observations = [env.reset(seed=seed + i)[0] for i, env in enumerate(envs)]
    returns, playing = [0.0] * len(envs), list(range(len(envs)))
    while playing:
        batch = np.stack([observations[i] for i in playing])
        actions, _ = model.predict(
            batch if statistics is None else statistics.normalize_obs(batch), None, None, deterministic
        )
        still = []
        for i, action in zip(playing, actions, strict=True):
            observations[i], _, terminated, truncated, info = envs[i].step(action)
            if terminated or truncated:
                returns[i] = float(info["episode"]["r"])
            else:
                still.append(i)
        playing = still
    return returns


class EvaluateBothWays(AtSteps):
    """Keeps the returns of the deterministic and of the stochastic policy, and the CPU time that they took.

    :param envs: one for each episode
    """

    def __init__(self, steps: Sequence[int], envs: Sequence[Env], seed: int) -> None:
        super().__init__(steps)
        self.envs = envs
        self.next_seed = EVALUATION_SEEDS * (1 + seed) % 2**32  # which is where NumPy's older generator ends
        self.cpu_seconds = 0.0

    def point(self) -> dict[str, Any]:
        """The returns by kind of policy."""
        start = time.process_time()
        returns = {}
        for kind in KINDS:
            returns[kind] = play(self.model, self.envs, self.next_seed, kind == "deterministic")
            self.next_seed += len(self.envs)
        self.cpu_seconds += time.process_time() - start
        return returns


def described(
    problem: str, label: str, settings: Settings, seed: int, variation: str = "", episodes: int = EPISODES
) -> dict[str, Any]:
    """The first half of a run's line: everything that is known beforehand."""
    return {
        **{"problem": problem, "label": label, "variation": variation, "seed": seed, "episodes": episodes},
        **{name: getattr(settings, name) for name in FIELDS},
        "settings_from": settings.source,
        "configuration": configuration(settings),
    }


def settings_of(job: dict[str, Any]) -> Settings:
    """What a line says that its run was made with."""
    return Settings(**{name: job[name] for name in FIELDS}, source=job["settings_from"])


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Trains and evaluates: the run's whole line."""
    problem = PROBLEMS[job["problem"]]
    settings = settings_of(job)
    made_with = provenance()  # before the repository can have moved on
    wall, cpu = time.perf_counter(), time.process_time()
    model, envs = build(problem, settings, job["seed"], job["episodes"])
    steps = sorted({*range(problem.every, settings.timesteps, problem.every), settings.timesteps})
    evaluations = EvaluateBothWays(steps, envs, job["seed"])
    model.learn(settings.timesteps, callback=evaluations)
    means = {kind: [statistics.fmean(point[kind]) for point in evaluations.curve] for kind in KINDS}
    return job | {
        "curve": evaluations.curve,
        "final": {kind: means[kind][-1] for kind in KINDS},
        "area": {kind: statistics.fmean(means[kind]) for kind in KINDS},
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "evaluation_seconds": round(evaluations.cpu_seconds, 2),
        "updates": model._n_updates,
        **made_with,
    }


def provenance() -> dict[str, Any]:
    """What a run was made with and on."""
    return {
        "versions": versions() | {name: version(name) for name in ("sb3-contrib", "sb3-soft", "rl-zoo3")},
        "machine": f"{platform.machine()}, {available_cores()} cores, one thread a run",
        "commit": defaults.commit(),
    }


def told(row: dict[str, Any]) -> str:
    """A finished run in a few words."""
    curve = " ".join(f"{statistics.fmean(point['deterministic']):.4g}" for point in row["curve"])
    return f"{row['final']} ({curve})"


def varied(settings: Settings, variation: str) -> Settings:
    """The settings with a variation's changes, ``timesteps``, ``n_envs`` and ``env_wrapper`` among them."""
    changes = settings.arguments | {"policy_kwargs": dict(settings.arguments.get("policy_kwargs", {}))}
    for name, value in defaults.changes(variation):
        if name in ("timesteps", "n_envs", "env_wrapper"):
            settings = dataclasses.replace(settings, **{name: value})
        elif name.startswith("policy."):
            changes["policy_kwargs"][name.removeprefix("policy.")] = value
        else:
            changes[name] = value
    if not changes["policy_kwargs"]:
        del changes["policy_kwargs"]
    return dataclasses.replace(settings, arguments=changes)


def jobs(
    problems: Sequence[str],
    entrants: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    variations: Sequence[str] = ("",),
    episodes: int = EPISODES,
) -> list[dict[str, Any]]:
    """The first half of each run's line. Who cannot enter a problem is left out.

    :param entrants: those that are planned for the problem if None
    :param seeds: those that are planned for it if None
    :param episodes: of each policy in an evaluation; no part of what tells runs apart
    """
    return [
        described(problem, label, varied(settings, variation), seed, variation, episodes)
        for problem in problems
        for seed in (plan_of(problem).seeds if seeds is None else seeds)
        for label in (plan_of(problem).labels if entrants is None else entrants)
        for variation in variations
        if (settings := ENTRANTS[label](PROBLEMS[problem])) is not None
    ]


def run_missing(
    todo: Sequence[dict[str, Any]],
    results: RunFile,
    n_processes: int,
    run: Callable[[dict[str, Any]], dict[str, Any]] = run,
    told: Callable[[dict[str, Any]], str] = told,
) -> list[str]:
    """Appends every run that does not stand in the results, or only superseded; says which failed, and why.

    :param run: the first half of a line -> all of it; in another process
    :param told: a whole line -> what is printed of it
    """
    known = {identity(row) for row in results.read() if not row.get("superseded")}
    failed = []

    def note(job: dict[str, Any], outcome: dict[str, Any] | Failure) -> None:
        name = f"{job['problem']}: {job['label']} {job['variation']} seed {job['seed']}"
        if isinstance(outcome, Failure):
            failed.append(name)
            print(f"{name}: {outcome.message}", flush=True)
            return
        results.append(outcome)
        print(f"{name}: {told(outcome)} {outcome['cpu_seconds']} s", flush=True)

    run_in_processes(run, [job for job in todo if identity(job) not in known], n_processes, note)
    return failed


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="PROBLEM")
    parser.add_argument("--entrants", nargs="+", choices=ENTRANTS, metavar="ENTRANT")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument(
        "--variation", action="append", default=[], help="NAME=VALUE,... on top of the entrants' settings"
    )
    parser.add_argument(
        "--episodes",
        type=int,
        default=EPISODES,
        help="of each policy in an evaluation; what stands in the results is not run again for more of them",
    )
    parser.add_argument("--jobs", type=int, default=available_cores())
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true", help="print problems and entrants, and stop")
    args = parser.parse_args(arguments)
    if args.episodes < 1:
        parser.error(
            f"--episodes {args.episodes} plays nothing: pass a whole number of at least 1, such as {EPISODES}."
        )
    if args.list:
        print("\n".join([*PROBLEMS, "", *ENTRANTS]))
        return
    todo = jobs(args.problems, args.entrants, args.seeds, args.variation or [""], args.episodes)
    failed = run_missing(todo, RunFile(args.results), args.jobs)
    if failed:
        raise SystemExit(f"{len(failed)} runs failed; the same command tries them again: {'; '.join(failed)}.")


if __name__ == "__main__":
    main()
