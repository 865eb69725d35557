"""Measures every estimator on networks during training, where actions are too many to enumerate.

    python benchmarks/returns.py --measure gradients
    python benchmarks/gradients.py                     # prints the tables

Trains GSAC with its default estimator, on samples of the policy alone, with critics that read the action at their first
layer. On the way it is measured what each estimator would give for the networks as they are then, on one batch from the
replay buffer: the bias, the noise, and how much of a batch's gradient goes where it should. The reference is the mean of
local expectations, which are unbiased. "True" is what the critics say.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from measures import Job, Measure
from returns_rows import read
from studies import RESULTS, pivot

from gsac import GSAC
from gsac.callbacks.diagnostics import measure_gradients
from gsac.estimators import ESTIMATORS, enumerates_actions
from gsac.experiments.evaluation import AtSteps
from gsac.experiments.runner import Line

AT = (5_000, 10_000, 20_000)
SHOWN = (0, -1)
"""Of these, in the table."""

PAIRS, CHEETAH = "Pairs, MultiBinary(40)", "HalfCheetah-v5, 7 bins"
STEPS = f"timesteps={AT[-1]}"
PLANNED = (
    (PAIRS, "GSAC, plain", STEPS),
    (CHEETAH, "GSAC, plain", f"{STEPS},batch_size=256,bound_targets=true,policy.net_arch=[256;256]"),
)
"""The cheetah as its preset has it, but for the critics' head."""

SAMPLES = 64
BATCH_SIZE = 256
NAMES = [name for name, estimator in ESTIMATORS.items() if not enumerates_actions(estimator)]


class Measured(AtSteps):
    """Measures every estimator's gradient at given steps, without changing the training."""

    def __init__(self, job: Job) -> None:
        super().__init__(AT)

    def point(self) -> dict[str, Any]:
        """The bias, standard deviation, cosine and signal-to-noise ratio of each estimator."""
        assert isinstance(self.model, GSAC)
        found = measure_gradients(self.model, [ESTIMATORS[name] for name in NAMES], SAMPLES, BATCH_SIZE)
        return {
            name: {key: float(f"{figure:.5g}") for key, figure in quality._asdict().items()}
            for name, quality in zip(NAMES, found, strict=True)
        }

    def line(self) -> Line:
        return {"curve": self.curve, "samples": SAMPLES, "batch_size": BATCH_SIZE}


def markdown(rows: Sequence[Line], problem: str) -> str:
    """The table of estimators by mean squared error at the end, lowest first; means over seeds."""
    runs = [row for row in rows if row["problem"] == problem]

    def mean(name: str, figure: str, at: int) -> float:
        return statistics.fmean(row["curve"][at][name][figure] for row in runs)

    def error(name: str) -> float:
        return mean(name, "relative_bias", -1) ** 2 + mean(name, "relative_std", -1) ** 2

    figures = {"bias": "relative_bias", "noise": "relative_std", "cosine": "cosine"}
    cells = itertools.product(sorted(NAMES, key=error), figures, SHOWN)
    return pivot(
        "estimator",
        ((f"`{name}`", f"{what} after {AT[at]:,}", f"{mean(name, figures[what], at):.2f}") for name, what, at in cells),
    )


def summary(line: Line) -> str:
    """Names the steps at which gradients were measured."""
    return f"measured after {', '.join(str(point['step']) for point in line['curve'])} steps"


MEASURE = Measure(RESULTS / "estimator_training.jsonl", Measured, summary, PLANNED, seeds=(0, 1, 2))

if __name__ == "__main__":
    print("\n\n".join(markdown(read(MEASURE.results), problem) for problem in (PAIRS, CHEETAH)))
