"""Writes the tables of the README and of ``docs/``, and the learning curves, from the files under ``results/``.

python benchmarks/readme.py
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import defaults
import estimator_quality
import estimator_training
import jang_table
import landings
import prioritized
import reinforce
import returns_pictures
import returns_report
import returns_rows
import returns_search
import step_speed
import update_cost
import wall_time

from gsac.experiments import curves
from gsac.experiments.run_file import RunFile

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
"""Every page whose tables are filled."""
RESULTS = Path(__file__).parent / "results"


def reinforce_returns() -> str:
    return reinforce.markdown(RunFile(RESULTS / "reinforce.jsonl").read())


def cost_of_columns() -> str:
    return update_cost.table(json.loads((RESULTS / "update_cost.json").read_text())["rows"])


def cost_of_groups() -> str:
    return update_cost.cut_table(json.loads((RESULTS / "update_cost.json").read_text())["rows"])


def until_solved() -> str:
    return wall_time.markdown(RunFile(RESULTS / "wall_time.jsonl").read())


def threads() -> str:
    rows = json.loads((RESULTS / "threads.json").read_text())["rows"]
    lines = ["| hidden layers | busy neighbours | one thread, ms | two threads, ms |", "|---|---|---|---|"]
    for row in (row for row in rows if row["threads"] == 1):
        (other,) = [r for r in rows if r["threads"] == 2 and all(r[k] == row[k] for k in ("width", "busy_neighbours"))]
        lines.append(
            f"| {row['width']}, {row['width']} | {row['busy_neighbours']} "
            f"| {row['median_ms']:.1f} (worst {row['worst_ms']:.1f}) | {other['median_ms']:.1f} (worst {other['worst_ms']:.1f}) |"
        )
    return "\n".join(lines)


def estimators_cartpole() -> str:
    lines = [
        "| `estimator` | return at the end, seeds 0 to 4 | steps to 475, seeds 0 to 4 | mean of the evaluations on the way |",
        "|---|---|---|---|",
    ]
    for group in defaults.grouped(RunFile(RESULTS / "estimators_cartpole.jsonl").read()):
        name = group[0]["config"]["estimator"]
        finals = ", ".join(f"{row['final']:.4g}" for row in group)
        firsts = [
            next((f"{point['step']:,}" for point in row["curve"] if point["mean"] >= 475), "never") for row in group
        ]
        area = statistics.mean(point["mean"] for row in group for point in row["curve"])
        lines.append(f"| `{name}` | {finals} | {'; '.join(firsts)} | {area:.0f} |")
    return "\n".join(lines)


def estimators_in_training(file: str, final: str, average: str) -> str:
    """Of ``defaults.py``, best first; the two formats are those of the columns."""
    rows = RunFile(RESULTS / file).read()
    groups = defaults.grouped(
        [row | {"commit": None} for row in rows]
    )  # between those of one file training did not change
    seeds = sorted({row["seed"] for group in groups for row in group})
    shown = ", ".join(map(str, seeds))
    lines = [
        f"| `estimator` | return at the end, seeds {shown} | mean of the evaluations on the way | CPU seconds a run |",
        "|---|---|---|---|",
    ]
    for group in sorted(groups, key=lambda group: -statistics.mean(row["final"] for row in group)):
        config = group[0]["config"]
        critics = ", linear critics" if config["policy_kwargs"]["critic_head"] == "linear" else ""
        finals = {row["seed"]: f"{row['final']:{final}}" for row in group}
        area = statistics.mean(point["mean"] for row in group for point in row["curve"])
        seconds = statistics.median(row["cpu_seconds"] for row in group)
        cells = ", ".join(finals.get(seed, "missing") for seed in seeds)
        lines.append(f"| `{config['estimator']}`{critics} | {cells} | {area:{average}} | {seconds:.0f} |")
    return "\n".join(lines)


def trained_networks(env_id: str) -> str:
    return estimator_training.markdown(RunFile(estimator_training.RESULTS).read(), env_id)


def estimator_cost() -> str:
    rows = json.loads((RESULTS / "estimator_cost.json").read_text())["estimators"]
    rows = [row for row in rows if row["head"] == "action_in"]
    lines = [
        "| ms a gradient | " + " | ".join(f"`{row['space']}`" for row in rows) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for name in rows[0]["milliseconds"]:
        cells = (f"{row['milliseconds'][name]:.2f}" if name in row["milliseconds"] else "-" for row in rows)
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def neighbours() -> str:
    rows = json.loads((RESULTS / "estimator_cost.json").read_text())["neighbours"]
    lines = ["| columns | hidden layers | a pass each, ms | `neighbours`, ms | gain |", "|---|---|---|---|---|"]
    for row in rows:
        long, short = row["milliseconds"]["long"], row["milliseconds"]["short"]
        lines.append(
            f"| {row['columns']} | {row['width']}, {row['width']} | {long:.1f} | {short:.1f} | {long / short:.1f}x |"
        )
    return "\n".join(lines)


def jang() -> str:
    return jang_table.markdown(jang_table.load())


def compare_cartpole() -> str:
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in RunFile(RESULTS / "compare_cartpole" / "runs.jsonl").read():
        runs.setdefault(run["label"], []).append(run)
    return curves.table(runs, threshold=475.0).rstrip()


def front_page() -> str:
    """The README's table: a few problems of each kind, and the algorithms that most people know."""
    columns = ("GSAC, preset", "GSAC, defaults", "SDSAC", "DQN", "PPO", "SAC, continuous actions")
    shown = ("CartPole-v1", "LunarLander-v3", "MountainCar-v0", "Breakout", "Asterix")
    shown += ("BipedalWalker-v3, 7 bins", "HalfCheetah-v5, 7 bins", "Pairs, MultiBinary(40)")
    return returns_report.compact(returns_rows.load(), columns, shown)


def how_landers_end() -> str:
    return landings.markdown(RunFile(landings.RESULTS).read())


def sb3_suite() -> str:
    result = json.loads((RESULTS / "sb3_suite.json").read_text())
    counts = result["counts"]
    tests = " and ".join(test.replace("==", " ") for test in result["tests"])
    return (
        f"`python benchmarks/sb3_suite.py` runs the tests of {tests} with GSAC instead of\n"
        "DQN, SAC, A2C and QRDQN. Entries of `Box` actions take one of five values. "
        f"{counts['passed']} of the {counts['run']} cases that apply pass.\n"
        f"{counts['not applicable']} others do not apply; [the script](../benchmarks/sb3_suite.py) gives the reason for each."
    )


TABLES: dict[str, Callable[[], str]] = {
    "returns_defaults": returns_report.defaults_table,
    "reinforce": reinforce_returns,
    "update_cost": cost_of_columns,
    "update_cost_groups": cost_of_groups,
    "update_speed_threads": partial(step_speed.on_each_machine, step_speed.update_table),
    "update_ceilings": partial(step_speed.on_each_machine, step_speed.ceiling_table),
    "collection_speed": partial(step_speed.on_each_machine, step_speed.collection_table, all_threads=False),
    "wall_time": until_solved,
    "threads": threads,
    "estimator_quality": estimator_quality.ranking,
    "against_reinforce": estimator_quality.against_reinforce,
    "estimator_training_pairs": partial(trained_networks, "gsac/Pairs40-v0"),
    "estimator_training_cheetah": partial(trained_networks, "gsac/HalfCheetah7-v0"),
    "estimator_cost": estimator_cost,
    "neighbours": neighbours,
    "estimators_cartpole": estimators_cartpole,
    "estimators_pairs": partial(estimators_in_training, "estimators_pairs.jsonl", ".3g", ".2f"),
    "estimators_pairs40": partial(estimators_in_training, "estimators_pairs40.jsonl", ".3g", ".2f"),
    "estimators_halfcheetah": partial(estimators_in_training, "estimators_halfcheetah.jsonl", ".0f", ".0f"),
    "jang": jang,
    "compare_cartpole": compare_cartpole,
    "prioritized_cost": prioritized.cost_table,
    "prioritized_cliffwalk": prioritized.cliffwalk_table,
    "prioritized_gsac": prioritized.gsac_table,
    "returns_bars": returns_report.bars,
    "returns_compact": returns_report.compact_table,
    "returns_front": front_page,
    "returns_normalized": returns_report.normalized,
    "returns_estimators": returns_report.estimators,
    "returns_search": returns_search.tried,
    "returns_classic": partial(returns_report.group_tables, "classic"),
    "returns_minatar": partial(returns_report.group_tables, "minatar"),
    "returns_large": partial(returns_report.group_tables, "large"),
    "landings": how_landers_end,
    "sb3_suite": sb3_suite,
}


TODAYS = {
    r"\bentropy_in_target=[Tt]rue": "target=soft",
    r"\bdeterministic_target=[Tt]rue": "target=mode",
    r"\b(deterministic|entropy_in)_target=[Ff]alse": "target=mean",
    r"\bgsac\.wrappers\.": "gsac.envs.wrappers.",
}
"""Names of version 0.1.0, which result files hold, in today's words. No run names both arguments."""


def with_todays_names(table: str) -> str:
    """
    >>> with_todays_names("defaults, deterministic_target=False, gamma=0.9")
    'defaults, target=mean, gamma=0.9'
    """
    for old, new in TODAYS.items():
        table = re.sub(old, new, table)
    return table


def filled(text: str) -> str:
    """The text with the table between each pair of marks, ``<!-- name -->`` and ``<!-- end -->``, made anew."""
    return re.sub(
        r"(<!-- (?!end)(\w+) -->\n).*?(<!-- end -->)",
        lambda place: f"{place[1]}{with_todays_names(TABLES[place[2]]())}\n{place[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    returns_pictures.draw_all(returns_rows.load(), RESULTS)
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text()))
