"""Draws and tabulates a comparison: learning curves with confidence bands, and a Markdown table.

Needs rliable and matplotlib (``pip install "gsac[compare]"``); nothing else in the package does. The interquartile mean
with a stratified bootstrap is that of Agarwal et al. 2021, https://arxiv.org/abs/2108.13264.
"""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rliable.library import get_interval_estimates  # type: ignore[import-untyped]

from gsac.saving.files import atomic_write

REPETITIONS = 2_000
"""Of the bootstrap."""

Runs = dict[str, list[dict[str, Any]]]
"""The lines of the runs by label, in the order of their seeds; none of the lists is empty."""


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """The mean over the runs without the lowest and the highest quarter, each rounded down. [runs, ...] -> [...]

    ``scipy.stats.trim_mean`` gives the same, but takes 1.4 ms a call where this takes 0.02, and a bootstrap makes 2,000.

    >>> interquartile_mean(np.array([0.0, 2.0, 3.0, 7.0, 100.0]))
    np.float64(4.0)
    """
    cut = len(scores) // 4
    return np.sort(scores, axis=0)[cut : len(scores) - cut].mean(axis=0)


def interval(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95% bootstrap interval of the interquartile mean over runs. [runs, T] -> [T], [T]"""
    return bootstrap(scores[:, None], lambda sample: interquartile_mean(sample)[0])


def interval_over_tasks(scores: np.ndarray) -> tuple[float, float]:
    """The ends of the 95% bootstrap interval of the interquartile mean over runs and tasks, stratified by task. [runs, tasks]"""
    low, high = bootstrap(scores, lambda sample: np.atleast_1d(interquartile_mean(sample.ravel())))
    return float(low[0]), float(high[0])


def bootstrap(scores: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95% bootstrap interval of a statistic, stratified by task. [runs, tasks, ...] -> [T], [T]

    Its random numbers always start from the same seed, so it always gives the same interval for the same scores.
    """
    before = np.random.get_state()
    np.random.seed(0)  # rliable draws from the global generator, whatever it is given
    try:
        _, intervals = get_interval_estimates({"": scores}, statistic, reps=REPETITIONS)
    finally:
        np.random.set_state(before)
    low, high = intervals[""]
    return low, high


def with_interval(finals: np.ndarray) -> str:
    """The interquartile mean as text, with its 95% interval if there is more than one run. [runs]

    >>> with_interval(np.array([500.0, 500.0])), with_interval(np.array([9.5]))
    ('500 [500, 500]', '9.5')
    """
    text = f"{interquartile_mean(finals):.4g}"
    if len(finals) > 1:
        low, high = interval(finals[:, None])
        text += f" [{low[0]:.4g}, {high[0]:.4g}]"
    return text


def curve(runs: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The steps of the evaluations, and the mean returns at them. [T], [runs, T]"""
    steps = np.array([point["step"] for point in runs[0]["curve"]])
    return steps, np.array([[point["mean"] for point in run["curve"]] for run in runs])


def steps_to(threshold: float, run: dict[str, Any]) -> float:
    """The step of the first evaluation whose mean return is at least the threshold; infinite if there is none."""
    return next((point["step"] for point in run["curve"] if point["mean"] >= threshold), math.inf)


def draw(path: Path, runs: Runs, threshold: float | None) -> None:
    """Writes the learning curves as a PNG: interquartile means with their 95% intervals."""
    first = next(iter(runs.values()))[0]
    most = max(map(len, runs.values()))
    figure = Figure(figsize=(9, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    colours = matplotlib.colormaps["tab10"]
    for i, (label, of_label) in enumerate(runs.items()):
        steps, scores = curve(of_label)
        colour, line = colours(i % 10), ("-", "--", ":")[i // 10 % 3]
        few = f", {seeds(len(of_label))} only" if len(of_label) < most else ""
        draw_curve(axes, steps, scores, color=colour, linestyle=line, linewidth=2, label=label + few)
    if threshold is not None:
        axes.axhline(threshold, color="0.4", linestyle=(0, (1, 2)), label=f"threshold, {threshold:g}", zorder=1)
    axes.set_title(
        f"{first['env']}: interquartile mean of {seeds(most)}, 95% bootstrap interval\n"
        f"deterministic policy, {first['eval_episodes']} episodes an evaluation",
        fontsize=11,
    )
    dress(axes, first["total_timesteps"])
    figure.legend(loc="outside right upper", frameon=False)
    with atomic_write(path) as file:
        file.write(png(figure))


def draw_curve(axes: Axes, steps: np.ndarray, scores: np.ndarray, **line: Any) -> None:
    """Draws the interquartile mean with its 95% interval as a band; no band for a single run. [T], [runs, T]

    :param line: what Matplotlib's ``plot`` takes, ``color`` among it
    """
    axes.plot(steps, interquartile_mean(scores), **line)
    if len(scores) > 1:
        axes.fill_between(steps, *interval(scores), color=line["color"], alpha=0.18, linewidth=0)


def dress(axes: Axes, total_timesteps: int) -> None:
    """Labels the axes of a learning curve, sets the range of steps, and adds a light grid."""
    axes.set_xlabel("steps in the environment")
    axes.set_ylabel("return of an episode")
    axes.set_xlim(0, total_timesteps)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: Figure, about: str = "") -> bytes:
    """The figure as a PNG, the same bytes for the same data; ``about`` is written into it as its description."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None, "Description": about or None})
    return picture.getvalue()


def table(runs: Runs, threshold: float | None) -> str:
    """The results as a Markdown table."""
    header = ["algorithm", "settings", "seeds", "return at the end, by seed", "IQM [95% interval]"]
    if threshold is not None:
        header.append(f"steps to {threshold:g}, median")
    header.append("CPU seconds a run, median")
    rows = [header, ["---"] * len(header)]
    for label, of_label in runs.items():
        final = np.array([run["final"] for run in of_label])
        row = [
            label,
            of_label[0]["settings_from"],
            ", ".join(str(run["seed"]) for run in of_label),
            ", ".join(f"{value:.4g}" for value in final),
            with_interval(final),
        ]
        if threshold is not None:
            row.append(median_steps([steps_to(threshold, run) for run in of_label]))
        row.append(f"{statistics.median(run['cpu_seconds'] for run in of_label):.0f}")
        rows.append(row)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def median_steps(steps: list[float]) -> str:
    """The median number of steps as text. Infinite ones count as the longest, and their number is added.

    >>> median_steps([3000, 1000, math.inf]), median_steps([3000, math.inf])
    ('3,000 (1 of 3 not reached)', 'not reached by 1 of 2')
    """
    missing, median = steps.count(math.inf), statistics.median(steps)
    if math.isinf(median):
        return f"not reached by {missing} of {len(steps)}"
    return f"{median:,.0f}" + (f" ({missing} of {len(steps)} not reached)" if missing else "")


def seeds(n: int) -> str:
    """The number of seeds with its noun."""
    return f"{n} seed{'s' if n != 1 else ''}"
