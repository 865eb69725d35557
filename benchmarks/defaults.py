"""Which settings should be the defaults? Trains variations of them on several environments and seeds.

    python benchmarks/defaults.py CartPole-v1 --timesteps 15000 --seeds 100 101 102 \
        --variation n_steps=3 --variation n_steps=3,estimator=gumbel_softmax --jobs 2
    python benchmarks/defaults.py --table      # everything that was tried

A variation is a list of constructor arguments that differ from the defaults; ``policy.X=Y`` sets ``policy_kwargs[X]``.
Each run is one process on one thread and appends one line to the results, with its whole configuration; a run that
stands there is not run again. Seeds from 100 up are for tuning, those below for reporting; rows marked ``superseded``
are reported seeds of an earlier commit, whose failures led to a change, or that were run again on a later one.
"""

from __future__ import annotations

import argparse
import inspect
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import problems  # noqa: F401  registers its environments

from gsac.algorithms.arguments import described, parameters
from gsac.experiments.run_file import RunFile

RESULTS = Path(__file__).parent / "results" / "defaults.jsonl"
N_EVALUATIONS = 10
EPISODES = 20
FIRST_TUNING_SEED = 100

PLAIN: dict[str, Any] = {
    "noise_duration": 1,
    "epsilon": 0,
    "target": "mean",
    "target_entropy": "auto_0.3",
}
"""Training on samples of the policy alone, with a steady entropy and targets at its average: GSAC as it was before these had
other defaults, with which estimators and replay buffers are compared."""


def default_settings(algorithm: type) -> dict[str, Any]:
    """The defaults of the constructor's arguments that change what is learned."""
    return {name: p.default for name, p in parameters(algorithm).items() if described(name).setting}


def configuration(variation: str) -> dict[str, Any]:
    """All settings: the constructor's defaults, and what the variation changes in them."""
    from gsac import GSAC
    from gsac.networks.policies import GSACPolicy

    config = default_settings(GSAC)
    policy = inspect.signature(GSACPolicy.__init__).parameters
    config["policy_kwargs"] = {
        name: policy[name].default for name in ("net_arch", "n_critics", "critic_head", "critic_layer_norm")
    }
    return changed(config, variation)


def changed(config: dict[str, Any], variation: str) -> dict[str, Any]:
    """The configuration with the variation's changes."""
    for name, value in changes(variation):
        scope = config["policy_kwargs"] if name.startswith("policy.") else config
        name = name.removeprefix("policy.")
        if name not in scope:
            raise SystemExit(f"{name!r} is not a setting: choose from {', '.join(scope)}.")
        scope[name] = value
    return config


def changes(variation: str) -> list[tuple[str, Any]]:
    """What a variation such as ``n_steps=3,policy.net_arch=[64;64]`` says: names and values."""
    found = []
    for change in filter(None, variation.split(",")):
        name, _, text = change.partition("=")
        try:
            found.append((name, json.loads(text.replace(";", ","))))
        except json.JSONDecodeError:
            found.append((name, text))
    return found


def run(
    env_id: str, variation: str, config: dict[str, Any], timesteps: int, seed: int, algo: str = "gsac"
) -> dict[str, Any]:
    """One training run, with its evaluations on the way and at its end.

    It ends at ``timesteps`` exactly, even where the algorithm would finish what it has begun.
    """
    import gymnasium
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    from gsac.experiments.run import ALGORITHMS

    torch.set_num_threads(1)
    made_with = commit()  # before the repository can have moved on
    eval_env = Monitor(gymnasium.make(env_id))
    eval_env.reset(seed=10_000 + seed)
    curve: list[dict[str, float]] = []

    class Curve(EvalCallback):
        def _on_step(self) -> bool:
            due = self.n_calls % self.eval_freq == 0
            reported = metrics(model) if due else {}  # before the evaluation, which empties the log
            ok = super()._on_step()
            if due:
                curve.append({"step": self.num_timesteps, "mean": float(self.last_mean_reward)} | reported)
            return ok and (algo == "gsac" or self.num_timesteps < timesteps)

    start, cpu = time.time(), time.process_time()
    model: Any = ALGORITHMS[algo]("MlpPolicy", env_id, seed=seed, device="cpu", **config)
    model.learn(
        timesteps,
        callback=Curve(eval_env, n_eval_episodes=5, eval_freq=timesteps // N_EVALUATIONS, verbose=0),
        log_interval=10**9,
    )
    seconds, cpu_seconds = time.time() - start, time.process_time() - cpu
    deterministic, _ = evaluate_policy(model, eval_env, EPISODES, deterministic=True, return_episode_rewards=True)
    stochastic, _ = evaluate_policy(model, eval_env, EPISODES, deterministic=False, return_episode_rewards=True)
    return {
        "env": env_id,
        "variation": variation,
        "seed": seed,
        "timesteps": timesteps,
        "final": statistics.mean(deterministic),
        "final_std": statistics.pstdev(deterministic),
        "final_stochastic": statistics.mean(stochastic),
        "curve": curve,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "config": config,
        "commit": made_with,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "stable_baselines3": stable_baselines3.__version__,
            "gymnasium": gymnasium.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a run",
    }


def metrics(model: Any) -> dict[str, float]:
    """What the updates report: the means since the last time, or where an algorithm keeps none, the last update's."""
    if hasattr(model, "_metrics"):
        return model._metrics.pop()
    logged = model.logger.name_to_value
    return {name.removeprefix("train/"): float(logged[name]) for name in logged if name.startswith("train/")}


def commit() -> str | None:
    """Of the code that ran, where it lies in a repository and git is there to ask."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


def key(row: dict[str, Any]) -> str:
    return json.dumps([row["env"], row["config"], row["timesteps"], row["seed"]], sort_keys=True)


def grouped(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The runs of each environment, budget, configuration and commit, by seed, in the order in which they were tried."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(
            json.dumps([row["env"], row["timesteps"], row["config"], row["commit"]], sort_keys=True), []
        ).append(row)
    return [sorted(group, key=lambda row: row["seed"]) for group in groups.values()]


def table(rows: list[dict[str, Any]]) -> str:
    """Everything that was run, one line for each configuration."""
    lines = []
    for group in grouped(rows):
        finals = " ".join(f"{row['final']:7.1f}" for row in group)
        area = statistics.mean(statistics.mean(point["mean"] for point in row["curve"]) for row in group)
        seeds = ",".join(str(row["seed"]) for row in group)
        name = f"{group[0]['env']:16} {group[0]['timesteps']:6}"
        lines.append(f"{name} | {finals} | mean of the curves {area:7.1f} | seeds {seeds} | {group[0]['variation']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", nargs="?", default="CartPole-v1")
    parser.add_argument("--timesteps", type=int, default=15_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--variation", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print what has been run, and stop")
    args = parser.parse_args()
    if args.table:
        print(table(RunFile(args.results).read()))
        return
    configurations = {variation: configuration(variation) for variation in args.variation or [""]}
    run_missing(args.env, configurations, args.timesteps, args.seeds, args.jobs, args.results)


def run_missing(
    env_id: str,
    configurations: dict[str, dict[str, Any]],
    timesteps: int,
    seeds: list[int],
    jobs: int,
    results: Path,
    algo: str = "gsac",
) -> None:
    """Appends to the results every run that does not stand there."""
    file = RunFile(results)
    known = {key(row) for row in file.read()}
    todo = []
    for variation, config in configurations.items():
        for seed in seeds:
            if key({"env": env_id, "config": config, "timesteps": timesteps, "seed": seed}) not in known:
                todo.append((env_id, variation, config, timesteps, seed, algo))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(run, *job) for job in todo]):
            row = future.result()
            file.append(row)
            name = f"{row['env']} {row['variation'] or 'defaults'} seed {row['seed']}"
            curve = " ".join(f"{point['mean']:.0f}" for point in row["curve"])
            print(f"{name}: {row['final']:.1f} ({curve}) {row['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
