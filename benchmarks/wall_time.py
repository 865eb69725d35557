"""How long until CartPole-v1 is solved, from the start of learn(): a mean of 475 over 20 fresh episodes, deterministic.

    python benchmarks/wall_time.py
    python benchmarks/wall_time.py --algos gsac --seeds 100 101 --variation n_envs=8,learning_starts=500 --results search.jsonl

Every 1,000 environment steps each algorithm is evaluated, and stops where it is solved, at 100,000 steps, or where its
published settings end. The time of the evaluations is taken apart; what counts is the time without them. Runs are made one
after the other, seed by seed over all algorithms, each in a process of its own, on one thread. A run appends one line to the
results; a run that stands there is not run again. A variation is a list of arguments that differ from those below, as in
``returns.py``, and of ``n_envs``. Seeds from 100 up are for tuning, those below for reporting.
"""

from __future__ import annotations

import copy
import math
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import studies
from arena import ALGORITHMS, PLAIN, SDSAC_SETTINGS, Entry, todays, with_classes
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from studies import add_run_options, add_variations, command_line, groups, reported, run_jobs, table

from gsac.experiments.peers import peer_settings
from gsac.experiments.runner import Line, identity_of
from gsac.experiments.settings import make_model

RESULTS = studies.RESULTS / "wall_time.jsonl"
ENV, SOLVED, EPISODES = "CartPole-v1", 475.0, 20
BUDGET, EVERY = 100_000, 1000
EVALUATION_SEEDS = 1_000_000

GSAC_SETTINGS: dict[str, Any] = {
    **{"learning_starts": 500, "batch_size": 512, "learning_rate": 1e-2, "gradient_steps": 2, "tau": 0.2},
    **PLAIN | {"target_entropy": "auto_0.9", "max_grad_norm": None},
    "policy_kwargs": {"n_critics": 1, "critic_layer_norm": False, "net_arch": {"pi": [64], "qf": [64, 64]}},
}
"""Arguments that differ from the defaults."""

IDENTITY = ("algo", "seed", "settings", "budget", "every")
"""The entries of a run's line that tell it from other runs."""


def published(algo: str) -> Entry:
    """Published settings, with the steps that they were made for: learning rates and exploration end with them."""
    found = peer_settings(algo, ENV)
    (made_for,) = re.findall(r"for ([\d,]+) steps", found.source)
    return Entry(**vars(found), algo=algo, timesteps=int(made_for.replace(",", "")))


ENTRIES = {
    "gsac": Entry(GSAC_SETTINGS, n_envs=8, source="tuned", timesteps=BUDGET),
    "reinforce": Entry(algo="reinforce", timesteps=BUDGET),
    "dqn": published("dqn"),
    "ppo": published("ppo"),
    "sdsac": Entry(SDSAC_SETTINGS, source="tuned", algo="sdsac", timesteps=BUDGET),
}


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
            self.seconds = tuple(a + b for a, b in zip(self.seconds, since(start), strict=True))
            self.solved = self.evaluations[-1][1] >= SOLVED
        return not self.solved and self.num_timesteps < self.budget


def now() -> tuple[float, float]:
    """Seconds on the wall, and of this process."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


def seconds(wall: float, cpu: float) -> dict[str, float]:
    return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}


@dataclass(frozen=True)
class Job:
    """An algorithm on one seed.

    :param launched: when its process was started, in seconds since the epoch
    """

    entry: Entry
    variation: str
    seed: int
    budget: int = BUDGET
    every: int = EVERY
    launched: float = math.nan

    def __str__(self) -> str:
        return f"{self.entry.algo} {self.variation} seed {self.seed}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Notes the time: the job is pickled when its process is started."""
        return type(self), (self.entry, self.variation, self.seed, self.budget, self.every, time.time())

    def described(self) -> Line:
        entry = self.entry
        settings = {"n_envs": entry.n_envs, "total_timesteps": entry.timesteps, "source": entry.source}
        return {
            **{"algo": entry.algo, "variation": self.variation, "seed": self.seed},
            **{"settings": settings | {"arguments": entry.complete()}, "budget": self.budget, "every": self.every},
        }

    def run(self) -> Line:
        """Trains until the environment is solved or the budget spent."""
        entry = replace(self.entry, arguments=with_classes(copy.deepcopy(self.entry.arguments)))
        model = make_model(ALGORITHMS[entry.algo], entry, ENV, self.seed)
        callback = UntilSolved(self.seed, self.budget, self.every)
        start_up = time.time() - self.launched, time.process_time()
        start = now()
        model.learn(min(entry.timesteps, self.budget), callback=callback)
        learning = since(start)
        return {
            "solved": callback.solved,
            "steps": model.num_timesteps,
            "training": seconds(*(a - b for a, b in zip(learning, callback.seconds, strict=True))),
            "evaluating": seconds(*callback.seconds),
            "start_up": seconds(*start_up),
            "evaluations": callback.evaluations,
        }


def jobs(
    algos: Sequence[str], variations: Sequence[str], seeds: Sequence[int], budget: int = BUDGET, every: int = EVERY
) -> list[Job]:
    """Seed by seed over all algorithms."""
    entries = [(ENTRIES[algo].varied(variation), variation) for variation in variations for algo in algos]
    return [Job(entry, variation, seed, budget, every) for seed in seeds for entry, variation in entries]


def identity(line: Line) -> str:
    arguments = todays(line["algo"], line["settings"]["arguments"])
    return identity_of(line | {"settings": line["settings"] | {"arguments": arguments}}, IDENTITY)


def summary(line: Line) -> str:
    solved = "solved" if line["solved"] else "not solved"
    return f"{solved} after {line['steps']} steps, training {line['training']}, evaluating {line['evaluating']}"


def markdown(lines: Sequence[Line]) -> str:
    """The reported seeds. A run that did not solve the environment counts as longer than any other."""
    found = groups(reported(lines), lambda line: [line["algo"], line["settings"]])
    rows = []
    for group in sorted(found, key=lambda group: median(group, "training")):
        steps = statistics.median(line["steps"] if line["solved"] else math.inf for line in group)
        each = ", ".join(f"{line['training']['seconds']:.1f}" if line["solved"] else "never" for line in group)
        rows.append(
            (
                group[0]["algo"],
                group[0]["settings"]["source"],
                f"{sum(line['solved'] for line in group)} of {len(group)}",
                shown(steps, ",.0f"),
                f"{shown(median(group, 'training'))} ({each})",
                shown(median(group, "training", kind="cpu_seconds")),
                shown(median(group, "training", "evaluating")),
                shown(median(group, "training", "start_up")),
            )
        )
    header = ("algorithm", "settings", "seeds solved", "steps, median", "seconds of training, median (each seed)")
    return table((*header, "CPU seconds, median", "with evaluations", "with start-up"), rows)


def median(group: list[Line], *parts: str, kind: str = "seconds") -> float:
    return statistics.median(sum(line[part][kind] for part in parts) if line["solved"] else math.inf for line in group)


def shown(value: float, form: str = ".1f") -> str:
    return format(value, form) if math.isfinite(value) else "never"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument("--algos", nargs="+", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--every", type=int, default=EVERY, help="steps from one evaluation to the next")
    add_variations(parser)
    add_run_options(parser, RESULTS, seeds=range(5), jobs=1)
    args = parser.parse_args(arguments)
    run_jobs(jobs(args.algos, args.variation or [""], args.seeds, args.budget, args.every), args, identity, summary)


if __name__ == "__main__":
    main()
