"""Measures the time until CartPole-v1 is solved: a mean return of 475 over 20 fresh episodes of the deterministic policy.

    python benchmarks/returns.py --measure wall_time
    python benchmarks/returns.py --measure wall_time --entrants "GSAC, plain" --seeds 100 101 --variation n_envs=4
    python benchmarks/wall_time.py                     # prints the table

Every 1,000 environment steps each algorithm is evaluated, and stops where it is solved, at 100,000 steps, or where its
published settings end. The time of the evaluations is taken apart; what counts is the time without them. Runs are made one
after the other, seed by seed over all algorithms, each in a process of its own, on one thread.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

import numpy as np
from measures import Job, Measure
from returns_rows import read
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from studies import RESULTS, groups, reported, table

from gsac.experiments.runner import Line

ENV, SOLVED, EPISODES = "CartPole-v1", 475.0, 20
BUDGET, EVERY = 100_000, 1000
EVALUATION_SEEDS = 1_000_000

TUNED = (
    f"timesteps={BUDGET},n_envs=8,learning_starts=500,batch_size=512,learning_rate=1e-2,gradient_steps=2,tau=0.2,"
    "target_entropy=auto_0.9,max_grad_norm=null,policy.n_critics=1,policy.critic_layer_norm=false,"
    'policy.net_arch={"pi": [64]; "qf": [64; 64]}'
)
PLANNED = (
    (ENV, "GSAC, plain", TUNED),
    *((ENV, label, "") for label in ("REINFORCE", "DQN", "PPO")),
    (ENV, "SDSAC", f"timesteps={BUDGET}"),
)
"""Published settings are run for as many steps as they were made for: learning rates and exploration end with these."""


class UntilSolved(BaseCallback):
    """Evaluates at fixed steps, stops when the environment is solved or the budget spent, and measures the time.

    :param launched: when the process was started, in seconds since the epoch
    :ivar evaluations: steps and mean return
    :ivar evaluating: seconds that the evaluations took, on the wall and of the process
    """

    def __init__(self, seed: int, launched: float, budget: int = BUDGET, every: int = EVERY) -> None:
        super().__init__()
        self.env = make_vec_env(ENV, EPISODES)  # an episode of each
        self.first_seed = EVALUATION_SEEDS + seed * 100_000
        self.launched, self.budget, self.every = launched, budget, every
        self.evaluations: list[tuple[int, float]] = []
        self.evaluating = np.zeros(2)
        self.solved = False

    def _on_training_start(self) -> None:
        self.start_up = np.array([time.time() - self.launched, time.process_time()])
        self.start = now()

    def _on_step(self) -> bool:
        if self.num_timesteps // self.every > len(self.evaluations):
            start = now()
            self.env.seed(self.first_seed + EPISODES * len(self.evaluations))
            returns, _ = evaluate_policy(self.model, self.env, EPISODES, return_episode_rewards=True)
            self.evaluations.append((self.num_timesteps, statistics.fmean(returns)))
            self.evaluating += now() - start
            self.solved = self.evaluations[-1][1] >= SOLVED
        return not self.solved and self.num_timesteps < self.budget

    def _on_training_end(self) -> None:
        self.training = now() - self.start - self.evaluating

    def line(self) -> Line:
        return {
            "solved": self.solved,
            "steps": self.num_timesteps,
            "training": seconds(self.training),
            "evaluating": seconds(self.evaluating),
            "start_up": seconds(self.start_up),
            "evaluations": self.evaluations,
        }


def until_solved(job: Job) -> UntilSolved:
    """Makes the callback."""
    return UntilSolved(job.trial.seed, job.launched)


def now() -> np.ndarray:
    """Wall time and CPU time of this process, in seconds. [2]"""
    return np.array([time.perf_counter(), time.process_time()])


def seconds(times: np.ndarray) -> dict[str, float]:
    return dict(zip(("seconds", "cpu_seconds"), times.round(2).tolist(), strict=True))


def summary(line: Line) -> str:
    solved = "solved" if line["solved"] else "not solved"
    return f"{solved} after {line['steps']} steps, training {line['training']}, evaluating {line['evaluating']}"


def markdown(lines: Sequence[Line]) -> str:
    """The table of reported seeds. A run that did not solve the environment counts as longer than any other."""
    found = groups(reported(lines), lambda line: [line["algo"], line["n_envs"], line["configuration"]])
    rows = []
    for group in sorted(found, key=lambda group: median(group, "training")):
        steps = statistics.median(line["steps"] if line["solved"] else math.inf for line in group)
        each = ", ".join(f"{line['training']['seconds']:.1f}" if line["solved"] else "never" for line in group)
        training = shown(median(group, "training"))
        rows.append(
            {
                "algorithm": group[0]["algo"],
                "settings": "tuned" if group[0]["variation"] else group[0]["settings_from"],
                "seeds solved": f"{sum(line['solved'] for line in group)} of {len(group)}",
                "steps, median": shown(steps, ",.0f"),
                "seconds of training, median (each seed)": f"{training} ({each})",
                "CPU seconds, median": shown(median(group, "training", kind="cpu_seconds")),
                "with evaluations": shown(median(group, "training", "evaluating")),
                "with start-up": shown(median(group, "training", "start_up")),
            }
        )
    return table(rows)


def median(group: list[Line], *parts: str, kind: str = "seconds") -> float:
    return statistics.median(sum(line[part][kind] for part in parts) if line["solved"] else math.inf for line in group)


def shown(value: float, form: str = ".1f") -> str:
    return format(value, form) if math.isfinite(value) else "never"


MEASURE = Measure(
    RESULTS / "wall_time.jsonl",
    until_solved,
    summary,
    PLANNED,
    seeds=(0, 1, 2, 3, 4),
    one_at_a_time=True,
)

if __name__ == "__main__":
    print(markdown(read(MEASURE.results)))
