"""Checks, for each problem, whether GSAC reaches the return that it should reach: its bar."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arena import OURS, PROBLEMS
from returns_rows import Entrant, of_problem
from studies import table

from gsac.experiments import curves

Verdict = tuple[bool | None, str]
"""Whether a condition holds, None where runs are missing; and the figures."""

Condition = Callable[[Entrant, Sequence[Entrant]], Verdict]
"""Of our own runs and of everything on the same problem."""


@dataclass(frozen=True)
class SeedsAtLeast:
    """At least ``share`` of the seeds end with a return of at least ``value``."""

    value: float
    share: float = 0.8

    def __call__(self, own: Entrant, field: Sequence[Entrant]) -> Verdict:
        n = int((own.finals >= self.value).sum())
        return n >= self.share * len(own.runs), f"{n} of {len(own.runs)} seeds at {self.value:g} or more"


@dataclass(frozen=True)
class MeanAtLeast:
    """The mean over the seeds of the returns at the end is at least ``value``."""

    value: float

    def __call__(self, own: Entrant, field: Sequence[Entrant]) -> Verdict:
        mean = round(statistics.fmean(own.finals), 6)  # a bar that is met to the digit is met
        return mean >= self.value, f"mean {mean:.4g}"


@dataclass(frozen=True)
class AboveInterval:
    """Our interquartile mean lies above the upper end of the rival's interval.

    :param steps: the rival's budget, our own if None
    """

    algo: str
    steps: int | None = None

    def __call__(self, own: Entrant, field: Sequence[Entrant]) -> Verdict:
        def holds(rival: Entrant) -> bool:
            return bool(curves.interquartile_mean(own.finals) > curves.interval(rival.finals[:, None])[1])

        return against(self.algo, self.steps or own.timesteps, field, holds)


@dataclass(frozen=True)
class ShareOfIQM:
    """Our interquartile mean is at least ``share`` of that of the rival with the same budget, or above it."""

    algo: str
    share: float = 1.0
    above: bool = False

    def __call__(self, own: Entrant, field: Sequence[Entrant]) -> Verdict:
        def holds(rival: Entrant) -> bool:
            ours, bar = curves.interquartile_mean(own.finals), self.share * curves.interquartile_mean(rival.finals)
            return bool(ours > bar if self.above else ours >= bar)

        return against(self.algo, own.timesteps, field, holds)


def against(algo: str, steps: int, field: Sequence[Entrant], holds: Callable[[Entrant], bool]) -> Verdict:
    """Checks the condition against all complete entries of this algorithm and budget. Returns the verdict and their figures."""
    rivals = [rival for rival in field if rival.algo == algo and rival.timesteps == steps]
    if not rivals or any(rival.missing_seeds for rival in rivals):
        return None, f"{algo.upper()} with {steps:,} steps missing"
    figures = ", ".join(f"{rival.label} {curves.with_interval(rival.finals)}" for rival in rivals)
    return all(map(holds, rivals)), f"{figures} with {steps:,} steps"


@dataclass(frozen=True)
class Bar:
    """The return that should be reached on one problem.

    :param steps: the budget; None for the longest that the label has
    :param text: the bar, in words
    :param conditions: all of which have to hold
    :param line: the return to be reached, where it is a number
    """

    steps: int | None
    text: str
    conditions: tuple[Condition, ...]
    line: float | None = None
    label: str = OURS


MINATAR = Bar(
    None,
    "IQM no lower than DQN's and SDSAC's with the same steps",
    (ShareOfIQM("dqn"), ShareOfIQM("sdsac")),
)
BARS: dict[str, Bar] = {
    "CartPole-v1": Bar(10_000, "500 on 4 of 5 seeds", (SeedsAtLeast(500.0),), line=500.0),
    "Acrobot-v1": Bar(50_000, "mean of the seeds at least -75", (MeanAtLeast(-75.0),), line=-75.0),
    "LunarLander-v3": Bar(
        50_000,
        "240 on 4 of 5 seeds, and above DQN's and SDSAC's intervals with 100,000 steps",
        (SeedsAtLeast(240.0), AboveInterval("dqn", 100_000), AboveInterval("sdsac", 100_000)),
        line=240.0,
    ),
    "MountainCar-v0": Bar(120_000, "mean of the seeds at least -105", (MeanAtLeast(-105.0),), line=-105.0),
    **{name: MINATAR for name, problem in PROBLEMS.items() if problem.group == "minatar"},
    "HalfCheetah-v5, 7 bins": Bar(
        100_000,
        "IQM above PPO's, and at least 80% of SAC's on continuous actions, with the same steps",
        (ShareOfIQM("ppo", above=True), ShareOfIQM("sac", share=0.8)),
    ),
}


def judged(bar: Bar, field: Sequence[Entrant]) -> Verdict:
    """Whether the bar is met; None while seeds of our own are missing, or rivals that could still decide it.

    :param field: everything on the problem
    """
    own = [entrant for entrant in field if entrant.label == bar.label and bar.steps in (None, entrant.timesteps)]
    if not own:
        return None, f"{bar.label} missing"
    entrant = own[-1]
    verdicts = [condition(entrant, field) for condition in bar.conditions]
    figures = [f"IQM {curves.with_interval(entrant.finals)}", *(figures for _, figures in verdicts)]
    if missing := entrant.missing_seeds:
        figures.insert(0, f"seeds {', '.join(map(str, missing))} missing")
        return None, "; ".join(figures)
    states = [state for state, _ in verdicts]
    decided = False if False in states else None if None in states else True
    return decided, "; ".join(figures)


def bars(entrants: Sequence[Entrant]) -> str:
    """The table of all bars and verdicts."""
    rows = []
    for problem, bar in BARS.items():
        field = of_problem(problem, entrants)
        met, figures = judged(bar, field)
        longest = max((entrant.timesteps for entrant in field if entrant.label == bar.label), default=None)
        steps = bar.steps or longest
        state = {True: "**met**", False: "not met", None: "missing"}[met]
        rows.append(
            {
                "environment": problem,
                "algorithm": OURS,
                "steps": f"{steps:,}" if steps else "missing",
                "bar": bar.text,
                "reached": figures,
                "": state,
            }
        )
    return table(rows).replace("|  |", "| |", 1)
