"""Tabulates all runs on tuning seeds, by which settings were chosen, failures included.

    python benchmarks/returns_search.py               # prints the table
    python benchmarks/returns_search.py LunarLander   # of the problems whose names begin so
    python benchmarks/returns_search.py --results again.jsonl --seeds all   # of other runs of returns.py

It reads the runs of ``returns.py --results benchmarks/results/returns_search.jsonl``, and those of an earlier program, which
evaluated with five episodes on the way, and counted them in its seconds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from returns_rows import read
from studies import FIRST_TUNING_SEED, RESULTS, command_line, groups, table

from gsac.experiments.runner import Line

SWEEPS, SEARCH = RESULTS / "defaults.jsonl", RESULTS / "returns_search.jsonl"


def settings(line: Line) -> str:
    """Names the run's label and changes, without the budget, which has a column of its own."""
    changed = (change for change in line["variation"].split(",") if not change.startswith("timesteps="))
    return ", ".join(filter(None, (line["label"], *changed)))


def trials(paths: Iterable[Path] = (SWEEPS, SEARCH), first_seed: int = FIRST_TUNING_SEED) -> list[Line]:
    """Reads all runs on seeds from ``first_seed`` up, in the order of the files."""
    return [line for path in paths for line in read(path) if line["seed"] >= first_seed]


def tried(lines: Iterable[Line] | None = None) -> str:
    """The table, with a line for each problem, budget, setting and commit."""
    found = groups(
        trials() if lines is None else lines,
        lambda line: [line["problem"], line["timesteps"], settings(line), line["commit"]],
    )
    return table(row(group) for group in sorted(found, key=lambda group: group[0]["problem"]))


def row(group: list[Line]) -> dict[str, str]:
    """The cells of one setting. CPU seconds are without those of the evaluations, as far as the run measured them."""
    episodes = {line.get("episodes", len(line["curve"][-1]["deterministic"])) for line in group}
    seconds = (line["cpu_seconds"] - line.get("evaluation_seconds", 0.0) for line in group)
    return {
        "problem": group[0]["problem"],
        "steps": f"{group[0]['timesteps']:,}",
        "settings": settings(group[0]).replace("|", "\\|"),
        "seeds": ", ".join(str(line["seed"]) for line in group),
        "return at the end, by seed": ", ".join(f"{line['final']['deterministic']:.4g}" for line in group),
        "episodes": " or ".join(map(str, sorted(episodes))),
        "on the way": f"{statistics.fmean(line['area']['deterministic'] for line in group):.4g}",
        "CPU seconds": f"{statistics.median(seconds):.0f}",
    }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("beginning", nargs="?", default="", help="of the names of the problems to show")
    parser.add_argument("--results", type=Path, nargs="+", default=(SWEEPS, SEARCH))
    parser.add_argument("--seeds", choices=("tuning", "all"), default="tuning")
    args = parser.parse_args()
    found = trials(args.results, FIRST_TUNING_SEED if args.seeds == "tuning" else 0)
    print(tried([line for line in found if line["problem"].startswith(args.beginning)]))


if __name__ == "__main__":
    main()
