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

import argparse
import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import defaults
import returns
import torch

from gsac import GSAC
from gsac.callbacks.diagnostics import measure_gradients
from gsac.estimators import ESTIMATORS, enumerates
from gsac.experiments.compare import AtSteps
from gsac.experiments.run_file import RunFile

RESULTS = Path(__file__).parent / "results" / "estimator_training.jsonl"
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


def run(env_id: str, seed: int) -> dict[str, Any]:
    """Trains: the run's line."""
    torch.set_num_threads(1)
    made_with = returns.provenance()  # before the repository can have moved on
    cpu = time.process_time()
    arguments, policy_kwargs = PROBLEMS[env_id]
    model = GSAC("MlpPolicy", env_id, seed=seed, **defaults.PLAIN | arguments, policy_kwargs=policy_kwargs)
    measured = Measured(AT)
    model.learn(TIMESTEPS, callback=measured)
    return {
        "env": env_id,
        "seed": seed,
        "timesteps": TIMESTEPS,
        "arguments": defaults.PLAIN | arguments,
        "policy_kwargs": policy_kwargs,
        "samples": SAMPLES,
        "batch_size": BATCH_SIZE,
        "curve": measured.curve,
        "cpu_seconds": round(time.process_time() - cpu, 1),
        **made_with,
    }


def markdown(rows: list[dict[str, Any]], env_id: str) -> str:
    """Least error of a batch's gradient at the end first; means over the seeds."""
    runs = [row for row in rows if row["env"] == env_id]
    steps = [f"{AT[at]:,}" for at in SHOWN]
    lines = [
        "| estimator | "
        + " | ".join(f"{what} after {step}" for what in ("bias", "noise", "cosine") for step in steps)
        + " |",
        "|---|" + "---|" * (3 * len(SHOWN)),
    ]

    def mean(name: str, figure: str, at: int) -> float:
        return statistics.fmean(row["curve"][at][name][figure] for row in runs)

    def error(name: str) -> float:
        return mean(name, "relative_bias", -1) ** 2 + mean(name, "relative_std", -1) ** 2

    for name in sorted(NAMES, key=error):
        cells = [
            f"{mean(name, figure, at):.2f}"
            for figure, at in itertools.product(("relative_bias", "relative_std", "cosine"), SHOWN)
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="+", choices=PROBLEMS, default=[*PROBLEMS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[*SEEDS])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print what has been run, and stop")
    args = parser.parse_args()
    file = RunFile(args.results)
    if not args.table:
        for seed, env_id in itertools.product(args.seeds, args.env):
            if not any((row["env"], row["seed"]) == (env_id, seed) for row in file.read()):
                row = run(env_id, seed)
                file.append(row)
                print(f"{env_id} seed {seed}: {row['cpu_seconds']} s", flush=True)
    print("\n\n".join(markdown(file.read(), env_id) for env_id in args.env))


if __name__ == "__main__":
    main()
