"""Computes scores that can be averaged over the classic problems: 0 for uniformly random actions, 1 for "solved".

The returns of uniform actions are measured by ``python benchmarks/returns_report.py --random``; a problem counts as solved at
Gymnasium's ``reward_threshold``. The interquartile mean over all problems and seeds, with a bootstrap that draws each
problem's seeds apart, is that of Agarwal et al. 2021, https://arxiv.org/abs/2108.13264.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import studies
from arena import PROBLEMS
from returns_rows import Entrant, plan_of

from gsac.experiments import curves
from gsac.experiments.curves import interquartile_mean
from gsac.experiments.environments import reward_threshold

RANDOM = studies.RESULTS / "random_returns.json"
EPISODES = 100


def random_returns(env_id: str, episodes: int) -> list[float]:
    """Plays whole episodes of uniformly random actions, seeded from 0 up. Returns the returns."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    returns = [0.0] * episodes
    for seed in range(episodes):
        env.reset(seed=seed)
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            returns[seed] += float(reward)
            over = terminated or truncated
    env.close()
    return returns


def measure(path: Path = RANDOM, episodes: int = EPISODES, env_ids: Iterable[str] | None = None) -> None:
    """Measures and writes the returns that scores of 0 and 1 stand for, for each classic problem."""
    measured: dict[str, Any] = {}
    for env_id in env_ids or [name for name, problem in PROBLEMS.items() if problem.group == "classic"]:
        returns = random_returns(env_id, episodes)
        measured[env_id] = {
            "random": statistics.fmean(returns),
            "standard_error": statistics.stdev(returns) / episodes**0.5,
            "episodes": episodes,
            "threshold": reward_threshold(env_id),
        }
    studies.write(path, {"problems": measured})


def anchors(path: Path = RANDOM) -> dict[str, dict[str, float]]:
    """Reads what :func:`measure` wrote, by problem."""
    return json.loads(path.read_text())["problems"]


def normalized(returns: np.ndarray, anchor: dict[str, float]) -> np.ndarray:
    """Converts returns to scores.

    >>> normalized(np.array([-200.0, -150.0, -100.0]), {"random": -200.0, "threshold": -100.0})
    array([0. , 0.5, 1. ])
    """
    return (returns - anchor["random"]) / (anchor["threshold"] - anchor["random"])


def scores(entrants: Sequence[Entrant], problems: dict[str, dict[str, float]]) -> str:
    """The table of interquartile means of scores, for each problem and over all problems.

    Of a label's budgets on one problem the longest counts; over all problems, the seeds that it has on each of them.
    Labels that no plan has, changes of single problems, are left out; where one was planned for some problems only, "-"
    stands for the others and for all.
    """
    planned = {label for problem in problems for label in plan_of(problem).planned}
    present = dict.fromkeys(entrant.label for entrant in entrants if entrant.problem in problems)
    rows = []
    for label in filter(planned.__contains__, present):
        longest = {entrant.problem: entrant for entrant in entrants if entrant.label == label}  # they come by budget
        row, by_seed = {"algorithm": label}, {}
        for problem, anchor in problems.items():
            entrant = longest.get(problem)
            if entrant is None:
                row[problem] = "missing" if label in plan_of(problem).planned else "-"
            else:
                by_seed[problem] = pd.Series(normalized(entrant.finals, anchor), index=entrant.seeds)
                row[problem] = f"{interquartile_mean(by_seed[problem].to_numpy()):.2f} ({entrant.timesteps:,})"
        common = pd.DataFrame(by_seed).dropna()
        if len(by_seed) < len(problems) or common.empty:
            over_all = seeds = "-" if "-" in row.values() else "missing"
        else:
            found = common.to_numpy()
            low, high = curves.interval_over_tasks(found)
            over_all = f"{interquartile_mean(found.ravel()):.2f} [{low:.2f}, {high:.2f}]"
            seeds = ", ".join(map(str, common.index))
        rows.append(row | {"all [95% interval]": over_all, "seeds": seeds})
    return studies.table(rows)
