"""Writes the tables of the README and of ``docs/``, and the learning curves, from the files under ``results/``.

python benchmarks/readme.py
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import costs
import estimator_quality
import gradients
import jang_table
import landings
import prioritized
import returns_pictures
import returns_report
import returns_rows
import returns_search
import step_speed
import wall_time
from measures import Measure
from returns_rows import Entrant
from studies import RESULTS, groups, read, reported, table

from gsac.experiments import curves
from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import Line

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
"""Every page whose tables are filled."""


def lines_of(measure: Measure) -> list[Line]:
    return returns_rows.read(measure.results)


def trained(
    name: str, columns: Sequence[str], seeds: str, final: str = ".4g", average: str = ".4g", best_first: bool = False
) -> str:
    """The table of a file's reported runs, with a line for each environment, budget and configuration.

    :param columns: those that are shown
    :param seeds: of the runs, in words
    :param final: the number format of the return at the end
    :param average: that of the mean of the evaluations during training
    """
    lines = reported(returns_rows.read(RESULTS / f"{name}.jsonl"))
    every_seed = sorted({line["seed"] for line in lines})
    found = groups(lines, lambda line: [line[key] for key in ("problem", "timesteps", "configuration")])
    if best_first:
        found.sort(key=lambda group: -statistics.mean(line["final"]["deterministic"] for line in group))
    rows = []
    for group in found:
        first, settings = group[0], group[0]["configuration"]
        ends = {line["seed"]: f"{line['final']['deterministic']:{final}}" for line in group}
        curves = [[(point["step"], point["deterministic"][0]) for point in line["curve"]] for line in group]
        mean = statistics.mean(mean for curve in curves for _, mean in curve)
        solved = (next((f"{step:,}" for step, mean in curve if mean >= 475), "never") for curve in curves)
        row = {
            "environment": first["problem"],
            "steps": f"{first['timesteps']:,}",
            "baseline": f"`{settings.get('baseline')}`",
            "`estimator`": f"`{settings.get('estimator')}`",
            f"return at the end, seeds {seeds}": ", ".join(ends.get(seed, "missing") for seed in every_seed),
            f"steps to 475, seeds {seeds}": "; ".join(solved),
            "mean of the evaluations on the way": f"{mean:{average}}",
            "CPU seconds a run": f"{statistics.median(line['cpu_seconds'] for line in group):.0f}",
        }
        rows.append({name: cell for name, cell in row.items() if name.partition(", seeds")[0] in columns})
    return table(rows)


ON_CARTPOLE = ("`estimator`", "return at the end", "steps to 475", "mean of the evaluations on the way")
ELSEWHERE = ("`estimator`", "return at the end", "mean of the evaluations on the way", "CPU seconds a run")
BASELINES = ("environment", "steps", "baseline", *ELSEWHERE[1:])


def compare_cartpole() -> str:
    found = groups(RunFile(RESULTS / "compare_cartpole" / "runs.jsonl").read(), lambda run: run["label"])
    runs = {group[0]["label"]: group for group in found}
    return curves.table(runs, threshold=475.0).rstrip()


def front_page(entrants: list[Entrant]) -> str:
    """The README's table: a few problems of each kind, and the best-known algorithms."""
    columns = ("GSAC, preset", "GSAC, defaults", "SDSAC", "DQN", "PPO", "SAC, continuous actions")
    shown = ("CartPole-v1", "LunarLander-v3", "MountainCar-v0", "Breakout", "Asterix")
    shown += ("BipedalWalker-v3, 7 bins", "HalfCheetah-v5, 7 bins", "Pairs, MultiBinary(40)")
    return returns_report.compact(entrants, columns, shown)


def sb3_suite() -> str:
    result = read("sb3_suite.json")
    counts = result["counts"]
    tests = " and ".join(test.replace("==", " ") for test in result["tests"])
    return (
        f"`python benchmarks/sb3_suite.py` runs the tests of {tests} with GSAC instead of\n"
        "DQN, SAC, A2C and QRDQN. Entries of `Box` actions take one of five values. "
        f"{counts['passed']} of the {counts['run']} cases that apply pass.\n"
        f"{counts['not applicable']} others do not apply; "
        "[this list](../benchmarks/sb3_not_applicable.yml) gives the reason for each."
    )


RETURNS: dict[str, Callable[[list[Entrant]], str]] = {
    "bars": returns_report.bars,
    "compact": returns_report.compact,
    "front": front_page,
    "normalized": returns_report.scores,
    "estimators": returns_report.estimators,
    "defaults": partial(returns_report.label_table, "GSAC, defaults"),
    **{name: partial(returns_report.group, name) for name in returns_rows.GROUPS},
}
"""The tables of the runs of ``returns.py``."""

TABLES: dict[str, Callable[[], str]] = {
    **{f"returns_{name}": lambda report=report: report(returns_rows.load()) for name, report in RETURNS.items()},
    "returns_search": returns_search.tried,
    "landings": lambda: landings.markdown(lines_of(landings.MEASURE)),
    "reinforce": lambda: trained("reinforce", BASELINES, "0 to 4"),
    "compare_cartpole": compare_cartpole,
    "wall_time": lambda: wall_time.markdown(lines_of(wall_time.MEASURE)),
    "update_cost": costs.columns_table,
    "update_cost_groups": costs.groups_table,
    "update_speed_threads": lambda: step_speed.on_each_machine(step_speed.update_table),
    "update_ceilings": lambda: step_speed.on_each_machine(step_speed.ceiling_table),
    "collection_speed": lambda: step_speed.on_each_machine(step_speed.collection_table, all_threads=False),
    "threads": costs.threads_table,
    "prioritized_cost": prioritized.cost_table,
    "prioritized_cliffwalk": prioritized.cliffwalk_table,
    "prioritized_gsac": prioritized.gsac_table,
    "estimator_quality": estimator_quality.ranking,
    "against_reinforce": estimator_quality.against_reinforce,
    "estimator_training_pairs": lambda: gradients.markdown(lines_of(gradients.MEASURE), gradients.PAIRS),
    "estimator_training_cheetah": lambda: gradients.markdown(lines_of(gradients.MEASURE), gradients.CHEETAH),
    "estimator_cost": costs.estimators_table,
    "neighbours": costs.neighbours_table,
    "estimators_cartpole": lambda: trained("estimators_cartpole", ON_CARTPOLE, "0 to 4", average=".0f"),
    "estimators_pairs": lambda: trained("estimators_pairs", ELSEWHERE, "0, 1, 2, 3, 4", ".3g", ".2f", best_first=True),
    "estimators_pairs40": lambda: trained("estimators_pairs40", ELSEWHERE, "0, 1, 2", ".3g", ".2f", best_first=True),
    "estimators_halfcheetah": lambda: trained(
        "estimators_halfcheetah", ELSEWHERE, "0, 1, 2", ".0f", ".0f", best_first=True
    ),
    "jang": lambda: jang_table.markdown(jang_table.load()),
    "sb3_suite": sb3_suite,
}


TODAYS = {
    r"\bentropy_in_target=[Tt]rue": "target=soft",
    r"\bdeterministic_target=[Tt]rue": "target=mode",
    r"\b(deterministic|entropy_in)_target=[Ff]alse": "target=mean",
}
"""Names of version 0.1.0, which result files hold, in today's words. No run names both arguments."""


def with_todays_names(table: str) -> str:
    """The table with the arguments of version 0.1.0 in today's words.

    >>> with_todays_names("defaults, deterministic_target=False, gamma=0.9")
    'defaults, target=mean, gamma=0.9'
    """
    for old, new in TODAYS.items():
        table = re.sub(old, new, table)
    return table


def filled(text: str) -> str:
    """Replaces the table between each pair of markers, ``<!-- name -->`` and ``<!-- end -->``."""
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
