"""Runs jobs side by side, each in a process of its own, so that one that crashes takes no other with it.

``concurrent.futures.ThreadPoolExecutor`` hands out the jobs. Its ``ProcessPoolExecutor`` does not serve: a worker that dies
breaks the whole pool, hides its exit code, and cannot be ended before Python 3.14.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Failure:
    """Why a job has no result."""

    message: str


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_processes(
    function: Callable[[Any], Any], jobs: Iterable[Any], n: int, done: Callable[[Any, Any], None]
) -> None:
    """Calls ``done(job, function(job))`` for each job as it ends, or ``done(job, Failure)``.

    Function, jobs and results must be picklable. PyTorch has one thread in each process. Ctrl-C or an error of ``done``
    ends all processes; they also end themselves when this process is killed.

    :param n: processes at a time
    """
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        resource_tracker.ensure_running()  # otherwise the first thread starts it, which unblocks Ctrl-C there
    running = _Processes()
    with ThreadPoolExecutor(n, initializer=_leave_ctrl_c_to_the_main_thread) as threads:
        futures = {threads.submit(running.run, function, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                done(futures[future], future.result())
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            running.end()


class _Processes:
    """The processes that are running; once they have been ended, none is started any more."""

    def __init__(self) -> None:
        self.processes: set[SpawnProcess] = set()
        self.ended = False
        self.lock = threading.Lock()

    def run(self, function: Callable[[Any], Any], job: Any) -> Any:
        """The result of the function in a process of its own."""
        receiver, sender = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=_work, args=(function, job, sender), daemon=True)
        with self.lock:
            if self.ended:
                return Failure("it was not started")
            process.start()
            self.processes.add(process)
        sender.close()
        try:
            return receiver.recv()
        except EOFError:
            process.join()
            return Failure(f"its process ended without a result, with exit code {process.exitcode}")
        finally:
            with self.lock:
                self.processes.discard(process)

    def end(self) -> None:
        """Ends all processes."""
        with self.lock:
            self.ended = True
            for process in self.processes:
                process.terminate()


def _leave_ctrl_c_to_the_main_thread() -> None:
    """Blocks Ctrl-C in this thread and in the processes that it starts, which inherit the mask.

    A terminal sends Ctrl-C to all processes at once, and only the first shall answer.
    """
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _work(function: Callable[[Any], Any], job: Any, sender: Connection) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        outcome = function(job)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        outcome = Failure(f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})")
    sender.send(outcome)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
