"""How good is each estimator for networks that training has made, where actions are too many to enumerate?

    python benchmarks/estimator_training.py            # what is missing; then prints the tables
    python benchmarks/estimator_training.py --table

Trains GSAC with its default estimator, on samples of the policy alone, with critics that read the action at their first
layer. On the way it is measured what each estimator would give for the networks as they are then, on one batch from the
replay buffer: the bias, the noise, and how much of a batch's gradient goes where it should. The reference is the mean of
local expectations, which are unbiased. "True" is what the critics say. A run appends one line to the results; a run that
stands there is not run again.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import problems  # noqa: F401  registers its environments
import studies
from arena import PLAIN
from studies import add_run_options, command_line, run_jobs, table

from gsac import GSAC
from gsac.callbacks.diagnostics import measure_gradients
from gsac.estimators import ESTIMATORS, enumerates
from gsac.experiments.evaluation import AtSteps
from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import Line, identity_of

RESULTS = studies.RESULTS / "estimator_training.jsonl"
HALF_CHEETAH = {"batch_size": 256, "bound_targets": True}
"""As its preset has them; the critics' head is what differs."""

PROBLEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gsac/Pairs40-v0": ({}, {}),
    "gsac/HalfCheetah7-v0": (HALF_CHEETAH, {"net_arch": [256, 256]}),
}
"""Arguments and policy_kwargs beside the plain ones."""

TIMESTEPS = 20_000
AT = (5_000, 10_000, 20_000)
SHOWN = (0, -1)
"""Of these, in the table."""

SEEDS = (0, 1, 2)
SAMPLES = 64
BATCH_SIZE = 256
NAMES = [name for name, estimator in ESTIMATORS.items() if not enumerates(estimator)]


class Measured(AtSteps):
    """Every estimator's gradient at the steps; the run is what it would be without."""

    def point(self) -> dict[str, Any]:
        """Figures by estimator."""
        assert isinstance(self.model, GSAC)
        found = measure_gradients(self.model, [ESTIMATORS[name] for name in NAMES], SAMPLES, BATCH_SIZE)
        return {
            name: {key: float(f"{figure:.5g}") for key, figure in quality._asdict().items()}
            for name, quality in zip(NAMES, found, strict=True)
        }


@dataclass(frozen=True)
class Job:
    """GSAC in one of the environments, on one seed."""

    env: str
    seed: int

    def __str__(self) -> str:
        return f"{self.env} seed {self.seed}"

    def described(self) -> Line:
        arguments, policy_kwargs = PROBLEMS[self.env]
        return {
            **{"env": self.env, "seed": self.seed, "timesteps": TIMESTEPS, "arguments": PLAIN | arguments},
            **{"policy_kwargs": policy_kwargs, "samples": SAMPLES, "batch_size": BATCH_SIZE},
        }

    def run(self) -> Line:
        """Trains, with measurements on the way."""
        settings, measured = self.described(), Measured(AT)
        arguments = settings["arguments"] | {"policy_kwargs": settings["policy_kwargs"], "seed": self.seed}
        GSAC("MlpPolicy", self.env, **arguments).learn(TIMESTEPS, callback=measured)
        return {"curve": measured.curve}


def markdown(rows: Sequence[Line], env_id: str) -> str:
    """Least error of a batch's gradient at the end first; means over the seeds."""
    runs = [row for row in rows if row["env"] == env_id]

    def mean(name: str, figure: str, at: int) -> float:
        return statistics.fmean(row["curve"][at][name][figure] for row in runs)

    def error(name: str) -> float:
        return mean(name, "relative_bias", -1) ** 2 + mean(name, "relative_std", -1) ** 2

    columns = list(itertools.product(("bias", "noise", "cosine"), SHOWN))
    figures = {"bias": "relative_bias", "noise": "relative_std", "cosine": "cosine"}
    return table(
        ("estimator", *(f"{what} after {AT[at]:,}" for what, at in columns)),
        (
            (f"`{name}`", *(f"{mean(name, figures[what], at):.2f}" for what, at in columns))
            for name in sorted(NAMES, key=error)
        ),
    )


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--env", nargs="+", choices=PROBLEMS, default=[*PROBLEMS])
    parser.add_argument("--table", action="store_true", help="print what has been run, and stop")
    add_run_options(parser, RESULTS, SEEDS, jobs=1)
    args = parser.parse_args()
    if not args.table:
        jobs = [Job(env_id, seed) for seed, env_id in itertools.product(args.seeds, args.env)]
        run_jobs(jobs, args, partial(identity_of, names=("env", "seed")), lambda row: "measured")
    rows = RunFile(args.results).read()
    print("\n\n".join(markdown(rows, env_id) for env_id in args.env))


if __name__ == "__main__":
    main()
