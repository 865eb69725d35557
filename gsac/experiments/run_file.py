"""A file of finished runs, one JSON object a line."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any


class RunFile:
    """Finished runs, one JSON object a line.

    A line is appended by one write and synced to the disk. Reading never writes, so any number of processes may read while
    others append. An incomplete line, which another process is writing or was killed in, does not count as a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Reads all runs. An incomplete line is left out; if others follow it, with a warning.

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
                            f"Line {number} of {self.path} broke off when it was written, so its run does not count: "
                            "remove the line.",
                            stacklevel=2,
                        )
                    continue
            if not isinstance(run, dict):
                raise ValueError(f"Line {number} of {self.path} is not a run: remove it, or choose another --logdir.")
            runs.append(run)
        return runs

    def append(self, run: dict[str, Any]) -> None:
        """Appends a run, on a new line even if the last one is incomplete. Makes missing folders."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b", buffering=0) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            incomplete = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * incomplete + json.dumps(run, default=str).encode() + b"\n")
            os.fsync(file.fileno())
