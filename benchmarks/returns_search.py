"""What was tried on tuning seeds before the settings were chosen: a table of all of it, failures included.

    python benchmarks/returns_search.py               # prints the table
    python benchmarks/returns_search.py LunarLander   # of the problems whose names begin so

It reads the runs of ``returns.py --results benchmarks/results/returns_search.jsonl`` and those of ``defaults.py``.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import defaults

from gsac.experiments.run_file import RunFile

SEARCH = Path(__file__).parent / "results" / "returns_search.jsonl"
HEADER = (
    "problem",
    "steps",
    "settings",
    "seeds",
    "return at the end, by seed",
    "episodes",
    "on the way",
    "CPU seconds",
)


@dataclass(frozen=True)
class Trial:
    """One tuning run.

    :param settings: where it started from, and what was changed
    :param episodes: of the last evaluation
    :param area: the mean of its evaluations
    """

    problem: str
    timesteps: int
    settings: str
    commit: str
    seed: int
    final: float
    episodes: int
    area: float
    cpu_seconds: float


def of_returns(row: dict[str, Any]) -> Trial:
    """A line of ``returns.py``."""
    settings = ", ".join(filter(None, (row["label"], shortened(row["variation"]))))
    final, area = row["final"]["deterministic"], row["area"]["deterministic"]
    return Trial(
        problem=row["problem"],
        timesteps=row["timesteps"],
        settings=settings,
        commit=row["commit"],
        seed=row["seed"],
        final=final,
        episodes=row.get("episodes", len(row["curve"][-1]["deterministic"])),
        area=area,
        cpu_seconds=row["cpu_seconds"] - row.get("evaluation_seconds", 0.0),  # which some runs did not note
    )


def of_defaults(row: dict[str, Any]) -> Trial:
    """A line of ``defaults.py``, whose evaluations on the way are of five episodes, and counted in its seconds."""
    settings = ", ".join(filter(None, ("GSAC, defaults", shortened(row["variation"]))))
    area = statistics.fmean(point["mean"] for point in row["curve"])
    cpu_seconds = row.get("cpu_seconds", row["seconds"])  # which the first runs did not note
    return Trial(
        problem=row["env"],
        timesteps=row["timesteps"],
        settings=settings,
        commit=row["commit"] or "",
        seed=row["seed"],
        final=row["final"],
        episodes=defaults.EPISODES,
        area=area,
        cpu_seconds=cpu_seconds,
    )


def shortened(variation: str) -> str:
    """Without the budget, which has a column of its own.

    >>> shortened("timesteps=30000,n_steps=3,policy.net_arch=[64;64]")
    'n_steps=3, policy.net_arch=[64;64]'
    """
    return ", ".join(change for change in variation.split(",") if not change.startswith("timesteps="))


def trials(search: Path = SEARCH, sweeps: Path = defaults.RESULTS) -> list[Trial]:
    """All of them, in the order in which they were run, sweeps of the defaults first."""
    found = [of_defaults(row) for row in RunFile(sweeps).read()] + [of_returns(row) for row in RunFile(search).read()]
    return [trial for trial in found if trial.seed >= defaults.FIRST_TUNING_SEED]


def table(found: list[Trial]) -> str:
    """A line for each problem, budget and setting; the same settings on another commit are another line."""
    groups: dict[tuple[str, int, str, str], list[Trial]] = {}
    for trial in found:
        groups.setdefault((trial.problem, trial.timesteps, trial.settings, trial.commit), []).append(trial)
    lines = [f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
    for (problem, timesteps, settings, _), group in sorted(groups.items(), key=lambda item: item[0][0]):
        group = sorted(group, key=lambda trial: trial.seed)
        cells = (
            problem,
            f"{timesteps:,}",
            settings.replace("|", "\\|"),
            ", ".join(str(trial.seed) for trial in group),
            ", ".join(f"{trial.final:.4g}" for trial in group),
            " or ".join(str(count) for count in sorted({trial.episodes for trial in group})),
            f"{statistics.fmean(trial.area for trial in group):.4g}",
            f"{statistics.median(trial.cpu_seconds for trial in group):.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tried() -> str:
    """Everything, for the page of results."""
    return table(trials())


if __name__ == "__main__":
    beginning = sys.argv[1] if len(sys.argv) > 1 else ""
    print(table([trial for trial in trials() if trial.problem.startswith(beginning)]))
