"""Reads the runs of ``returns.py`` and of former programs, and groups them by problem, algorithm and budget."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import studies
from arena import ENTRANTS, PROBLEMS, Entry, Problem, todays
from studies import changes, groups, reported

from gsac.algorithms.arguments import upgraded as upgraded_arguments
from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import Line, identity_of
from gsac.moved import MOVED

RESULTS = studies.RESULTS / "returns.jsonl"
LABELS = tuple(ENTRANTS)
"""In the order of the tables; others follow in the order of the file."""

GROUPS = tuple(dict.fromkeys(problem.group for problem in PROBLEMS.values()))
UNPLANNED = Problem("large", "", 0, 0)
"""The plan for problems that are not in ``PROBLEMS``."""

IDENTITY = ("env", "label", "seed", "timesteps", "n_envs", "normalize", "env_wrapper", "configuration")


@dataclass(frozen=True, eq=False)
class Entrant:
    """The runs of one algorithm with one budget on one problem: a row of a table, a curve of a picture.

    :param label: with the variation behind it, where there is one
    :param runs: the lines of the file, by seed
    """

    problem: str
    label: str
    algo: str
    timesteps: int
    runs: tuple[Line, ...]

    @property
    def seeds(self) -> list[int]:
        return [run["seed"] for run in self.runs]

    @property
    def finals(self) -> np.ndarray:
        """Mean returns of the deterministic policy at the end. [runs]"""
        return self.figures("final")

    @property
    def episodes(self) -> int:
        """The number of episodes of an evaluation."""
        return len(self.runs[0]["curve"][-1]["deterministic"])

    @property
    def missing_seeds(self) -> list[int]:
        """The planned seeds that it has not run."""
        return [seed for seed in range(plan_of(self.problem).n_seeds) if seed not in self.seeds]

    def figures(self, name: str, kind: str = "deterministic") -> np.ndarray:
        """``final`` or ``area`` of the ``deterministic`` or ``stochastic`` policy. [runs]"""
        return np.array([run[name][kind] for run in self.runs], dtype=float)

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """The steps of the evaluations, and the deterministic policy's mean returns at them. [T], [runs, T]"""
        steps = np.array([point["step"] for point in self.runs[0]["curve"]])
        return steps, np.array(
            [[statistics.fmean(point["deterministic"]) for point in run["curve"]] for run in self.runs]
        )


def load(path: Path = RESULTS) -> list[Entrant]:
    """Reads and groups the reported runs of a file; an empty list if there is no file.

    :raises ValueError: see :func:`entrants`
    """
    return entrants(read(path))


def read(path: Path) -> list[Line]:
    """Reads all lines of a file, in today's form."""
    return [upgraded(line) for line in RunFile(path).read()]


def upgraded(line: Line) -> Line:
    """Translates a line to today's form: modules by their present names, and lines of former programs as ``returns.py`` writes them."""
    for name, convert in FORMER.items():
        if name in line:
            line = line | {"n_envs": 1, "normalize": False, "env_wrapper": None} | convert(line)
            line = {key: value for key, value in line.items() if key != name}
    return line | {name: _renamed(line[name]) for name in ("variation", "env_wrapper") if name in line}


def _of_defaults(line: Line) -> Line:
    """Translates a line of a program that evaluated with 5 episodes during training and 20 at the end."""
    algo = "reinforce" if "baseline" in line["config"] else "gsac"
    return _of_env(line["env"]) | {
        **{"algo": algo, "label": "GSAC, defaults" if algo == "gsac" else "REINFORCE"},
        **{"configuration": line["config"], "episodes": 20},
        "curve": [{"step": point["step"], "deterministic": [point["mean"]]} for point in line["curve"]],
        "final": {"deterministic": line["final"], "stochastic": line["final_stochastic"]},
        "area": {"deterministic": statistics.fmean(point["mean"] for point in line["curve"])},
    }


def _of_wall_time(line: Line) -> Line:
    settings = line["settings"]
    return {
        **{"problem": "CartPole-v1", "label": {"gsac": "GSAC, plain"}.get(line["algo"], line["algo"].upper())},
        **{"n_envs": settings["n_envs"], "timesteps": settings["total_timesteps"], "settings_from": settings["source"]},
        "configuration": settings["arguments"],
    }


def _of_gradients(line: Line) -> Line:
    entry = Entry(line["arguments"] | {"policy_kwargs": line["policy_kwargs"]})
    return _of_env(line["env"]) | {
        **{"algo": "gsac", "label": "GSAC, plain", "variation": ""},
        "configuration": entry.complete() | upgraded_arguments(line["arguments"]),
    }


FORMER: dict[str, Callable[[Line], Line]] = {
    "config": _of_defaults,
    "budget": _of_wall_time,
    "policy_kwargs": _of_gradients,
}
"""An entry that only lines of a former program have -> what they lack of today's form."""


def _of_env(env: str) -> Line:
    """Finds the problem of an environment that former programs registered."""
    if env == "gsac/HalfCheetah7-v0":
        problem = "HalfCheetah-v5, 7 bins"
        return {"problem": problem, "env_wrapper": PROBLEMS[problem].discretized}
    return {"problem": "Pairs, MultiBinary(40)" if env == "gsac/Pairs40-v0" else env}


def _renamed(value: Any) -> Any:
    """Replaces the former name of the module of wrappers, anywhere in plain data."""
    if isinstance(value, str):
        return value.replace("gsac.wrappers.", f"{MOVED['gsac.wrappers']}.")
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if isinstance(value, dict):
        return {_renamed(name): item for name, item in value.items()}
    return value


def identity(line: Line) -> str:
    """The same text for lines of the same run, whatever their age, and a different one for other runs."""
    line = upgraded(line)
    environment = PROBLEMS[line["problem"]].env if line["problem"] in PROBLEMS else line["problem"]
    configuration = todays(line["algo"], line.get("configuration", {}))
    return identity_of(line | {"env": environment, "configuration": configuration}, IDENTITY)


def named(label: str, variation: str) -> str:
    """Appends the variation to the label, with wrappers by the names of their classes."""
    parts = []
    for change in variation.split(","):
        if change.startswith("env_wrapper="):
            parts += [_wrapper(described) for described in changes(change)["env_wrapper"]]
        else:
            parts.append(change)
    return ", ".join(filter(None, (label, ",".join(parts))))


def _wrapper(described: dict[str, dict[str, Any]]) -> str:
    [(path, arguments)] = described.items()
    return f"{path.rpartition('.')[2]}({', '.join(f'{name}={value}' for name, value in arguments.items())})"


def entrants(lines: Iterable[Line]) -> list[Entrant]:
    """Groups the reported lines by problem, label and budget.

    :raises ValueError: a seed that stands there twice, or seeds of one entrant that ran with different settings or were
        evaluated at different steps
    """
    found = []
    lines = [line | {"label": named(line["label"], line.get("variation", ""))} for line in reported(lines)]
    for runs in groups(lines, lambda line: [line["problem"], line["label"], line["timesteps"]]):
        problem, label, timesteps = (runs[0][name] for name in ("problem", "label", "timesteps"))
        _check(f"{label} on {problem} with {timesteps:,} steps", runs)
        found.append(Entrant(problem, label, runs[0]["algo"], timesteps, tuple(runs)))
    labels = list(dict.fromkeys([*LABELS, *(entrant.label for entrant in found)]))
    order = problems(entrant.problem for entrant in found)
    return sorted(found, key=lambda own: (order.index(own.problem), labels.index(own.label), own.timesteps))


def _check(name: str, runs: Sequence[Line]) -> None:
    seeds = [run["seed"] for run in runs]
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise ValueError(f'{name}: seed {seed} stands there twice. Write "superseded": "why" into one of the rows.')
    settings = [identity(run | {"seed": None}) for run in runs]
    steps = [[point["step"] for point in run["curve"]] for run in runs]
    for what, found in (("settings", settings), ("evaluation steps", steps)):
        if any(one != found[0] for one in found):
            raise ValueError(
                f'{name}: seeds {", ".join(map(str, sorted(seeds)))} have different {what}. Write "superseded": "why" '
                "into the older rows, or give them another label."
            )


def plan_of(problem: str) -> Problem:
    """Finds the problem's entry in ``PROBLEMS``; five seeds of our preset if it has none."""
    return PROBLEMS.get(problem, UNPLANNED)


def problems(found: Iterable[str] = (), group: str | None = None) -> list[str]:
    """Lists our problems and then others that were found; those of one group if it is given."""
    return [name for name in dict.fromkeys([*PROBLEMS, *found]) if group in (None, plan_of(name).group)]


def of_problem(problem: str, entrants: Sequence[Entrant]) -> list[Entrant]:
    return [entrant for entrant in entrants if entrant.problem == problem]
