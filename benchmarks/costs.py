"""Measures the time of GSAC's updates, and of the actor's gradient with each estimator.

    python benchmarks/costs.py                       # all of it: three files under results/
    python benchmarks/costs.py update threads        # or estimators: some of it

- ``update``: as the columns of the action grow, and as the same columns are cut into more groups, by default settings.
  Observations are eight numbers everywhere, so that nothing but the action grows.
- ``threads``: what a second thread does to an update, alone on the machine, and with as many busy processes beside it as
  there are cores. These are wall times, all others are CPU times of one thread.
- ``estimators``: a gradient of the actor, with two hidden layers of 64 and a batch of 128; and the values of all neighbours of
  an action: "short" as the critics compute them, "long" by a full pass for each.

Everything that is compared takes turns; a figure is the median of the rounds, of the estimators the least.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import timing
import torch
from gymnasium import spaces
from problems import Match
from stable_baselines3.common.logger import configure
from studies import RESULTS, command_line, pivot, read, table, write

from gsac import ESTIMATORS, GSAC
from gsac.estimators import enumerates_actions
from gsac.estimators.base import neighbours
from gsac.functional import losses

COLUMNS = (4, 16, 64, 256, 1024, 4096)
CUT_COLUMNS, GROUPS = 1024, (1, 4, 16, 64, 256, 512)
WIDTHS, THREADS = (64, 256, 512), (1, 2)
ESTIMATOR_SPACES = {
    "Discrete(4)": spaces.Discrete(4),
    "MultiDiscrete([4] * 5)": spaces.MultiDiscrete([4] * 5),
    "MultiBinary(40)": spaces.MultiBinary(40),
    "MultiDiscrete([8] * 20)": spaces.MultiDiscrete([8] * 20),
}
NEIGHBOURS = (20, 80, 320, 1280)
"""Columns: in groups of four"""
KINDS = {
    "Discrete": "`Discrete(D)`",
    "MultiDiscrete": "`MultiDiscrete([4] * (D // 4))`",
    "MultiBinary": "`MultiBinary(D // 2)`",
}


class EightNumbers(gymnasium.Env):
    """Random observations and no reward, for actions of any kind."""

    observation_space = spaces.Box(-1.0, 1.0, (8,), np.float32)

    def __init__(self, action_space: spaces.Space) -> None:
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def trained(env: gymnasium.Env | str, **policy_kwargs: Any) -> GSAC:
    """Trains a model until its first update."""
    arguments = {"learning_starts": 500, "buffer_size": 1000, "seed": 0, "device": "cpu"}
    model = GSAC("MlpPolicy", env, policy_kwargs=policy_kwargs, **arguments)
    model.set_logger(configure(None, []))
    return model.learn(501)


def update_costs(quick: bool) -> dict[str, Any]:
    """Times an update for action spaces of 4 to 4096 columns (sum of classes), and of 1024 columns in 1 to 512 groups."""
    columns, (whole, groups) = ((4, 16), (16, (1, 4))) if quick else (COLUMNS, (CUT_COLUMNS, GROUPS))
    action_spaces: list[tuple[str, spaces.Space]] = [
        *(("Discrete", spaces.Discrete(d)) for d in columns),
        *(("MultiDiscrete", spaces.MultiDiscrete([4] * (d // 4))) for d in columns),
        *(("MultiBinary", spaces.MultiBinary(d // 2)) for d in columns),
        *(("cut", spaces.MultiDiscrete([whole // n] * n)) for n in groups),
    ]
    models = [trained(EightNumbers(space)) for _, space in action_spaces]
    tasks = {model: partial(model.train, batch_size=model.batch_size) for model in models}
    rounds, seconds_a_turn = (2, 0.01) if quick else (7, 0.2)
    seconds = timing.in_turn(tasks, time.process_time, rounds, seconds_a_turn)
    rows = []
    for (kind, _), model in zip(action_spaces, models, strict=True):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            model.train(1, model.batch_size)
        allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages())
        sizes = model.actor.codec.groups.sizes
        rows.append(
            {
                **{"kind": kind, "columns": sum(sizes), "groups": len(sizes)},
                "joint_actions_log2": round(sum(map(math.log2, sizes)), 1),
                "milliseconds": timing.spread(seconds[model], 1000),
                "megabytes_allocated": round(allocated / 1e6, 1),
                "parameters": sum(parameter.numel() for parameter in model.policy.parameters()),
            }
        )
    return {"rows": rows, "settings": "defaults (batch 128), observations of 8 numbers, one thread, CPU time"}


def columns_table() -> str:
    """The table of milliseconds by number of columns."""
    rows, lines = read("update_cost.json")["rows"], []
    for columns in dict.fromkeys(row["columns"] for row in rows if row["kind"] in KINDS):
        found = {row["kind"]: row for row in rows if row["columns"] == columns}
        last = found["MultiBinary"]
        lines.append(
            {"columns D": columns}
            | {f"{name}, ms an update": f"{found[kind]['milliseconds']['median']:.1f}" for kind, name in KINDS.items()}
            | {"joint actions of the last": f"2^{last['joint_actions_log2']:.0f}"}
            | {"its MB allocated": f"{last['megabytes_allocated']:.1f}"}
        )
    return table(lines)


def groups_table() -> str:
    """The table of milliseconds by number of groups, the number of columns being the same."""
    rows = [row for row in read("update_cost.json")["rows"] if row["kind"] == "cut"]
    cells = [("ms an update", str(row["groups"]), f"{row['milliseconds']['median']:.1f}") for row in rows]
    cells += [("MB allocated", str(row["groups"]), f"{row['megabytes_allocated']:.0f}") for row in rows]
    return pivot(f"{rows[0]['columns']} columns in groups", cells)


def spin() -> None:
    while True:
        pass


def thread_costs(quick: bool) -> dict[str, Any]:
    """Times an update for each width of the networks and number of threads, alone and beside busy processes."""
    models = {width: trained("CartPole-v1", net_arch=[width, width]) for width in (WIDTHS[:1] if quick else WIDTHS)}

    def train(width: int, threads: int, updates: int) -> None:
        torch.set_num_threads(threads)
        models[width].train(updates, models[width].batch_size)

    tasks = {(width, threads): partial(train, width, threads) for width in models for threads in THREADS}
    rows = []
    for n_neighbours in (0, os.cpu_count() or 1):
        neighbours = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n_neighbours)]
        for neighbour in neighbours:
            neighbour.start()
        seconds = timing.in_turn(tasks, time.perf_counter, rounds=4, seconds_a_turn=0.01 if quick else 0.05)
        for neighbour in neighbours:
            neighbour.kill()
        for (width, threads), times in seconds.items():
            row = {"width": width, "threads": threads, "busy_neighbours": n_neighbours}
            figures = {"median_ms": statistics.median(times), "worst_ms": max(times)}
            rows.append(row | {name: round(1000 * value, 2) for name, value in figures.items()})
    torch.set_num_threads(1)
    return {"rows": rows}


def threads_table() -> str:
    """The table that compares one thread with two."""
    rows = read("threads.json")["rows"]
    cells = {
        (row["width"], row["busy_neighbours"], row["threads"]): f"{row['median_ms']:.1f} (worst {row['worst_ms']:.1f})"
        for row in rows
    }
    return table(
        {
            "hidden layers": f"{width}, {width}",
            "busy neighbours": busy,
            "one thread, ms": cells[width, busy, 1],
            "two threads, ms": cells[width, busy, 2],
        }
        for width, busy, threads in cells
        if threads == 1
    )


def cheapest(tasks: dict[str, Callable[[], object]], quick: bool = False) -> dict[str, float]:
    """The lowest time of each task over rounds in which all take turns, in milliseconds."""
    rounds, seconds_a_turn = (1, 0.0) if quick else (9, 0.05)
    in_rounds = {name: timing.repeated(task) for name, task in tasks.items()}
    seconds = timing.in_turn(in_rounds, time.process_time, rounds, seconds_a_turn)
    return {name: round(1000 * min(found), 3) for name, found in seconds.items()}


def with_head(space: spaces.Space, head: str, net_arch: Sequence[int] = (64, 64)) -> GSAC:
    policy_kwargs = {"critic_head": head, "net_arch": [*net_arch]}
    return GSAC("MlpPolicy", Match(space), policy_kwargs=policy_kwargs, buffer_size=200, device="cpu", seed=0)


def gradient(model: GSAC, name: str) -> Callable[[], object]:
    """Makes a task that computes the actor's gradient on a batch of 128, with its forward passes."""
    observations = torch.randn(128, *model.observation_space.shape)
    parameters, ent_coef = list(model.actor.parameters()), torch.tensor(0.1)

    def task() -> object:
        policy = model.actor.distribution(observations)
        value = ESTIMATORS[name](policy, model.learner.action_value(observations), model.learner.temperature)
        return torch.autograd.grad(losses.actor_loss(value, policy.entropy(), ent_coef), parameters)

    return task


def estimator_costs(quick: bool) -> dict[str, Any]:
    """Times all estimators for each action space and critic head, and both ways to compute the values of neighbours."""
    gradients, of_neighbours = [], []
    for space_name, space in ESTIMATOR_SPACES.items():
        for head in ("linear", "action_in"):
            model = with_head(space, head)
            n_joint = model.actor.codec.groups.n_joint
            names = [
                name for name, estimator in ESTIMATORS.items() if not enumerates_actions(estimator) or n_joint <= 1024
            ]
            found = cheapest({name: gradient(model, name) for name in names}, quick)
            gradients.append({"space": space_name, "head": head, "milliseconds": found})
    for columns in NEIGHBOURS[:1] if quick else NEIGHBOURS:
        for width in (64, 256):
            model = with_head(spaces.MultiDiscrete([4] * (columns // 4)), "action_in", [width, width])
            groups = model.actor.codec.groups
            with torch.no_grad():
                q = model.learner.action_value(torch.randn(32, *model.observation_space.shape))
                action = groups.one_hot(torch.zeros(32, len(groups), dtype=torch.long))
                tasks = {
                    "short": partial(neighbours, q, action, groups),
                    "long": partial(neighbours, partial(q), action, groups),
                }
                found = cheapest(tasks, quick)
            of_neighbours.append({"columns": columns, "width": width, "batch": 32, "milliseconds": found})
    return {"estimators": gradients, "neighbours": of_neighbours}


def estimators_table() -> str:
    rows = [row for row in read("estimator_cost.json")["estimators"] if row["head"] == "action_in"]
    costs = ((name, row["space"], row["milliseconds"].get(name)) for name in rows[0]["milliseconds"] for row in rows)
    cells = ((f"`{name}`", f"`{space}`", "-" if cost is None else f"{cost:.2f}") for name, space, cost in costs)
    return pivot("ms a gradient", cells)


def neighbours_table() -> str:
    rows = []
    for row in read("estimator_cost.json")["neighbours"]:
        long, short = row["milliseconds"]["long"], row["milliseconds"]["short"]
        rows.append(
            {
                "columns": row["columns"],
                "hidden layers": f"{row['width']}, {row['width']}",
                "a pass each, ms": f"{long:.1f}",
                "`neighbours`, ms": f"{short:.1f}",
                "gain": f"{long / short:.1f}x",
            }
        )
    return table(rows)


COSTS: dict[str, tuple[str, Callable[[bool], dict[str, Any]]]] = {
    "update": ("update_cost.json", update_costs),
    "threads": ("threads.json", thread_costs),
    "estimators": ("estimator_cost.json", estimator_costs),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument("costs", nargs="*", metavar="COST", help=f"{', '.join(COSTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="few short rounds of few sizes: a trial, no result")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result files")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in args.costs or COSTS:
        if name not in COSTS:
            parser.error(f"COST {name!r} is unknown: pass {', '.join(COSTS)}.")
        file, measure = COSTS[name]
        write(args.out / file, measure(args.quick) | {"machine": timing.machine("cpu")})


if __name__ == "__main__":
    main()
