"""How long until CartPole-v1 is solved, from the start of learn(): a mean of 475 over 20 fresh episodes, deterministic.

    python benchmarks/wall_time.py
    python benchmarks/wall_time.py --algos gsac --seeds 100 101 --variation n_envs=8,learning_starts=500 --out search.jsonl

Every 1,000 environment steps each algorithm is evaluated, and stops where it is solved, at 100,000 steps, or where its
published settings end. The time of the evaluations is taken apart; what counts is the time without them. A run is a
process of its own, on one thread, one after the other, seed by seed over all algorithms. Each appends one line to the
results; a run that stands there is not run again. A variation is a list of arguments that differ from
those below, as in ``defaults.py``, and of ``n_envs``. Seeds from 100 up are for tuning, those below for reporting.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ceilings
import defaults
import torch
from sb3_soft import SDSAC
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from gsac import GSAC, REINFORCE, PrioritizedReplayBuffer
from gsac.experiments.peers import peer_arguments, peer_settings
from gsac.experiments.run import versions
from gsac.experiments.run_file import RunFile

RESULTS = Path(__file__).parent / "results" / "wall_time.jsonl"
ENV, SOLVED, EPISODES = "CartPole-v1", 475.0, 20
BUDGET, EVERY = 100_000, 1000
EVALUATION_SEEDS = 1_000_000

GSAC_SETTINGS: dict[str, Any] = {
    **{"n_envs": 8, "learning_starts": 500, "batch_size": 512, "learning_rate": 1e-2, "gradient_steps": 2, "tau": 0.2},
    **defaults.PLAIN | {"target_entropy": "auto_0.9", "max_grad_norm": None},
    "policy_kwargs": {"n_critics": 1, "critic_layer_norm": False, "net_arch": {"pi": [64], "qf": [64, 64]}},
}
"""Arguments that differ from the defaults, and ``n_envs``."""

SDSAC_SETTINGS: dict[str, Any] = {
    **{"learning_starts": 1000, "learning_rate": 1e-3, "tau": 0.05, "target_entropy": 0.2},
    "policy_kwargs": {"net_arch": [64, 64]},
}
"""Its authors publish none for CartPole; of three that were tried on seed 100, these alone solved it in 15,000 steps."""

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "gsac": GSAC,
    "reinforce": REINFORCE,
    "dqn": DQN,
    "ppo": PPO,
    "sdsac": SDSAC,
}
BUFFERS = {"PrioritizedReplayBuffer": PrioritizedReplayBuffer}
"""Classes by the names that stand for them in settings."""

SOURCES = {"gsac": "tuned", "reinforce": "defaults", "sdsac": "tuned"}
IDENTITY = ("algo", "seed", "settings", "budget", "every")
"""The entries of a run's line that tell it from other runs."""


def settings(algo: str, variation: str = "") -> dict[str, Any]:
    """Everything that an algorithm is run with: arguments, environments side by side, and the steps it is told of.

    Learning rates and exploration of published settings end with the steps that they were made for.
    """
    config = defaults.default_settings(ALGORITHMS[algo]) | {"n_envs": 1}
    steps, source = BUDGET, SOURCES.get(algo, "")
    if algo == "gsac":
        usual = defaults.configuration("")
        policy = usual["policy_kwargs"] | GSAC_SETTINGS.get("policy_kwargs", {})
        config |= usual | GSAC_SETTINGS | {"policy_kwargs": policy}
    elif algo == "sdsac":
        config |= SDSAC_SETTINGS
    elif algo in ("dqn", "ppo"):
        published = peer_settings(algo, ENV)
        config |= published.arguments | {"n_envs": published.n_envs}
        source = published.source
        (made_for,) = re.findall(r"for ([\d,]+) steps", source)
        steps = int(made_for.replace(",", ""))
    config = defaults.changed(copy.deepcopy(config), variation)
    return {"n_envs": config.pop("n_envs"), "total_timesteps": steps, "source": source, "arguments": config}


class UntilSolved(BaseCallback):
    """Evaluates at fixed steps, stops where the environment is solved or the budget spent, and keeps the time.

    :ivar evaluations: steps and mean return
    :ivar seconds: that the evaluations took, on the wall and of the process
    """

    def __init__(self, seed: int, budget: int, every: int) -> None:
        super().__init__()
        self.env = make_vec_env(ENV, EPISODES)  # an episode of each
        self.first_seed = EVALUATION_SEEDS + seed * 100_000
        self.budget, self.every = budget, every
        self.evaluations: list[tuple[int, float]] = []
        self.seconds = (0.0, 0.0)
        self.solved = False

    def _on_step(self) -> bool:
        if self.num_timesteps // self.every > len(self.evaluations):
            start = now()
            self.env.seed(self.first_seed + EPISODES * len(self.evaluations))
            returns, _ = evaluate_policy(self.model, self.env, EPISODES, return_episode_rewards=True)
            self.evaluations.append((self.num_timesteps, statistics.fmean(returns)))
            self.seconds = added(self.seconds, since(start))
            self.solved = is_solved(self.evaluations[-1][1])
        return not self.solved and self.num_timesteps < self.budget


def is_solved(mean: float) -> bool:
    return mean >= SOLVED


def now() -> tuple[float, float]:
    """Seconds on the wall, and of this process."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


def added(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]


def run(job: dict[str, Any], launched: float) -> dict[str, Any]:
    """One run, in this process.

    :param launched: when the process was started, in seconds since the epoch
    """
    torch.set_num_threads(1)
    chosen = copy.deepcopy(job["settings"])  # some algorithms write into policy_kwargs
    env = make_vec_env(ENV, chosen["n_envs"], seed=job["seed"])
    arguments = peer_arguments(chosen["arguments"])
    if arguments.get("replay_buffer_class") in BUFFERS:
        arguments["replay_buffer_class"] = BUFFERS[arguments["replay_buffer_class"]]
    model = ALGORITHMS[job["algo"]]("MlpPolicy", env, seed=job["seed"], device="cpu", **arguments)
    callback = UntilSolved(job["seed"], job["budget"], job["every"])
    start_up = time.time() - launched, time.process_time()
    start = now()
    model.learn(min(chosen["total_timesteps"], job["budget"]), callback=callback)
    learning = since(start)
    training = learning[0] - callback.seconds[0], learning[1] - callback.seconds[1]
    return job | {
        "solved": callback.solved,
        "steps": model.num_timesteps,
        "training": seconds(training),
        "evaluating": seconds(callback.seconds),
        "start_up": seconds(start_up),
        "evaluations": callback.evaluations,
        "commit": defaults.commit(),
        "versions": versions() | {"sb3-soft": version("sb3-soft")},
        "machine": ceilings.machine("cpu"),
    }


def seconds(pair: tuple[float, float]) -> dict[str, float]:
    return {"seconds": round(pair[0], 2), "cpu_seconds": round(pair[1], 2)}


def identity(run: dict[str, Any]) -> str:
    return json.dumps({name: run[name] for name in IDENTITY}, sort_keys=True)


def jobs(
    algos: Sequence[str], variations: Sequence[str], seeds: Sequence[int], budget: int, every: int
) -> list[dict[str, Any]]:
    """The first half of each run's line, seed by seed over all algorithms."""
    chosen = [(algo, variation, settings(algo, variation)) for variation in variations for algo in algos]
    return [
        {
            **{"algo": algo, "variation": variation, "seed": seed, "settings": config},
            **{"budget": budget, "every": every},
        }
        for seed in seeds
        for algo, variation, config in chosen
    ]


def run_missing(jobs: Sequence[dict[str, Any]], results: RunFile) -> list[str]:
    """Appends every run that does not stand in the results, each from an interpreter of its own; says which failed."""
    known = {identity(run) for run in results.read()}
    failed = []
    for job in jobs:
        if identity(job) in known:
            continue
        command = [sys.executable, __file__, "--one", json.dumps(job), "--launched", repr(time.time())]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, text=True, check=False)
        name = f"{job['algo']} {job['variation']} seed {job['seed']}"
        if process.returncode != 0:
            failed.append(name)
            print(f"{name}: failed", flush=True)
            continue
        row = json.loads(process.stdout.splitlines()[-1])
        results.append(row)
        outcome = f"{'solved' if row['solved'] else 'not solved'} after {row['steps']} steps"
        print(f"{name}: {outcome}, training {row['training']}, evaluating {row['evaluating']}", flush=True)
    return failed


def markdown(rows: list[dict[str, Any]]) -> str:
    """The reported seeds. A run that did not solve the environment counts as longer than any other."""
    lines = [
        "| algorithm | settings | seeds solved | steps, median | seconds of training, median (each seed) "
        "| CPU seconds, median | with evaluations | with start-up |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    reported = [row for row in rows if row["seed"] < defaults.FIRST_TUNING_SEED and not row.get("superseded")]
    for row in sorted(reported, key=lambda row: row["seed"]):
        groups.setdefault(json.dumps([row["algo"], row["settings"]], sort_keys=True), []).append(row)
    for group in sorted(groups.values(), key=lambda group: median(group, "training")):
        first, solved = group[0], [row for row in group if row["solved"]]
        each = ", ".join(f"{row['training']['seconds']:.1f}" if row["solved"] else "never" for row in group)
        steps = statistics.median(row["steps"] if row["solved"] else math.inf for row in group)
        lines.append(
            f"| {first['algo']} | {first['settings']['source']} | {len(solved)} of {len(group)} | {shown(steps, ',.0f')} "
            f"| {shown(median(group, 'training'))} ({each}) | {shown(median(group, 'training', kind='cpu_seconds'))} "
            f"| {shown(median(group, 'training', 'evaluating'))} | {shown(median(group, 'training', 'start_up'))} |"
        )
    return "\n".join(lines)


def median(group: list[dict[str, Any]], *parts: str, kind: str = "seconds") -> float:
    return statistics.median(sum(row[part][kind] for part in parts) if row["solved"] else math.inf for row in group)


def shown(value: float, form: str = ".1f") -> str:
    return format(value, form) if math.isfinite(value) else "never"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algos", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--variation", action="append", default=[])
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--every", type=int, default=EVERY, help="steps from one evaluation to the next")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--markdown", action="store_true", help="print the README's table, and stop")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--launched", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.one:
        print(json.dumps(run(args.one, args.launched)))
        return
    results = RunFile(args.out)
    if args.markdown:
        print(markdown(results.read()))
        return
    failed = run_missing(jobs(args.algos, args.variation or [""], args.seeds, args.budget, args.every), results)
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {'; '.join(failed)}.")


if __name__ == "__main__":
    main()
