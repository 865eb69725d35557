"""What an update of GSAC costs as the columns of its action grow, and as the same columns are cut into more groups.

    python benchmarks/update_cost.py

Writes ``results/update_cost.json``: CPU seconds and bytes allocated by one update with default settings on one thread,
and the number of parameters. Each time is the median of several rounds, taken in turn over all spaces. Observations are
eight numbers everywhere, so that nothing but the action grows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ceilings
import gymnasium
import numpy as np
import studies
import timing
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from studies import command_line, table

from gsac import GSAC

RESULTS = studies.RESULTS / "update_cost.json"
COLUMNS = (4, 16, 64, 256, 1024, 4096)
CUT_COLUMNS, GROUPS = 1024, (1, 4, 16, 64, 256, 512)
ROUNDS, SECONDS_A_TURN = 7, 0.2


class EightNumbers(gymnasium.Env):
    """Random observations and no reward, for actions of any kind."""

    observation_space = spaces.Box(-1.0, 1.0, (8,), np.float32)

    def __init__(self, action_space: spaces.Space) -> None:
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        return self._observe(), 0.0, False, False, {}

    def _observe(self):
        return self.np_random.uniform(-1, 1, 8).astype(np.float32)


def family(columns: Sequence[int]) -> dict[str, list[spaces.Space]]:
    """Spaces of as many columns: one choice, choices among four, switches."""
    return {
        "Discrete": [spaces.Discrete(d) for d in columns],
        "MultiDiscrete": [spaces.MultiDiscrete([4] * (d // 4)) for d in columns],
        "MultiBinary": [spaces.MultiBinary(d // 2) for d in columns],
    }


def cut(columns: int, groups: Sequence[int]) -> list[spaces.Space]:
    """The same columns in more and more groups."""
    return [spaces.MultiDiscrete([columns // n] * n) for n in groups]


def model_for(space: spaces.Space) -> GSAC:
    model = GSAC("MlpPolicy", EightNumbers(space), learning_starts=500, buffer_size=1000, seed=0, device="cpu")
    model.set_logger(configure(None, []))
    return model.learn(501)


def measure(kinds: dict[str, list[spaces.Space]], rounds: int, seconds_a_turn: float) -> list[dict[str, Any]]:
    """A row for each space of each kind."""
    models = {(kind, number): model_for(space) for kind, of in kinds.items() for number, space in enumerate(of)}
    tasks = {key: partial(model.train, batch_size=model.batch_size) for key, model in models.items()}
    seconds = timing.in_turn(tasks, timing.clock("cpu", threads=1), rounds, seconds_a_turn)
    rows = []
    for (kind, number), model in models.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            model.train(1, model.batch_size)
        groups = model.actor.codec.groups
        rows.append(
            {
                **{"kind": kind, "columns": sum(groups.sizes), "groups": len(groups)},
                "joint_actions_log2": round(sum(math.log2(size) for size in groups.sizes), 1),
                "milliseconds": timing.spread(seconds[kind, number], 1000),
                "megabytes_allocated": round(
                    sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages()) / 1e6, 1
                ),
                "parameters": sum(parameter.numel() for parameter in model.policy.parameters()),
            }
        )
        print(rows[-1], flush=True)
    return rows


def columns_table(rows: list[dict[str, Any]]) -> str:
    """Milliseconds as the columns grow."""
    kinds = {
        "Discrete": "`Discrete(D)`",
        "MultiDiscrete": "`MultiDiscrete([4] * (D // 4))`",
        "MultiBinary": "`MultiBinary(D // 2)`",
    }
    lines = []
    for columns in dict.fromkeys(row["columns"] for row in rows if row["kind"] in kinds):
        found = {row["kind"]: row for row in rows if row["columns"] == columns}
        last = found["MultiBinary"]
        cells = (f"{found[kind]['milliseconds']['median']:.1f}" for kind in kinds)
        lines.append((columns, *cells, f"2^{last['joint_actions_log2']:.0f}", f"{last['megabytes_allocated']:.1f}"))
    header = ("columns D", *(f"{name}, ms an update" for name in kinds.values()))
    return table((*header, "joint actions of the last", "its MB allocated"), lines)


def cut_table(rows: list[dict[str, Any]]) -> str:
    """Milliseconds as the same columns are cut into groups."""
    rows = [row for row in rows if row["kind"] == "cut"]
    return table(
        (f"{rows[0]['columns']} columns in groups", *(row["groups"] for row in rows)),
        (
            ("ms an update", *(f"{row['milliseconds']['median']:.1f}" for row in rows)),
            ("MB allocated", *(f"{row['megabytes_allocated']:.0f}" for row in rows)),
        ),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few short rounds of the smallest sizes: a trial, no result"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    columns, (whole, groups) = ((4, 16), (16, (1, 4))) if args.quick else (COLUMNS, (CUT_COLUMNS, GROUPS))
    rounds, seconds_a_turn = (2, 0.01) if args.quick else (ROUNDS, SECONDS_A_TURN)
    result = {
        "rows": measure(family(columns) | {"cut": cut(whole, groups)}, rounds, seconds_a_turn),
        "settings": "defaults (batch 128), observations of 8 numbers, one thread, CPU time",
        "machine": ceilings.machine("cpu"),
    }
    studies.write(args.results, result)


if __name__ == "__main__":
    main()
