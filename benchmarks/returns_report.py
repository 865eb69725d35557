"""Reports the runs of ``returns.py``: tables of all runs, bars, scores over several problems, and learning curves.

    python benchmarks/returns_report.py                                   # prints all tables
    python benchmarks/returns_report.py --results again.jsonl --pictures . # of other runs, and draws their curves
    python benchmarks/returns_report.py --random                          # measures uniform actions, and stops

``python benchmarks/readme.py`` writes tables and pictures to their places.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import returns_pictures
import returns_rows
import returns_scores
from arena import OURS
from returns_bars import BARS, bars
from returns_rows import GROUPS, LABELS, Entrant, of_problem, plan_of
from studies import command_line, table

from gsac.experiments import curves

COMPACT = (OURS, "GSAC, defaults", "SDSAC", "DQN", "QRDQN", "PPO", "REINFORCE", "SAC, continuous actions")
"""The columns of the README's table."""


def numbers(seeds: Sequence[int]) -> str:
    """Names the seeds.

    >>> numbers([0, 1, 2, 3]), numbers([0, 2]), numbers([4])
    ('seeds 0 to 3', 'seeds 0, 2', 'seed 4')
    """
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def iqm(scores: np.ndarray) -> str:
    return f"{curves.interquartile_mean(scores):.4g}"


def row(name: str, entrant: Entrant, title: str = "algorithm") -> dict[str, str]:
    """A table's line. Planned seeds that did not run are marked as missing.

    :param title: the heading of the name's column
    """
    planned = range(plan_of(entrant.problem).n_seeds)
    finals = dict(zip(entrant.seeds, entrant.finals, strict=True))
    seeds = sorted({*planned, *entrant.seeds})
    each = ", ".join(f"{finals[seed]:.4g}" if seed in finals else "missing" for seed in seeds)
    if seeds != list(planned):
        each += f" ({numbers(seeds)})"
    training = statistics.median(run["cpu_seconds"] - run["evaluation_seconds"] for run in entrant.runs)
    return {
        title: name,
        "steps": f"{entrant.timesteps:,}",
        "return at the end, by seed": each,
        "median": f"{np.median(entrant.finals):.4g}",
        "IQM [95% interval]": curves.with_interval(entrant.finals),
        "IQM, stochastic": iqm(entrant.figures("final", "stochastic")),
        "IQM on the way": iqm(entrant.figures("area")),
        "CPU seconds, median": f"{training:.0f}",
    }


def label_table(label: str, entrants: Sequence[Entrant]) -> str:
    """The table of one algorithm on every problem where it has run."""
    return table(row(entrant.problem, entrant, "environment") for entrant in entrants if entrant.label == label)


def problem_table(problem: str, field: Sequence[Entrant]) -> str:
    """The section of one problem: all algorithms, also planned ones that are missing, and the command that repeats the runs.

    :param field: everything on the problem
    """
    if not field:
        return f"### {problem}\n\nmissing"
    plan, present = plan_of(problem), {entrant.label for entrant in field}
    rows = [row(entrant.label, entrant) for entrant in field]
    missing = dict.fromkeys(rows[0], "missing")
    rows += [missing | {"algorithm": label} for label in plan.planned if label not in present]
    episodes = sorted({entrant.episodes for entrant in field})
    settings = dict.fromkeys(f"{entrant.label}: {entrant.runs[0]['settings_from']}" for entrant in field)
    caption = (
        f"{numbers(range(plan.n_seeds)).capitalize()}; {' or '.join(map(str, episodes))} episodes an evaluation. "
        f"Settings: {'; '.join(settings)}."
    )
    seeds = " ".join(map(str, range(plan.n_seeds)))
    command = f"python benchmarks/returns.py --problems {shlex.quote(problem)} --seeds {seeds} --results again.jsonl"
    parts = [f"### {problem}", table(rows), caption, f"To replicate: `{command}`"]
    return "\n\n".join(parts)


def group(name: str, entrants: Sequence[Entrant]) -> str:
    """The picture and the sections of a group of problems."""
    shown = returns_rows.problems((entrant.problem for entrant in entrants), name)
    parts = [problem_table(problem, of_problem(problem, entrants)) for problem in shown]
    return "\n\n".join([*picture_link(name, entrants), *parts])


def picture_link(name: str, entrants: Sequence[Entrant]) -> list[str]:
    """The Markdown link to the picture of this name; nothing if the picture would be empty."""
    (picture,) = (picture for picture in returns_pictures.PICTURES if picture.name == name)
    shown = returns_pictures.panels(picture, entrants)
    return [f"![learning curves](../benchmarks/results/{picture.file})"] if shown else []


def compact(entrants: Sequence[Entrant], columns: Sequence[str] = COMPACT, shown: Sequence[str] | None = None) -> str:
    """The table of interquartile means with intervals, a line for each problem.

    An algorithm is shown with our budget on the problem if it ran with it, or else with its longest, which is then named.

    :param shown: the problems; all if None
    """
    rows = []
    for problem in returns_rows.problems(entrant.problem for entrant in entrants) if shown is None else shown:
        field = of_problem(problem, entrants)
        bar = BARS.get(problem)
        ours = filter(None, (chosen(label, bar.steps if bar else None, field) for label in (OURS, "GSAC, defaults")))
        steps = next((entrant.timesteps for entrant in ours), None)
        cells = {label: cell(problem, label, steps, field) for label in columns}
        rows.append({"environment": problem, "steps": f"{steps:,}" if steps else "missing"} | cells)
    return table(rows)


def cell(problem: str, label: str, steps: int | None, field: Sequence[Entrant]) -> str:
    entrant, plan = chosen(label, steps, field), plan_of(problem)
    if entrant is None:
        return "missing" if label in plan.planned else "-"
    notes = [] if entrant.timesteps == steps else [f"{entrant.timesteps:,} steps"]
    if absent := len(entrant.missing_seeds):
        notes.append(f"{absent} of {plan.n_seeds} seeds missing")
    return curves.with_interval(entrant.finals) + (f" ({', '.join(notes)})" if notes else "")


def chosen(label: str, steps: int | None, field: Sequence[Entrant]) -> Entrant | None:
    """Finds the runs of this label with this many steps; if there are none, with the most."""
    of_label = [entrant for entrant in field if entrant.label == label]
    return next((entrant for entrant in of_label if entrant.timesteps == steps), of_label[-1] if of_label else None)


def estimators(entrants: Sequence[Entrant]) -> str:
    """The picture and the table of our preset with each estimator, for problems where any was planned or run."""
    labels: dict[str, set[str]] = {}
    for problem in returns_rows.problems(entrant.problem for entrant in entrants):
        there = {*plan_of(problem).planned, *(entrant.label for entrant in of_problem(problem, entrants))}
        if varied := {label for label in there if label.startswith(returns_pictures.VARIATION)}:
            labels[problem] = varied
    columns = [label for label in LABELS if label == OURS or any(label in varied for varied in labels.values())]
    return "\n\n".join([*picture_link("estimators", entrants), compact(entrants, columns, [*labels])])


def scores(entrants: Sequence[Entrant]) -> str:
    return returns_scores.scores(entrants, returns_scores.anchors())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument("--results", type=Path, default=returns_rows.RESULTS)
    parser.add_argument("--pictures", type=Path, help="the folder to draw learning curves in")
    parser.add_argument("--random", action="store_true", help="measure the returns of uniform actions, and stop")
    args = parser.parse_args(arguments)
    if args.random:
        returns_scores.measure()
        return
    entrants = returns_rows.load(args.results)
    print(bars(entrants), compact(entrants), scores(entrants), *(group(name, entrants) for name in GROUPS), sep="\n\n")
    if args.pictures:
        for path in returns_pictures.draw_all(entrants, args.pictures):
            print(f"\n{path}")


if __name__ == "__main__":
    main()
