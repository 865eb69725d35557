"""Functions that all benchmarks use: variations of settings, command lines, files of results, tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import Job, Line, commit, run_missing, versions
from gsac.saving.files import atomic_write

RESULTS = Path(__file__).parent / "results"
FIRST_TUNING_SEED = 100
"""Seeds from here up are for tuning, those below for reporting."""

PLAIN: dict[str, Any] = {
    "noise_duration": 1,
    "epsilon": 0,
    "target": "mean",
    "target_entropy": "auto_0.3",
}
"""GSAC as it was before these arguments had other defaults: exploration by samples of the policy alone, a steady target entropy,
and targets at the mean over actions. Estimators and replay buffers are compared with it."""


def command_line(description: str | None) -> argparse.ArgumentParser:
    """Makes a parser of arguments whose help shows a module's docstring unchanged."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def run_jobs(
    jobs: Sequence[Job],
    results: Path,
    n_processes: int,
    identity: Callable[[Line], str],
    summary: Callable[[Line], str],
) -> None:
    """Makes the runs that the file does not hold yet. Raises SystemExit if one fails."""
    failures = run_missing(jobs, RunFile(results), n_processes, identity, summary)
    if failures:
        failed = "\n".join(failures)
        raise SystemExit(f"{len(failures)} runs failed; the same command tries them again:\n{failed}")


def reported(lines: Iterable[Line]) -> list[Line]:
    """Selects the lines of reported seeds that are not marked ``superseded``."""
    return [line for line in lines if line["seed"] < FIRST_TUNING_SEED and not line.get("superseded")]


def groups(lines: Iterable[Line], key: Callable[[Line], Any]) -> list[list[Line]]:
    """Groups lines by key, in the order in which keys first appear; within a group by seed."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(json.dumps(key(line), sort_keys=True), []).append(line)
    return [sorted(group, key=lambda line: line["seed"]) for group in found.values()]


def changes(variation: str) -> dict[str, Any]:
    """Parses a variation such as ``n_steps=3,policy.net_arch=[64;64]``. Values are JSON with ``;`` for commas, or else text.

    >>> changes("n_steps=3,policy.net_arch=[64;64],estimator=rloo:samples=4")
    {'n_steps': 3, 'policy.net_arch': [64, 64], 'estimator': 'rloo:samples=4'}
    """
    found: dict[str, Any] = {}
    for change in filter(None, variation.split(",")):
        name, _, text = change.partition("=")
        try:
            found[name] = json.loads(text.replace(";", ","))
        except json.JSONDecodeError:
            found[name] = text
    return found


def varied(arguments: Mapping[str, Any], variation: Mapping[str, Any]) -> dict[str, Any]:
    """Applies a variation to constructor arguments; ``policy.X`` sets ``policy_kwargs[X]``."""
    policy = {**(arguments.get("policy_kwargs") or {})}
    policy |= {name.removeprefix("policy."): value for name, value in variation.items() if name.startswith("policy.")}
    changed = {**arguments} | {name: value for name, value in variation.items() if not name.startswith("policy.")}
    return changed | {"policy_kwargs": policy} if policy else changed


def table(rows: Iterable[Mapping[str, object]]) -> str:
    """Formats a Markdown table with a column for each key, without a final line break; "missing" if there are no rows."""
    rows = list(rows)
    header = list(dict.fromkeys(name for row in rows for name in row))
    cells = [header, *([row.get(name, "") for name in header] for row in rows)]
    first, *lines = (f"| {' | '.join(map(str, line))} |" for line in cells)
    return "\n".join([first, f"{'|---' * len(header)}|", *lines]) if rows else "missing"


def pivot(title: str, cells: Iterable[tuple[str, str, str]]) -> str:
    """Formats a Markdown table of cells, each given by its row, its column and its text; ``title`` heads the rows."""
    rows: dict[str, dict[str, str]] = {}
    for row, column, text in cells:
        rows.setdefault(row, {title: row})[column] = text
    return table(rows.values())


def write(path: Path, result: dict[str, Any]) -> None:
    """Writes a result as JSON, with the versions and the commit that it was measured with."""
    with atomic_write(path) as file:
        file.write(json.dumps(result | {"versions": versions(), "commit": commit()}, indent=1).encode() + b"\n")


def read(name: str) -> dict[str, Any]:
    """Reads the JSON file of this name among the results."""
    return json.loads((RESULTS / name).read_text())
