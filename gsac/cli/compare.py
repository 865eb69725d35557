"""``gsac compare``: trains several algorithms on several seeds, and draws their learning curves."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro

from gsac.checks import AT_LEAST_0, AT_LEAST_1, check_number, is_at_least_0, is_at_least_1
from gsac.cli.flags import JSON
from gsac.cli.messages import one_line_errors
from gsac.experiments import compare
from gsac.experiments.environments import reward_threshold
from gsac.experiments.processes import available_cores
from gsac.experiments.run_file import RunFile
from gsac.experiments.runner import run_missing
from gsac.saving.files import atomic_write


@dataclass
class Compare:
    """Train several algorithms on several seeds and draw their learning curves. Skips runs that are done already."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """A Gymnasium environment, such as CartPole-v1; MODULE:ENV imports the module that registers it."""
    algos: tuple[str, ...] = tuple(compare.algorithms())
    """The algorithms, separated by commas or spaces. Those that do not take the environment's actions are left out."""
    estimators: tuple[str, ...] = ()
    """Estimators, with each of which GSAC is trained; without any, GSAC is trained with its default."""
    seeds: int = 5
    """How many seeds."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    total_timesteps: int = 20_000
    """Steps in the environment, for each run."""
    eval_episodes: int = 10
    """Episodes of each of the twenty evaluations on the way; the final one takes 20."""
    jobs: int | None = None
    """Runs at the same time, with one thread each; None takes the number of cores."""
    arguments: Annotated[dict[str, Any] | None, JSON] = None
    """Constructor arguments by algorithm, in place of published or default ones: '{"gsac": {"n_steps": 3}}'."""
    threshold: float | None = None
    """The return to reach; None takes the environment's own."""
    logdir: Path | None = None
    """The folder of runs, picture and table; None takes logs/ENV/compare."""

    def run(self) -> None:
        """Trains what is missing, draws the curves and prints the table."""
        folder = self.logdir or Path("logs") / self.env / "compare"
        file = RunFile(folder / "runs.jsonl")
        try:
            with one_line_errors(ValueError, OSError, ImportError):
                self.check_numbers()
                curves = _imported_curves()
                threshold = reward_threshold(self.env) if self.threshold is None else self.threshold
                jobs = self.jobs_to_compare()
                folder.mkdir(parents=True, exist_ok=True)
                failures = run_missing(jobs, file, self.jobs or available_cores(), compare.identity)
        except KeyboardInterrupt:
            print(
                f"gsac: interrupted; {file.path} holds the finished runs; to resume: the same command", file=sys.stderr
            )
            raise SystemExit(130) from None
        runs = compare.runs_by_label(jobs, file)
        if runs:
            curves.draw(folder / "curves.png", runs, threshold)
            table = curves.table(runs, threshold)
            with atomic_write(folder / "table.md") as target:
                target.write(table.encode())
            print(f"\n{table}\nThe curves are in {folder / 'curves.png'}, this table in {folder / 'table.md'}.")
        for failure in failures:
            print(f"gsac: failed: {failure}", file=sys.stderr)
        if failures:
            print("gsac: to repeat the failed runs: the same command", file=sys.stderr)
            raise SystemExit(1)

    def check_numbers(self) -> None:
        """Raises an error unless each number is within its range.

        :raises ValueError: it is not
        """
        check_number("--seeds", self.seeds, AT_LEAST_1, is_at_least_1, 5)
        check_number("--first-seed", self.first_seed, AT_LEAST_0, is_at_least_0, 0)
        check_number("--total-timesteps", self.total_timesteps, AT_LEAST_1, is_at_least_1, 20_000)
        check_number("--eval-episodes", self.eval_episodes, AT_LEAST_1, is_at_least_1, 10)
        if self.jobs is not None:
            check_number("--jobs", self.jobs, AT_LEAST_1, is_at_least_1, 1)

    def jobs_to_compare(self) -> list[compare.Job]:
        """Lists each contender on each seed, and prints which contenders cannot learn in this environment.

        :raises ValueError: an unknown algorithm, estimator or argument, or no contender can learn in this environment
        """
        algos, estimators = compare.split_names(self.algos), compare.split_names(self.estimators)
        contenders = compare.contenders(self.env, algos, estimators, self.arguments or {})
        reasons = {contender.label: compare.why_not(contender, self.env) for contender in contenders}
        fitting = [contender for contender in contenders if reasons[contender.label] is None]
        if not fitting:
            raise ValueError(f"Nothing is left to compare on {self.env}. {' '.join(filter(None, reasons.values()))}")
        for label, reason in reasons.items():
            if reason is not None:
                print(f"{label} is left out: {reason}")
        return [
            compare.Job(contender, self.env, seed, self.total_timesteps, self.eval_episodes)
            for seed in range(self.first_seed, self.first_seed + self.seeds)
            for contender in fitting
        ]


def _imported_curves() -> ModuleType:
    try:
        from gsac.experiments import curves
    except ImportError as error:
        raise ImportError(
            f'gsac compare needs rliable and matplotlib ({error}). Write: pip install "gsac[compare]"'
        ) from None
    return curves
