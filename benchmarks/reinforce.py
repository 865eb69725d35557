"""REINFORCE by each of its baselines, and the runs by which its defaults were chosen.

    python benchmarks/reinforce.py CartPole-v1 --seeds 0 1 2 3 4 \
        --variation baseline=value --variation baseline=mean --variation baseline=none
    python benchmarks/reinforce.py --table      # everything that was tried
    python benchmarks/reinforce.py --markdown   # the README's table

Variations, seeds and the results' form are those of ``benchmarks/defaults.py``. A run stops at its last step, in the
middle of an update's episodes if need be.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import defaults

from gsac.experiments.run_file import RunFile

RESULTS = Path(__file__).parent / "results" / "reinforce.jsonl"


def configuration(variation: str) -> dict[str, Any]:
    """All settings: the constructor's defaults, and what the variation changes in them."""
    from gsac import REINFORCE

    config = defaults.default_settings(REINFORCE)
    config["policy_kwargs"] = {"net_arch": [64, 64]}  # SB3's own default
    return defaults.changed(config, variation)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The reported seeds, as the README shows them."""
    lines = [
        "| environment | steps | baseline | return at the end, seeds 0 to 4 | mean of the evaluations on the way | CPU seconds a run |",
        "|---|---|---|---|---|---|",
    ]
    reported = [row for row in rows if row["seed"] < defaults.FIRST_TUNING_SEED and not row.get("superseded")]
    for group in defaults.grouped(reported):
        first = group[0]
        finals = ", ".join(f"{row['final']:.4g}" for row in group)
        area = statistics.mean(statistics.mean(point["mean"] for point in row["curve"]) for row in group)
        seconds = statistics.median(row["cpu_seconds"] for row in group)
        lines.append(
            f"| {first['env']} | {first['timesteps']:,} | `{first['config']['baseline']}` | {finals} | {area:.4g} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", nargs="?", default="CartPole-v1")
    parser.add_argument("--timesteps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--variation", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print what has been run, and stop")
    parser.add_argument("--markdown", action="store_true", help="print the README's table, and stop")
    args = parser.parse_args()
    if args.table:
        print(defaults.table(RunFile(args.results).read()))
        return
    if args.markdown:
        print(markdown(RunFile(args.results).read()))
        return
    configurations = {variation: configuration(variation) for variation in args.variation or [""]}
    defaults.run_missing(
        args.env, configurations, args.timesteps, args.seeds, args.jobs, args.results, algo="reinforce"
    )


if __name__ == "__main__":
    main()
