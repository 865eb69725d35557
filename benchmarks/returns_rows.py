"""The runs of ``returns.py`` as its reports read them: by problem, algorithm and budget."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import defaults
import numpy as np

from gsac.algorithms.arguments import upgraded
from gsac.experiments.run_file import RunFile

RESULTS = Path(__file__).parent / "results" / "returns.jsonl"
OURS = "GSAC, preset"
LABELS = (
    OURS,
    "GSAC, defaults",
    "GSAC, plain",
    "GSAC, preset, gumbel_softmax",
    "GSAC, preset, straight_through_gumbel",
    "GSAC, preset, rloo",
    "GSAC, preset, local_expectation",
    "GSAC, preset, expected",
    "SDSAC",
    "DQN",
    "DQN, centred RMSprop",
    "QRDQN",
    "PPO",
    "REINFORCE",
    "SAC, continuous actions",
)
"""In the order of the tables; others follow in the order of the file."""


IDENTITY = ("problem", "label", "seed", "timesteps", "n_envs", "normalize", "env_wrapper", "configuration")
"""The entries of a run's line that tell it from other runs."""

BEFORE = defaults.PLAIN | {"bound_targets": False}
"""GSAC as it was before it had these arguments, which the first lines of the file do not name."""


@dataclass(frozen=True)
class Plan:
    """What has to be there for one problem, so that what is not can be called missing."""

    labels: tuple[str, ...]
    n_seeds: int = 5

    @property
    def seeds(self) -> range:
        """From 0 up."""
        return range(self.n_seeds)


CLASSIC = (
    *(OURS, "GSAC, defaults", "GSAC, preset, gumbel_softmax", "GSAC, preset, expected"),
    *("SDSAC", "DQN", "QRDQN", "PPO", "REINFORCE"),
)
SAME_ON_LINEAR = "GSAC, preset, straight_through_gumbel"
"""Has the gradient of ``gumbel_softmax`` on critics that are linear in one choice, as these presets' are; one problem shows it."""
MINATAR = Plan((OURS, "SDSAC", "DQN", "DQN, centred RMSprop"))
CUT = Plan((OURS, "GSAC, defaults", "PPO", "SAC, continuous actions"))
SWITCHES = Plan(("GSAC, defaults", "PPO"))
PLANS: dict[str, dict[str, Plan]] = {
    "classic": {
        "CartPole-v1": Plan((*CLASSIC, SAME_ON_LINEAR)),
        **dict.fromkeys(("Acrobot-v1", "LunarLander-v3", "MountainCar-v0"), Plan(CLASSIC)),
    },
    "minatar": dict.fromkeys(("Breakout", "Asterix", "Freeway", "SpaceInvaders"), MINATAR),
    "large": {
        "LunarLanderContinuous-v3, 7 bins": CUT,
        "BipedalWalker-v3, 7 bins": CUT,
        "HalfCheetah-v5, 7 bins": Plan((OURS, "PPO", "SAC, continuous actions"), n_seeds=3),
        **dict.fromkeys((f"{name}, MultiBinary({n})" for name in ("Switches", "Pairs") for n in (20, 40)), SWITCHES),
    },
}
"""The problems of each group, in the order of the report."""


@dataclass(frozen=True, eq=False)
class Entrant:
    """One algorithm with one budget on one problem: a row of a table, a curve of a picture.

    :param label: with the variation behind it, where there is one
    :param runs: the rows of the file, by seed
    """

    problem: str
    label: str
    algo: str
    timesteps: int
    runs: tuple[dict[str, Any], ...]

    @property
    def seeds(self) -> list[int]:
        return [run["seed"] for run in self.runs]

    @property
    def finals(self) -> np.ndarray:
        """Mean returns of the deterministic policy at the end. [runs]"""
        return self.figures("final")

    @property
    def episodes(self) -> int:
        """Of an evaluation."""
        return len(self.runs[0]["curve"][-1]["deterministic"])

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
    """What the file shows; nothing if there is none.

    :raises ValueError: see :func:`entrants`
    """
    return entrants(RunFile(path).read())


def reported(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without tuning seeds, and without what was superseded."""
    return [row for row in rows if row["seed"] < defaults.FIRST_TUNING_SEED and not row.get("superseded")]


def identity(row: dict[str, Any]) -> str:
    """What tells a run from others. Arguments that came after it was made count as what changes nothing."""
    configuration = row.get("configuration", {})
    complete = row | {"configuration": BEFORE | upgraded(configuration) if row["algo"] == "gsac" else configuration}
    return json.dumps({name: complete.get(name) for name in IDENTITY}, sort_keys=True, default=str)


def named(label: str, variation: str) -> str:
    """The label with its changes behind it, wrappers by the names of their classes."""
    changes = []
    for change in variation.split(","):
        if change.startswith("env_wrapper="):
            [(_, wrappers)] = defaults.changes(change)
            changes += [_wrapper(described) for described in wrappers]
        else:
            changes.append(change)
    return ", ".join(filter(None, (label, ",".join(changes))))


def _wrapper(described: dict[str, dict[str, Any]]) -> str:
    [(path, arguments)] = described.items()
    return f"{path.rpartition('.')[2]}({', '.join(f'{name}={value}' for name, value in arguments.items())})"


def entrants(rows: Iterable[dict[str, Any]]) -> list[Entrant]:
    """The reported rows, together where only the seed differs; by problem, label and budget.

    :raises ValueError: a seed that stands there twice, or seeds of one entrant that ran with different settings or were
        evaluated at different steps
    """
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in reported(rows):
        found.setdefault((row["problem"], named(row["label"], row.get("variation", "")), row["timesteps"]), []).append(
            row
        )
    for (problem, label, timesteps), runs in found.items():
        _check(f"{label} on {problem} with {timesteps:,} steps", runs)
    labels = [*LABELS, *dict.fromkeys(label for _, label, _ in found if label not in LABELS)]
    order = problems(problem for problem, _, _ in found)
    return [
        Entrant(problem, label, runs[0]["algo"], timesteps, tuple(sorted(runs, key=lambda run: run["seed"])))
        for (problem, label, timesteps), runs in sorted(
            found.items(), key=lambda item: (order.index(item[0][0]), labels.index(item[0][1]), item[0][2])
        )
    ]


def _check(name: str, runs: Sequence[dict[str, Any]]) -> None:
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


def group_of(problem: str) -> str:
    """Where the problem is shown: those that no plan names are taken to be large."""
    return next((group for group, plans in PLANS.items() if problem in plans), "large")


def problems(found: Iterable[str] = (), group: str | None = None) -> list[str]:
    """All planned problems, then those found that were not planned; of one group, if it is given."""
    names = dict.fromkeys([*(problem for plans in PLANS.values() for problem in plans), *found])
    return [problem for problem in names if group in (None, group_of(problem))]


def plan_of(problem: str) -> Plan:
    """What has to be there for the problem: nothing but our own five seeds if it was not planned."""
    return PLANS[group_of(problem)].get(problem, Plan((OURS,)))


def missing_seeds(entrant: Entrant) -> list[int]:
    """The planned seeds that the entrant has not run."""
    return [seed for seed in plan_of(entrant.problem).seeds if seed not in entrant.seeds]
