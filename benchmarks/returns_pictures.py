"""Draws the learning curves of ``returns.py``'s runs, one picture for each group of problems."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import returns_rows
from arena import OURS
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from returns_bars import BARS
from returns_rows import GROUPS, Entrant, of_problem

from gsac.experiments import curves
from gsac.saving.files import atomic_write

COLOURS = {  # in the order of the legends
    OURS: "#d62728",
    "GSAC, defaults": "#ff9d3a",
    "GSAC, plain": "#c9a227",
    "GSAC, preset, gumbel_softmax": "#e377c2",
    "GSAC, preset, straight_through_gumbel": "#3b49c4",
    "GSAC, preset, rloo": "#bcbd22",
    "GSAC, preset, local_expectation": "#0b6e4f",
    "GSAC, preset, expected": "#111111",
    "SDSAC": "#2ca02c",
    "DQN": "#1f77b4",
    "DQN, centred RMSprop": "#7fb2e5",
    "QRDQN": "#17becf",
    "PPO": "#9467bd",
    "REINFORCE": "#8c564b",
    "SAC, continuous actions": "#7f7f7f",
}
VARIATION = f"{OURS}, "
LOGARITHMIC_FROM = 5
"""Times that the longest budget of a problem is the shortest: from there on equal steps would hide the short runs."""

STYLE = {"font.size": 11, "axes.titlesize": 12, "axes.edgecolor": "0.4"}


@dataclass(frozen=True)
class Picture:
    """Describes one picture: the groups of problems that it shows, and whether variations of our preset or all other runs."""

    name: str
    groups: tuple[str, ...]
    variations: bool = False

    @property
    def file(self) -> str:
        return f"returns_{self.name}.png"

    def shows(self, entrant: Entrant) -> bool:
        return entrant.label == OURS or entrant.label.startswith(VARIATION) == self.variations


PICTURES = (*(Picture(group, (group,)) for group in GROUPS), Picture("estimators", GROUPS, variations=True))


def panels(picture: Picture, entrants: Sequence[Entrant]) -> dict[str, list[Entrant]]:
    """Selects what is drawn, by problem. A picture of variations leaves out problems that have none."""
    found: dict[str, list[Entrant]] = {}
    for problem in returns_rows.problems(entrant.problem for entrant in entrants):
        shown = [entrant for entrant in of_problem(problem, entrants) if picture.shows(entrant)]
        compared = not picture.variations or any(entrant.label != OURS for entrant in shown)
        if shown and compared and returns_rows.plan_of(problem).group in picture.groups:
            found[problem] = shown
    return found


def fingerprint(picture: Picture, entrants: Sequence[Entrant]) -> str:
    """Hashes everything that the picture shows. The hash is written into the file, so that tests see whether it is up to date."""
    shown = []
    for problem, field in panels(picture, entrants).items():
        lines = [(own.label, own.timesteps, *(array.tolist() for array in own.curve())) for own in field]
        bar = BARS.get(problem)
        shown.append((problem, lines, bar and (bar.line, bar.steps)))
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def colours(entrants: Sequence[Entrant]) -> dict[str, str]:
    """Chooses a colour for each label, the same in all pictures; labels that are not in ``COLOURS`` get paler ones."""
    others = sorted({entrant.label for entrant in entrants} - COLOURS.keys())
    pale = matplotlib.colormaps["Set2"]
    return COLOURS | {label: to_hex(pale(i % 8)) for i, label in enumerate(others)}


def draw(picture: Picture, entrants: Sequence[Entrant]) -> bytes:
    """Draws the picture as a PNG. At least one panel must have runs."""
    shown, colour = panels(picture, entrants), colours(entrants)
    columns = min(len(shown), 2 if len(shown) <= 4 else 3)
    rows = math.ceil(len(shown) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 5.0 * columns, 1.2 + 3.3 * rows), dpi=110, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
        for i, (problem, field) in enumerate(shown.items()):
            axes = figure.add_subplot(rows, columns, i + 1)
            _panel(axes, problem, field, colour)
            if i % columns:
                axes.set_ylabel("")
            if i + columns < len(shown) and axes.get_xscale() == "linear":
                axes.set_xlabel("")
        present = {entrant.label for field in shown.values() for entrant in field}
        handles = [
            Line2D([], [], color=colour[label], linewidth=_width(label) + 0.5, label=label)
            for label in colour
            if label in present
        ]
        if any(problem in BARS and BARS[problem].line is not None for problem in shown):
            handles.append(Line2D([], [], **BAR_LINE, **BAR_POINT, label="the bar and its budget"))
        widest = 0.7 + 0.085 * max(len(str(handle.get_label())) for handle in handles)  # inches
        fitting = int(figure.get_figwidth() / widest)
        figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(fitting, 4)), frameon=False)
        episodes = next(iter(shown.values()))[0].episodes
        first = "Interquartile mean over seeds, 95% bootstrap interval"
        second = f"deterministic policy, {episodes} episodes an evaluation"
        figure.suptitle(f"{first}{'; ' if columns > 1 else chr(10)}{second}", fontsize=11)
        return curves.png(figure, about=fingerprint(picture, entrants))


BAR_LINE: dict[str, Any] = {"color": "0.25", "linestyle": (0, (5, 3)), "linewidth": 1.3}
BAR_POINT: dict[str, Any] = {"marker": "D", "markersize": 5}


def _panel(axes: Axes, problem: str, field: Sequence[Entrant], colour: dict[str, str]) -> None:
    budgets = [entrant.timesteps for entrant in field]
    longest = {entrant.label: entrant.timesteps for entrant in field}  # they come by budget
    for entrant in reversed(field):  # our own on top
        curves.draw_curve(
            axes,
            *entrant.curve(),
            color=colour[entrant.label],
            linewidth=_width(entrant.label),
            linestyle="-" if entrant.timesteps == longest[entrant.label] else ":",
        )
    n = sorted(len(entrant.runs) for entrant in field)
    axes.set_title(f"{problem} ({curves.seeds(n[-1]) if n[0] == n[-1] else f'{n[0]} to {n[-1]} seeds'})")
    curves.dress(axes, max(budgets))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if max(budgets) >= LOGARITHMIC_FROM * min(budgets):
        axes.set_xscale("log")
        axes.set_xlabel("steps in the environment, logarithmic")
        axes.set_xlim(min(entrant.curve()[0][0] for entrant in field), max(budgets))
        axes.xaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter(lambda steps, _: f"{steps / 1000:g}k" if steps else "0")
    bar = BARS.get(problem)
    if bar is not None and bar.line is not None:
        end = bar.steps or max(budgets)
        axes.axhline(bar.line, zorder=1, **BAR_LINE)
        if end <= max(budgets):
            axes.plot([end], [bar.line], color=BAR_LINE["color"], clip_on=False, zorder=6, **BAR_POINT)


def _width(label: str) -> float:
    return 2.4 if label == OURS else 1.5


def draw_all(entrants: Sequence[Entrant], folder: Path) -> list[Path]:
    """Draws all pictures for which there are runs.

    :return: those that changed; a file that holds the same bytes is left alone
    """
    changed = []
    for picture in PICTURES:
        if not panels(picture, entrants):
            continue
        path, drawn = folder / picture.file, draw(picture, entrants)
        if not path.exists() or path.read_bytes() != drawn:
            with atomic_write(path) as file:
                file.write(drawn)
            changed.append(path)
    return changed
