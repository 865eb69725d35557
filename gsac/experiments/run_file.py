"""The file that remembers which runs are finished."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any


class RunFile:
    """The finished runs, one JSON object a line.

    A line is appended in one piece and forced to the disk. Reading changes nothing, so that any number of processes may read
    while others append: what is there of a line that is being written, or that a killed process left, is no run yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All runs in the file. A line that broke off before others were appended is left out, with a warning.

        :raises ValueError: a line that is neither a JSON object nor the beginning of one
        """
        if not self.path.exists():
            return []
        runs = []
        lines = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                run = json.loads(line)
            except ValueError:
                run = None
                if line.startswith(b"{"):
                    if number < len(lines):
                        warnings.warn(
                            f"Line {number} of {self.path} broke off when it was written, and its run counts as not made: "
                            "remove the line.",
                            stacklevel=2,
                        )
                    continue
            if not isinstance(run, dict):
                raise ValueError(f"Line {number} of {self.path} is not a run: remove it, or choose another --logdir.")
            runs.append(run)
        return runs

    def append(self, run: dict[str, Any]) -> None:
        """Adds a run, on a line of its own whatever stands before. Missing folders are made."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b", buffering=0) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            begun = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * begun + json.dumps(run, default=str).encode() + b"\n")
            os.fsync(file.fileno())
