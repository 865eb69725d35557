"""Makes the runs that a file does not hold yet: each once, in a process of its own, with what it was made with."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from gsac.experiments.processes import Failure, available_cores, run_in_processes
from gsac.experiments.run_file import RunFile

PACKAGES = (
    *("gsac", "torch", "stable-baselines3", "gymnasium", "numpy"),
    *("sb3-contrib", "sb3-soft", "rl-zoo3"),
)
"""Packages that results depend on. Those that are not installed are left out."""

Line = dict[str, Any]
"""A run as a line of a :class:`~gsac.experiments.run_file.RunFile`: plain data."""


class Job(Protocol):
    """A run to be made. It is picklable, and its ``str`` names it in a few words."""

    def described(self) -> Line:
        """What is known of the run before it is made: the beginning of its line."""

    def run(self) -> Line:
        """Makes the run. Returns what came out: the rest of its line."""


def execute(job: Job) -> Line:
    """Makes the run. Returns its whole line: what was known, what came out, the seconds, and what it was made with."""
    made_with = provenance()  # before the repository can have moved on
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = job.run()
    seconds = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return job.described() | outcome | {name: round(value, 2) for name, value in seconds.items()} | made_with


def run_missing(
    jobs: Sequence[Job],
    file: RunFile,
    n_processes: int,
    identity: Callable[[Line], str],
    summary: Callable[[Line], str] = lambda line: f"{line['final']:.2f}",
) -> list[str]:
    """Makes the runs that the file does not hold yet, and adds the line of each to it as it ends.

    Lines that are marked ``superseded`` count as missing.

    :param n_processes: at a time
    :param identity: the same for a job's description and for the line of its run, and different for other runs
    :param summary: of a line, to be printed
    :return: which jobs failed, and why
    :raises ValueError: the file holds something else than runs
    """
    done = {identity(line) for line in file.read() if not line.get("superseded")}
    missing = [job for job in jobs if identity(job.described()) not in done]
    if len(missing) < len(jobs):
        print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are in {file.path} already.", flush=True)
    ended: list[Job] = []
    failures: list[str] = []

    def note(job: Job, outcome: Line | Failure) -> None:
        ended.append(job)
        if isinstance(outcome, Failure):
            failures.append(f"{job}: {outcome.message}")
            result = "failed"
        else:
            file.append(outcome)
            result = f"{summary(outcome)} after {outcome['wall_seconds']:.0f} s"
        print(f"[{len(ended)}/{len(missing)}] {job}: {result}", flush=True)

    run_in_processes(execute, missing, n_processes, note)
    return failures


def identity_of(line: Line, names: Iterable[str]) -> str:
    """The entries of these names as text: the same before and after the line was written down."""
    return json.dumps({name: line.get(name) for name in names}, sort_keys=True, default=str)


def provenance() -> Line:
    """The versions, the machine and the commit that a run is made with."""
    return {
        "versions": versions(),
        "machine": f"{platform.machine()}, {available_cores()} cores, one thread a run",
        "commit": commit(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of this package's repository; None if it was installed without one, or git is not there to ask."""
    if shutil.which("git") is None:
        return None
    here = Path(__file__)
    answers = []
    for question in (("ls-files", "--error-unmatch", here.name), ("rev-parse", "--short", "HEAD")):
        command = ["git", "-C", str(here.parent), *question]
        answers.append(subprocess.run(command, capture_output=True, text=True, check=False))
    return answers[1].stdout.strip() if all(answer.returncode == 0 for answer in answers) else None
