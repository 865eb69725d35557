"""Checks, for each problem, whether GSAC reaches the return that it should reach: its bar."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from arena import OURS, PROBLEMS
from returns_rows import Entrant, of_problem
from studies import table

from gsac.experiments import curves
from gsac.experiments.curves import interquartile_mean

Verdict = tuple[bool | None, str]
"""Whether a condition holds, None where runs are missing; and the figures."""


def most_seeds(finals: np.ndarray, value: float) -> Verdict:
    """Checks that at least four of five seeds end with this return or more."""
    n = int((finals >= value).sum())
    return n >= 0.8 * len(finals), f"{n} of {len(finals)} seeds at {value:g} or more"


def mean(finals: np.ndarray, value: float) -> Verdict:
    """Checks that the mean over the seeds is at least this return."""
    mean = round(statistics.fmean(finals), 6)  # a bar that is met to the digit is met
    return mean >= value, f"mean {mean:.4g}"


def above_interval(own: np.ndarray, rival: np.ndarray) -> bool:
    """Whether our interquartile mean lies above the upper end of the rival's interval."""
    return bool(interquartile_mean(own) > curves.interval(rival[:, None])[1])


def no_lower(own: np.ndarray, rival: np.ndarray) -> bool:
    return bool(interquartile_mean(own) >= interquartile_mean(rival))


def higher(own: np.ndarray, rival: np.ndarray) -> bool:
    return bool(interquartile_mean(own) > interquartile_mean(rival))


def at_least_80_percent(own: np.ndarray, rival: np.ndarray) -> bool:
    return bool(interquartile_mean(own) >= 0.8 * interquartile_mean(rival))


@dataclass(frozen=True)
class Bar:
    """The return that our preset should reach on one problem.

    :param text: the bar, in words
    :param steps: our budget; None for the longest that we have
    :param line: the return to be reached, where it is a number
    :param reached: checks our returns at the end against this number
    :param rivals: by algorithm, what has to hold between our returns at the end and those of each of its entrants
    :param rival_steps: the rivals' budget; our own if None
    """

    text: str
    steps: int | None = None
    line: float | None = None
    reached: Callable[[np.ndarray, float], Verdict] = mean
    rivals: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = field(default_factory=dict)
    rival_steps: int | None = None


BARS: dict[str, Bar] = {
    "CartPole-v1": Bar("500 on 4 of 5 seeds", 10_000, 500.0, most_seeds),
    "Acrobot-v1": Bar("mean of the seeds at least -75", 50_000, -75.0),
    "LunarLander-v3": Bar(
        "240 on 4 of 5 seeds, and above DQN's and SDSAC's intervals with 100,000 steps",
        *(50_000, 240.0, most_seeds),
        rivals={"dqn": above_interval, "sdsac": above_interval},
        rival_steps=100_000,
    ),
    "MountainCar-v0": Bar("mean of the seeds at least -105", 120_000, -105.0),
    **{
        name: Bar(
            "IQM no lower than DQN's and SDSAC's with the same steps", rivals={"dqn": no_lower, "sdsac": no_lower}
        )
        for name, problem in PROBLEMS.items()
        if problem.group == "minatar"
    },
    "HalfCheetah-v5, 7 bins": Bar(
        "IQM above PPO's, and at least 80% of SAC's on continuous actions, with the same steps",
        100_000,
        rivals={"ppo": higher, "sac": at_least_80_percent},
    ),
}


def ours(bar: Bar, field: Sequence[Entrant]) -> Entrant | None:
    """Finds the runs of our preset with the bar's budget, among everything on the problem."""
    own = [entrant for entrant in field if entrant.label == OURS and bar.steps in (None, entrant.timesteps)]
    return own[-1] if own else None  # they come by budget


def judged(bar: Bar, field: Sequence[Entrant]) -> Verdict:
    """Whether the bar is met; None while seeds of our own are missing, or rivals that could still decide it.

    :param field: everything on the problem
    """
    own = ours(bar, field)
    if own is None:
        return None, f"{OURS} missing"
    verdicts = [bar.reached(own.finals, bar.line)] if bar.line is not None else []
    for algo, holds in bar.rivals.items():
        steps = bar.rival_steps or own.timesteps
        rivals = [rival for rival in field if rival.algo == algo and rival.timesteps == steps]
        if not rivals or any(rival.missing_seeds for rival in rivals):
            verdicts.append((None, f"{algo.upper()} with {steps:,} steps missing"))
        else:
            figures = ", ".join(f"{rival.label} {curves.with_interval(rival.finals)}" for rival in rivals)
            met = all(holds(own.finals, rival.finals) for rival in rivals)
            verdicts.append((met, f"{figures} with {steps:,} steps"))
    figures = "; ".join([f"IQM {curves.with_interval(own.finals)}", *(figures for _, figures in verdicts)])
    if own.missing_seeds:
        return None, f"seeds {', '.join(map(str, own.missing_seeds))} missing; {figures}"
    states = [state for state, _ in verdicts]
    return False if False in states else None if None in states else True, figures


def bars(entrants: Sequence[Entrant]) -> str:
    """The table of all bars and verdicts."""
    rows = []
    for problem, bar in BARS.items():
        field = of_problem(problem, entrants)
        met, figures = judged(bar, field)
        own = ours(bar, field)
        steps = bar.steps or (own and own.timesteps)
        rows.append(
            {
                "environment": problem,
                "algorithm": OURS,
                "steps": f"{steps:,}" if steps else "missing",
                "bar": bar.text,
                "reached": figures,
                "": {True: "**met**", False: "not met", None: "missing"}[met],
            }
        )
    return table(rows).replace("|  |", "| |", 1)
