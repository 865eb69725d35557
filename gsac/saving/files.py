"""Writes files atomically and finds existing ones."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

UNFINISHED = ".part"
"""The suffix of a file that is being written."""


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Removes the unfinished files of processes that were killed while they wrote ``path``."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{UNFINISHED}"):
        left.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BufferedWriter]:
    """Opens a file that replaces ``path`` when the block ends without an error; until then the old file stays.

    It is written under another name in the same folder, forced to the disk and renamed. A process that is killed leaves
    the old file or the new one. Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()


def existing_file(path: str | os.PathLike[str], suffix: str) -> Path:
    """Finds the file ``path``, or ``path`` with the suffix appended.

    :raises FileNotFoundError: there is neither
    :raises ValueError: it is a folder
    """
    path = Path(path)
    for candidate in (path, Path(f"{path}{suffix}")):
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise ValueError(f"{path} is a folder: pass a file, such as {path / f'model{suffix}'}.")
    raise FileNotFoundError(f"There is no file {path}, nor {path}{suffix}.")
