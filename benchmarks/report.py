"""Make docs/benchmarks.md of the kept results: ``python -m benchmarks.report``. No figure is ever typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

Made by `python -m benchmarks.report` from `benchmarks/results/*.json`; do not edit. `make bench` measures on
your CPU and `make bench DEVICE=cuda` on your GPU. Each figure is a median of repeats that took turns with
those it is compared to: trust ratios within a table, not seconds between tables.
"""


def render(folder: Path = RESULTS) -> str:
    """All results of a folder as one Markdown page."""
    results = [json.loads(place.read_text(encoding="utf-8")) for place in sorted(folder.glob("*.json"))]
    return "\n".join([HEAD, *map(section, results)])


def section(result: dict[str, Any]) -> str:
    """One file of results: heading, hardware, note, table."""
    facts = result["hardware"]
    units = ", ".join(facts["bfloat16_units"]) or "no bfloat16 units"
    machine = facts.get("gpu") or f"{facts['cpu']}, {units}"
    versions = f"{facts['threads']} threads, torch {facts['torch']}, commit {result['commit']}"
    settings = "".join(f", {name}={value}" for name, value in facts["environment"].items())
    about = f"{machine}; {versions}, {result['date']}{settings}."
    return "\n".join([f"## {result['benchmark']}\n", about, result["note"], "", table(result["rows"])]) + "\n"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(column, "")) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """Three significant digits are all that such a figure has."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
