"""What an update costs as the number of joint actions grows: MultiBinary(n) has 2^n of them, in 2n columns.

    python benchmarks/update_cost.py

Writes ``results/update_cost.json``: CPU seconds and bytes allocated by one update with default settings on one thread,
and the number of parameters. Each figure is the median of several rounds, taken in turn over all n.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import torch
from gymnasium import spaces
from problems import Match
from stable_baselines3.common.logger import configure

from gsac import GSAC

RESULTS = Path(__file__).parent / "results" / "update_cost.json"
SIZES = (5, 10, 20, 40, 80, 160, 320, 640)
ROUNDS, UPDATES = 7, 40


def main() -> None:
    torch.set_num_threads(1)
    models = {}
    for n in SIZES:
        model = GSAC(
            "MlpPolicy", Match(spaces.MultiBinary(n)), learning_starts=500, buffer_size=1000, seed=0, device="cpu"
        )
        model.set_logger(configure(None, []))
        models[n] = model.learn(520)
    seconds: dict[int, list[float]] = {n: [] for n in SIZES}
    for _ in range(ROUNDS):
        for n, model in models.items():
            start = time.process_time()
            model.train(UPDATES, model.batch_size)
            seconds[n].append((time.process_time() - start) / UPDATES)
    rows = []
    for n, model in models.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            model.train(1, model.batch_size)
        rows.append(
            {
                "n": n,
                "columns": 2 * n,
                "milliseconds": round(1000 * statistics.median(seconds[n]), 2),
                "megabytes_allocated": round(
                    sum(max(e.self_cpu_memory_usage, 0) for e in profile.key_averages()) / 1e6, 1
                ),
                "parameters": sum(p.numel() for p in model.policy.parameters()),
            }
        )
        print(rows[-1], flush=True)
    RESULTS.write_text(
        json.dumps(
            {
                "rows": rows,
                "settings": f"defaults, batch {models[5].batch_size}, one thread, CPU time",
                "versions": {"python": platform.python_version()}
                | {p: version(p) for p in ("torch", "stable-baselines3")},
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
