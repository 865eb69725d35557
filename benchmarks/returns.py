"""Trains algorithms on problems and seeds, and measures their returns, or something else, during training.

    python benchmarks/returns.py                      # everything that the report shows; hours
    python benchmarks/returns.py --problems CartPole-v1 Acrobot-v1 --entrants "GSAC, preset" DQN --seeds 0 1 2 3 4
    python benchmarks/returns.py --problems LunarLander-v3 --entrants "GSAC, preset" --seeds 211 748 \
        --variation n_steps=5 --variation gamma=0.995,policy.net_arch=[128;128] --episodes 200 --results search.jsonl
    python benchmarks/returns.py --measure wall_time  # or landings, gradients: see the modules of these names
    python benchmarks/returns.py --list

A run is one process on one thread and appends one line to the results, with its whole configuration; a run that stands
there is not run again, and one that was stopped starts anew. An evaluation is 20 whole episodes with the deterministic
policy and 20 with the stochastic one, on seeds that were never used before. ``final`` is the last of them, ``area`` their
mean over the run. Seeds from 100 up are for tuning, those below for reporting. Tuning may ask for more episodes: settings
that are a few per cent apart look the same through 20, as Acrobot-v1's do.

A variation is a list of constructor arguments on top of the entrant's; ``policy.X=Y`` sets ``policy_kwargs[X]``;
``timesteps``, ``n_envs`` and ``env_wrapper`` are settings of the run. The defaults were chosen by such runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradients
import landings
import numpy as np
import wall_time
from arena import ENTRANTS, PROBLEMS, trials
from gymnasium import Env
from measures import EPISODES, Job, Measure
from returns_rows import RESULTS, identity
from stable_baselines3.common.base_class import BaseAlgorithm
from studies import command_line, run_jobs

from gsac.experiments.environments import make_envs
from gsac.experiments.evaluation import AtSteps
from gsac.experiments.processes import available_cores
from gsac.experiments.runner import Line

EVALUATION_SEEDS = 1_000_000
KINDS = ("deterministic", "stochastic")


def play(model: BaseAlgorithm, envs: Sequence[Env], seed: int, deterministic: bool) -> list[float]:
    """Plays a whole episode in each environment, with consecutive seeds. Returns the returns.

    It is the return below all wrappers, as ``Monitor`` has it: a wrapper may clip the rewards to train with. An environment
    rests when its episode is over: stepping it on until the longest is done, as vectorised ones do, would cost more than
    training.
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
    """Evaluates the deterministic and the stochastic policy at given steps, and measures the CPU time of this.

    :param envs: one for each episode
    """

    def __init__(self, steps: Sequence[int], envs: Sequence[Env], seed: int) -> None:
        super().__init__(steps)
        self.envs = envs
        self.next_seed = EVALUATION_SEEDS * (1 + seed) % 2**32  # which is where NumPy's older generator ends
        self.cpu_seconds = 0.0

    def point(self) -> dict[str, Any]:
        """The returns of each kind of policy."""
        start = time.process_time()
        returns = {}
        for kind in KINDS:
            returns[kind] = play(self.model, self.envs, self.next_seed, kind == "deterministic")
            self.next_seed += len(self.envs)
        self.cpu_seconds += time.process_time() - start
        return returns

    def line(self) -> Line:
        """The curve, its last point, its mean, and the CPU seconds of the evaluations."""
        means = {kind: [statistics.fmean(point[kind]) for point in self.curve] for kind in KINDS}
        return {
            "curve": self.curve,
            "final": {kind: means[kind][-1] for kind in KINDS},
            "area": {kind: statistics.fmean(means[kind]) for kind in KINDS},
            "evaluation_seconds": round(self.cpu_seconds, 2),
        }


def evaluate_both_ways(job: Job) -> EvaluateBothWays:
    """Makes the callback that evaluates at the problem's steps and at the last step."""
    problem, entry = PROBLEMS[job.trial.problem], job.trial.entry
    steps = sorted({*range(problem.every, entry.timesteps, problem.every), entry.timesteps})
    envs = make_envs(problem.env, job.episodes, None, entry.env_wrapper).envs
    return EvaluateBothWays(steps, envs, job.trial.seed)


def summary(line: Line) -> str:
    """The returns at the end, with the curve of the deterministic policy in brackets."""
    curve = " ".join(f"{statistics.fmean(point['deterministic']):.4g}" for point in line["curve"])
    return f"{line['final']} ({curve})"


MEASURES = {
    "returns": Measure(RESULTS, evaluate_both_ways, summary),
    "landings": landings.MEASURE,
    "gradients": gradients.MEASURE,
    "wall_time": wall_time.MEASURE,
}


def jobs(
    measure: str = "returns",
    problems: Sequence[str] | None = None,
    entrants: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    variations: Sequence[str] = ("",),
    episodes: int = EPISODES,
) -> list[Job]:
    """Lists the runs that are asked for. An argument that is None is as planned; variations apply on top of what is planned."""
    chosen = MEASURES[measure]
    if not chosen.planned:
        found = trials(problems or list(PROBLEMS), entrants, seeds, variations)
        return [Job(trial, chosen, episodes) for trial in found]
    plan = [
        (problem, label, ",".join(filter(None, (planned, variation))))
        for problem, label, planned in chosen.planned
        if (problems is None or problem in problems) and (entrants is None or label in entrants)
        for variation in variations
    ]
    return [
        Job(trial, chosen, episodes)
        for seed in (chosen.seeds if seeds is None else seeds) or ()
        for problem, label, variation in plan
        for trial in trials([problem], [label], [seed], [variation])
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument("--measure", choices=MEASURES, default="returns")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, metavar="PROBLEM")
    parser.add_argument("--entrants", nargs="+", choices=ENTRANTS, metavar="ENTRANT")
    parser.add_argument("--seeds", type=int, nargs="+", help="from 100 up for tuning, below for reporting")
    parser.add_argument("--variation", action="append", help="NAME=VALUE,... on top of the settings; several times")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of each policy in an evaluation")
    parser.add_argument("--jobs", type=int, default=available_cores(), help="runs at a time")
    parser.add_argument("--results", type=Path, help="the file of lines, instead of that of the measure")
    parser.add_argument("--list", action="store_true", help="print problems and entrants, and stop")
    args = parser.parse_args(arguments)
    if args.episodes < 1:
        parser.error(
            f"--episodes {args.episodes} plays nothing: pass a whole number of at least 1, such as {EPISODES}."
        )
    if args.list:
        print("\n".join([*PROBLEMS, "", *ENTRANTS]))
        return
    measure = MEASURES[args.measure]
    todo = jobs(args.measure, args.problems, args.entrants, args.seeds, args.variation or [""], args.episodes)
    processes = 1 if measure.one_at_a_time else args.jobs
    run_jobs(todo, args.results or measure.results, processes, identity, measure.summary)


if __name__ == "__main__":
    main()
