"""Prints errors and results, each in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gsac.experiments.evaluation import Evaluation


@contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Ends the program with one line and exit code 2 if an error of these kinds is raised.

    Wrap only what reads flags and files: an error in training is a bug, and then the traceback is needed.
    """
    try:
        yield
    except kinds as error:
        print(f"gsac: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def print_returns(env_id: str, evaluation: Evaluation, deterministic: bool) -> None:
    """Prints the mean and the standard deviation of the returns."""
    actions = "deterministic" if deterministic else "stochastic"
    returns = f"{evaluation.mean:.2f} +/- {evaluation.std:.2f}"
    print(f"{env_id}: {returns} over {len(evaluation.returns)} episodes, {actions} actions")
