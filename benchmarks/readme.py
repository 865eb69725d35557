"""Writes the README's results from the files under ``results/``.

python benchmarks/readme.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import defaults
import jang_table

README = Path(__file__).parent.parent / "README.md"
RESULTS = Path(__file__).parent / "results"


def returns() -> str:
    return defaults.markdown(defaults.finished(RESULTS / "defaults.jsonl"))


def update_cost() -> str:
    result = json.loads((RESULTS / "update_cost.json").read_text())
    lines = [
        "| action space | joint actions | columns | ms an update | MB allocated | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| `MultiBinary({row['n']})` | 2^{row['n']} | {row['columns']} | {row['milliseconds']:.1f} "
            f"| {row['megabytes_allocated']:.1f} | {row['parameters']:,} |"
        )
    return "\n".join(lines)


def threads() -> str:
    rows = json.loads((RESULTS / "threads.json").read_text())["rows"]
    lines = ["| hidden layers | busy neighbours | one thread, ms | two threads, ms |", "|---|---|---|---|"]
    for row in (row for row in rows if row["threads"] == 1):
        (other,) = [r for r in rows if r["threads"] == 2 and all(r[k] == row[k] for k in ("width", "busy_neighbours"))]
        lines.append(
            f"| {row['width']}, {row['width']} | {row['busy_neighbours']} "
            f"| {row['median_ms']:.1f} (worst {row['worst_ms']:.1f}) | {other['median_ms']:.1f} (worst {other['worst_ms']:.1f}) |"
        )
    return "\n".join(lines)


def jang() -> str:
    return jang_table.markdown(defaults.finished(RESULTS / "jang.jsonl"))


TABLES = {"returns": returns, "update_cost": update_cost, "threads": threads, "jang": jang}


def filled(text: str) -> str:
    """The README's text with each table between its marks made anew."""
    for name, made in TABLES.items():
        table = made()
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end -->)"
        assert re.search(pattern, text, re.DOTALL), f"the README has no place marked {name}"
        text = re.sub(
            pattern, lambda match, table=table: f"{match[1]}{table}{match[2]}", text, count=1, flags=re.DOTALL
        )
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
