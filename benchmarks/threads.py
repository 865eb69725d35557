"""What a second thread does to an update, alone on the machine and with neighbours.

    python benchmarks/threads.py

Writes ``results/threads.json``: wall-clock milliseconds of an update (median and worst of the rounds) for several widths of
the networks and numbers of threads, with and without as many busy processes beside it as there are cores. The settings
are measured in turn, so that they share whatever else the machine does.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import time
from functools import partial

import studies
import timing
import torch
from stable_baselines3.common.logger import configure

from gsac import GSAC

RESULTS = studies.RESULTS / "threads.json"
WIDTHS, THREADS = (64, 256, 512), (1, 2)
ROUNDS, SECONDS_A_TURN = 4, 0.05


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

    def train(width: int, threads: int, updates: int) -> None:
        torch.set_num_threads(threads)
        models[width].train(updates, models[width].batch_size)

    tasks = {(width, threads): partial(train, width, threads) for width in WIDTHS for threads in THREADS}
    rows = []
    for n_neighbours in (0, os.cpu_count() or 1):
        neighbours = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n_neighbours)]
        for neighbour in neighbours:
            neighbour.start()
        seconds = timing.in_turn(tasks, time.perf_counter, ROUNDS, SECONDS_A_TURN)
        for neighbour in neighbours:
            neighbour.kill()
        for (width, threads), times in seconds.items():
            figures = {"median_ms": statistics.median(times), "worst_ms": max(times)}
            rows.append(
                {"width": width, "threads": threads, "busy_neighbours": n_neighbours}
                | {name: round(1000 * value, 2) for name, value in figures.items()}
            )
            print(rows[-1], flush=True)
    studies.write(RESULTS, {"rows": rows, "machine": f"{platform.machine()}, {os.cpu_count()} cores"})


if __name__ == "__main__":
    main()
