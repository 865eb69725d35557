"""What a second thread does to an update, alone on the machine and with neighbours.

    python benchmarks/threads.py

Writes ``results/threads.json``: wall-clock milliseconds of an update (median and worst of the rounds) for several widths of
the networks and numbers of threads, with and without as many busy processes beside it as there are cores. The settings
are measured in turn, so that they share whatever else the machine does.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import torch
from stable_baselines3.common.logger import configure

from gsac import GSAC

RESULTS = Path(__file__).parent / "results" / "threads.json"
WIDTHS, THREADS = (64, 256, 512), (1, 2)
ROUNDS, UPDATES = 4, 10


def spin() -> None:
    while True:
        pass


def model_of_width(width: int) -> GSAC:
    architecture = {"net_arch": [width, width]}
    model = GSAC(
        "MlpPolicy", "CartPole-v1", policy_kwargs=architecture, buffer_size=1000, learning_starts=500, device="cpu"
    )
    model.set_logger(configure(None, []))
    return model.learn(510)


def main() -> None:
    models = {width: model_of_width(width) for width in WIDTHS}
    rows = []
    for n_neighbours in (0, os.cpu_count() or 1):
        neighbours = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n_neighbours)]
        for neighbour in neighbours:
            neighbour.start()
        milliseconds: dict[tuple[int, int], list[float]] = {}
        for _ in range(ROUNDS):
            for width, model in models.items():
                for threads in THREADS:
                    torch.set_num_threads(threads)
                    start = time.perf_counter()
                    model.train(UPDATES, model.batch_size)
                    seconds = time.perf_counter() - start
                    milliseconds.setdefault((width, threads), []).append(1000 * seconds / UPDATES)
        for neighbour in neighbours:
            neighbour.kill()
        for (width, threads), times in milliseconds.items():
            rows.append(
                {
                    "width": width,
                    "threads": threads,
                    "busy_neighbours": n_neighbours,
                    "median_ms": round(statistics.median(times), 2),
                    "worst_ms": round(max(times), 2),
                }
            )
            print(rows[-1], flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    versions = {"python": platform.python_version(), "torch": version("torch")}
    RESULTS.write_text(json.dumps({"rows": rows, "machine": machine, "versions": versions}, indent=1) + "\n")


if __name__ == "__main__":
    main()
