"""The file that remembers which runs are finished."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class RunFile:
    """The finished runs, one JSON object a line.

    A line is appended in one piece and forced to the disk. What a killed process left of one is cut off when the file is
    read the next time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All runs in the file.

        :raises ValueError: a line that is not a JSON object
        """
        if not self.path.exists():
            return []
        self._mend()
        runs = []
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            try:
                run = json.loads(line)
            except json.JSONDecodeError:
                run = None
            if not isinstance(run, dict):
                raise ValueError(f"Line {number} of {self.path} is not a run: remove it, or choose another --logdir.")
            runs.append(run)
        return runs

    def append(self, run: dict[str, Any]) -> None:
        """Adds a run. Missing folders are made."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(run, default=str).encode() + b"\n")
            os.fsync(file.fileno())

    def _mend(self) -> None:
        with self.path.open("r+b") as file:
            whole, newline, tail = file.read().rpartition(b"\n")
            if not tail:
                return
            try:
                json.loads(tail)
                file.write(b"\n")
            except ValueError:
                file.truncate(len(whole) + len(newline))
