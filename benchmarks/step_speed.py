"""Measures gradient steps and environment steps a second: GSAC in each of its modes, SB3's SAC and DQN, sb3-soft's SDSAC.

    python benchmarks/step_speed.py                  # the CPU; leave OMP_NUM_THREADS unset
    python benchmarks/step_speed.py --device cuda

Writes ``results/step_speed_cpu.json``, or one with the GPU's name. All have two hidden layers of the same width, the
same batch, a replay buffer of 100,000, and otherwise their own defaults. Everything in a setting takes turns. Beside an
update stand its floating-point operations and the bytes that its operations move, and how long these would take at the
machine's ceilings, measured in the same run. Times on one CPU thread are CPU times, all others wall times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import studies
import timing
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from problems import Match
from sb3_soft import SDSAC
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from studies import PLAIN, RESULTS, command_line, pivot, table

from gsac import GSAC

WIDTHS, BATCHES, N_ENVS = (64, 256), (64, 256, 1024), (1, 8, 64)
TURNS = {"rounds": 9, "seconds_a_turn": 0.25}
UPDATES_PROFILED = 50
EPISODE = 500
FILLED = 2000
"""Transitions in the replay buffer before updates are timed."""


def cart() -> gymnasium.Env:
    """CartPole without termination, so that episodes are equally long for every policy."""
    env = CartPoleEnv()
    env.x_threshold = env.theta_threshold_radians = float("inf")
    return gymnasium.wrappers.TimeLimit(env, EPISODE)


def continuous_cart() -> gymnasium.Env:
    """The same with a continuous action: a number above 0 pushes to the right."""
    number = spaces.Box(-1.0, 1.0, (1,), np.float32)
    return gymnasium.wrappers.TransformAction(cart(), lambda action: int(action[0] > 0), number)


def several_choices() -> gymnasium.Env:
    """An environment with five choices among four."""
    return Match(spaces.MultiDiscrete([4] * 5), EPISODE)


@dataclass(frozen=True)
class Contender:
    """An algorithm in an environment.

    :param mode: GSAC's ``acceleration``; None where there is no such choice, or for its default
    """

    name: str
    algorithm: type[OffPolicyAlgorithm]
    env: Callable[[], gymnasium.Env]
    mode: str | None = None

    def __str__(self) -> str:
        return f"{self.name}, {self.mode}" if self.mode else self.name


GSAC_ONE = Contender("GSAC, `Discrete(2)`", GSAC, cart)
GSAC_SEVERAL = Contender("GSAC, `MultiDiscrete([4] * 5)`", GSAC, several_choices)
SB3_SAC = Contender("SB3 SAC, `Box(1)`", SAC, continuous_cart)
PEERS = (SB3_SAC, Contender("SB3 DQN, `Discrete(2)`", DQN, cart), Contender("SDSAC, `Discrete(2)`", SDSAC, cart))

MODES = {"cpu": ("compile",), "cuda": ("compile", "cudagraph")}
"""GSAC's ways of running an update beside "eager", by the kind of the device."""


def built(contender: Contender, env: VecEnv, width: int, **arguments: Any) -> OffPolicyAlgorithm:
    """Builds the algorithm with two hidden layers of this width and otherwise its defaults; GSAC with ``PLAIN``."""
    arguments |= {"buffer_size": 100_000, "seed": 0, "policy_kwargs": {"net_arch": [width, width]}}
    if contender.algorithm is GSAC:
        arguments = PLAIN | arguments
    if contender.mode:
        arguments["acceleration"] = contender.mode
    model = contender.algorithm("MlpPolicy", env, **arguments)
    model.set_logger(configure(None, []))
    return model


def ready_to_update(contender: Contender, width: int, batch: int, device: str) -> OffPolicyAlgorithm:
    """Builds a model and fills its replay buffer by random actions."""
    env = make_vec_env(contender.env, 1, seed=0)
    return built(contender, env, width, device=device, batch_size=batch, learning_starts=FILLED).learn(FILLED)


def ready_to_collect(contender: Contender, n_envs: int, width: int, device: str) -> OffPolicyAlgorithm:
    """Builds a model whose policy chooses every action and which never updates. It collects one step at a time."""
    arguments: dict[str, Any] = {"device": device, "learning_starts": 0, "train_freq": 1, "gradient_steps": 0}
    if contender.algorithm is DQN:
        arguments["exploration_initial_eps"] = 0.05
    return built(contender, make_vec_env(contender.env, n_envs, seed=0), width, **arguments)


def collect(model: OffPolicyAlgorithm, env_steps: int) -> None:
    """Collects this many steps over all environments."""
    model.learn(env_steps, log_interval=10**9, reset_num_timesteps=False)


def step_alone(env: VecEnv, actions: list[Any], env_steps: int) -> None:
    """Steps the environments without an algorithm, with actions that were drawn before."""
    for number in range(-(-env_steps // env.num_envs)):
        env.step(actions[number % len(actions)])


def updates(
    device: str,
    modes: Sequence[str],
    threads: int,
    width: int,
    batch: int,
    ceiling: dict[str, float],
    **turns: float,
) -> list[dict[str, Any]]:
    """Times the updates of each contender. On the CPU, PyTorch must be set to this number of threads.

    :param ceiling: the machine's limits
    :param turns: the number of ``rounds`` and ``seconds_a_turn``
    """
    torch.compiler.reset()  # a mode that compiles would otherwise run into the limit of compiled versions
    now, wall = timing.clock(device, threads), timing.clock(device)
    plain = [replace(contender, mode="eager") for contender in (GSAC_ONE, GSAC_SEVERAL)] + list(PEERS)
    field = [replace(contender, mode=mode) for contender in plain[:2] for mode in ("eager", *modes)] + plain[2:]
    tasks, facts = {}, {}
    for contender in field:
        memory = device_memory(device)
        tasks[contender] = partial(ready_to_update(contender, width, batch, device).train, batch_size=batch)
        facts[contender] = {"first_call_seconds": float(f"{timing.elapsed(tasks[contender], 1, wall):.3g}")}
        if device != "cpu":
            facts[contender]["device_megabytes"] = round((torch.cuda.max_memory_allocated(device) - memory) / 1e6, 1)
    seconds = timing.in_turn(tasks, now, **turns)
    work = {contender.name: timing.work_of(partial(tasks[contender], 1)) for contender in plain}
    rows = []
    for contender in field:
        asked, times = work[contender.name], seconds[contender]
        milliseconds = timing.spread(times, 1000)
        bounds = {"products": asked.flops / ceiling["gflops"], "traffic": asked.bytes / ceiling["gigabytes"]}
        row = {
            **{"contender": str(contender), "width": width, "batch": batch, "threads": threads},
            **{"milliseconds": milliseconds, "times_sb3_sac": timing.ratios(times, seconds[SB3_SAC])},
            **{"megaflops": round(asked.flops / 1e6, 3), "megabytes": round(asked.bytes / 1e6, 3)},
            **{"operations": asked.operations, **facts[contender]},
            "ceiling_milliseconds": {name: float(f"{bound / 1e6:.3g}") for name, bound in bounds.items()},
        }
        if device != "cpu":
            busy = timing.busy_seconds(partial(tasks[contender], UPDATES_PROFILED), device) / UPDATES_PROFILED
            row["busy_share"] = round(1000 * busy / milliseconds["median"], 3)
        rows.append(row)
        print(f"{contender}: width {width}, batch {batch}, {threads} threads: {milliseconds}", flush=True)
    return rows


def device_memory(device: str) -> int:
    """Resets the peak memory of the device. Returns the bytes in use."""
    if device == "cpu":
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def collection(device: str, width: int, n_envs: int, **turns: float) -> list[dict[str, Any]]:
    """Times an environment step with each algorithm, and without any; GSAC in its default mode."""
    now = timing.clock(device, 1)
    field = [GSAC_ONE, GSAC_SEVERAL, *PEERS]
    tasks: dict[Any, Any] = {}
    for contender in field:
        model = ready_to_collect(contender, n_envs, width, device)
        tasks[contender] = partial(collect, model)
        env = make_vec_env(contender.env, n_envs, seed=0)
        env.reset()
        actions = [[env.action_space.sample() for _ in range(n_envs)] for _ in range(100)]
        tasks[contender, "alone"] = partial(step_alone, env, actions)
    in_rounds = {key: lambda n, task=task: task(n * n_envs) for key, task in tasks.items()}
    seconds = timing.in_turn(in_rounds, now, **turns)
    rows = []
    for contender in field:
        times, alone = seconds[contender], seconds[contender, "alone"]
        row = {"contender": str(contender), "width": width, "n_envs": n_envs}
        row["microseconds"] = timing.spread(times, 1e6 / n_envs)
        row["env_alone_microseconds"] = timing.spread(alone, 1e6 / n_envs)
        rows.append(row | {"times_sb3_sac": timing.ratios(times, seconds[SB3_SAC])})
        print(f"{contender}: width {width}, {n_envs} envs: {row['microseconds']}", flush=True)
    return rows


def measure(device: str, modes: Sequence[str], quick: bool) -> dict[str, Any]:
    """Measures everything. Returns the content of the result file."""
    widths, batches, n_envs = ((64,), (64,), (1, 4)) if quick else (WIDTHS, BATCHES, N_ENVS)
    turns = {"rounds": 2, "seconds_a_turn": 0.01} if quick else TURNS
    default_threads = torch.get_num_threads()
    result: dict[str, Any] = {"machine": timing.machine(device), "ceilings": [], "updates": [], "collection": []}
    for threads in sorted({1, default_threads}) if device == "cpu" else [default_threads]:
        torch.set_num_threads(threads)
        ceiling = {
            "gflops": round(timing.matmul_gflops(device, (256,) if quick else None), 1),
            "gigabytes": round(timing.copy_gigabytes(device, 8 if quick else None), 2),
        }
        result["ceilings"].append({"threads": threads, **ceiling})
        for width in widths:
            for batch in batches:
                result["updates"] += updates(device, modes, threads, width, batch, ceiling, **turns)
    torch.set_num_threads(1 if device == "cpu" else default_threads)
    for width in widths:
        for n in n_envs:
            result["collection"] += collection(device, width, n, **turns)
    torch.set_num_threads(default_threads)
    return result | {"settings": {"buffer_size": 100_000, **turns, "quick": quick}}


def update_table(result: dict[str, Any], threads: int) -> str:
    """The table of updates a second, and how many times faster than SB3's SAC that is."""

    def cell(row: dict[str, Any]) -> tuple[str, str, str]:
        speed, times = 1000 / row["milliseconds"]["median"], row["times_sb3_sac"]["median"]
        return row["contender"], f"width {row['width']}, batch {row['batch']}", f"{speed:,.0f} ({times:.2f}x)"

    rows = (row for row in result["updates"] if row["threads"] == threads)
    return pivot("updates a second (of SB3's SAC)", map(cell, rows))


def ceiling_table(result: dict[str, Any], threads: int, batch: int = 256) -> str:
    """The table of an update's operations, the times that the machine's limits allow for them, and the measured time."""
    (ceiling,) = [ceiling for ceiling in result["ceilings"] if ceiling["threads"] == threads]
    rows = []
    for row in result["updates"]:
        if row["threads"] == threads and row["batch"] == batch:
            line = {
                f"update, batch {batch}": row["contender"],
                "width": row["width"],
                "operations": row["operations"],
                "MFLOP": f"{row['megaflops']:.1f}",
                "MB moved": f"{row['megabytes']:.1f}",
                f"ms at {ceiling['gflops']:,.0f} GFLOP/s": f"{row['ceiling_milliseconds']['products']:.2f}",
                f"ms at {ceiling['gigabytes']:,.1f} GB/s": f"{row['ceiling_milliseconds']['traffic']:.2f}",
                "ms measured": f"{row['milliseconds']['median']:.2f}",
            }
            if "busy_share" in row:
                line |= {"GPU busy": f"{row['busy_share']:.0%}", "MB of the GPU": f"{row['device_megabytes']:.0f}"}
            rows.append(line)
    return table(rows)


def collection_table(result: dict[str, Any], _: int = 1, width: int = 64) -> str:
    """The table of steps a second, and of the microseconds that the algorithm adds to the environment's."""

    def cell(row: dict[str, Any]) -> tuple[str, str, str]:
        n, taken, alone = row["n_envs"], row["microseconds"]["median"], row["env_alone_microseconds"]["median"]
        return row["contender"], f"{n} environment{'s' * (n > 1)}", f"{1e6 / taken:,.0f} ({taken - alone:.0f})"

    rows = (row for row in result["collection"] if row["width"] == width)
    return pivot("env steps a second (microseconds a step added to the environment's)", map(cell, rows))


def on_each_machine(table: Callable[[dict[str, Any], int], str], all_threads: bool = True) -> str:
    """The table for each machine that has been measured, and for each number of threads or for the first alone."""
    parts = []
    for path in sorted(RESULTS.glob("step_speed_*.json")):
        result = json.loads(path.read_text())
        for ceiling in result["ceilings"] if all_threads else result["ceilings"][:1]:
            place, threads = result["machine"]["device"], ceiling["threads"]
            if path.stem == "step_speed_cpu":
                place += f", {threads} thread{'s' * (threads > 1)}"
            parts.append(f"{place}:\n\n{table(result, threads)}")
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--modes", nargs="*", help="of GSAC beside eager; by default all that the device can run")
    parser.add_argument(
        "--quick", action="store_true", help="few short rounds of the smallest size: a trial, no result"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    args = parser.parse_args(arguments)
    modes = MODES[torch.device(args.device).type] if args.modes is None else args.modes
    result = measure(args.device, modes, args.quick)
    studies.write(args.out / f"step_speed_{timing.file_name(args.device)}.json", result)


if __name__ == "__main__":
    main()
