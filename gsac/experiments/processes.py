"""Jobs side by side, each in a process of its own, so that none can take another down with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

import torch


@dataclass(frozen=True)
class Failure:
    """Why a job has no result."""

    message: str


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_processes(
    function: Callable[[Any], Any], jobs: Sequence[Any], n: int, done: Callable[[Any, Any], None]
) -> None:
    """Calls ``done(job, function(job))`` for each job as it ends, or ``done(job, Failure)``.

    Function, jobs and results must be picklable. PyTorch has one thread in each process. Leaving early, by Ctrl-C or an
    error of ``done``, ends all processes; they also end themselves when this one is killed.

    :param n: processes at a time
    """
    context = multiprocessing.get_context("spawn")
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # which the first process would do, and so end the holding back of Ctrl-C
    waiting = deque(jobs)
    running: dict[Connection, tuple[Any, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < n:
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(function, waiting[0], sender), daemon=True)
                with _ctrl_c_held_back():
                    process.start()
                    running[receiver] = (waiting.popleft(), process)
                sender.close()
            ready = set(wait(list(running)))
            for receiver in [receiver for receiver in running if receiver in ready]:
                job, process = running[receiver]
                try:
                    outcome = receiver.recv()
                except EOFError:
                    process.join()
                    outcome = Failure(f"its process ended without a result, with exit code {process.exitcode}")
                del running[receiver]
                done(job, outcome)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


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


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """A Ctrl-C within the block arrives after it; processes that are started in it never see one.

    The terminal sends Ctrl-C to all of them at once, and only the first shall answer. They inherit the mask; here it is
    not enough, for another thread may take the signal, and then Python answers it in this one.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    answers = threading.current_thread() is threading.main_thread()
    arrived: list[tuple[int, FrameType | None]] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler = signal.signal(signal.SIGINT, lambda *what: arrived.append(what)) if answers else None
    try:
        yield
    finally:
        if answers:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if arrived and callable(handler):
            handler(*arrived[0])
