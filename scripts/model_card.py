"""Put the tables of a report into a model card, between the two lines that mark their place.

python -m jinn eval coinrun stores/test --out report
python scripts/model_card.py report src/jinn/world/built_in/coinrun/README.md
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinn.evaluation.catalogue import (
    CONSISTENCY,
    COPY_LAST,
    DELTA_PSNR_4,
    DISTANCES,
    ENDS,
    HIGH_MOTION,
    METRICS,
    POLICIES,
    RETURNS,
    SEGMENT,
    SETS,
)

BEGIN, END = "<!-- tables of scripts/model_card.py -->", "<!-- end of tables -->"
TABLES = {
    "Tokenizer": (
        "tokenizer/psnr",
        "tokenizer/ssim",
        "tokenizer/lpips",
        "tokenizer/codes_used",
        "tokenizer/bits",
        "tokenizer/capacity_bits",
    ),
    "Control": (
        DELTA_PSNR_4,
        CONSISTENCY,
        f"{CONSISTENCY}/reconstruction",
        "actions/nmi_true",
        "actions/nmi_scrolling",
        "actions/map_accuracy",
        "actions/map_accuracy/chance",
    ),
    "Long roll-outs": tuple(
        name
        for p in POLICIES
        for name in (
            f"stability/{p}/frames_inside",
            *(f"stability/{p}/{end}/{what}" for end in ENDS for what in SEGMENT if what != "drift"),
        )
    ),
    "Physics": (
        "physics/obedience",
        "physics/obedience/chance",
        "physics/reaction",
        "physics/reaction/possible",
        *(f"physics/return/{k}" for k in RETURNS),
    ),
}
Estimates = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="folder that jinn eval wrote")
    parser.add_argument("card", type=Path, help="markdown file with the two marks")
    options = parser.parse_args()
    report = json.loads((options.report / "report.json").read_text(encoding="utf-8"))
    card = options.card.read_text(encoding="utf-8")
    marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not marked.search(card):
        raise SystemExit(f"{options.card} lacks the lines {BEGIN} and {END}")
    body = "\n".join(tables(report))
    options.card.write_text(marked.sub(lambda _: f"{BEGIN}\n{body}\n{END}", card), encoding="utf-8")


def tables(report: dict[str, Any]) -> Iterator[str]:
    """Lines of all tables of the first world, as markdown."""
    world, settings = report["worlds"][0], report["settings"]
    estimates: Estimates = world["estimates"]
    yield f"Clips: {settings['clips']}. Long roll-outs: {settings['long roll-outs']}. Seed: {settings['seed']}."
    for title, names in TABLES.items():
        yield from ("", f"| {title} | mean | 95% interval |", "|---|---|---|")
        for name in names:
            if name in estimates:
                yield f"| {METRICS[name].title} | {cell(estimates[name], ' | ')} |"
    yield from horizon(world["curves"])
    yield from distances(estimates)


def horizon(curves: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """PSNR of some frames, each regime above its baseline."""
    steps = [t for t in (1, 4, 10, 16) if t <= len(curves["inferred/psnr"])]
    yield from (
        "",
        f"| PSNR in dB of frame | {' | '.join(map(str, steps))} |",
        "|---" * (len(steps) + 1) + "|",
    )
    for source in ("next_frame", "inferred", "given"):
        for half, suffix in (("", ""), (f"/{HIGH_MOTION}", ", high-motion half")):
            for label, name in ((SETS[source], f"{source}/psnr"), (COPY_LAST, f"{source}/psnr/copy_last")):
                if name + half in curves:
                    cells = " | ".join(cell(curves[name + half][t - 1], " ") for t in steps)
                    yield f"| {label}{suffix} | {cells} |"


def distances(estimates: Estimates) -> Iterator[str]:
    """Distances of each set of clips, and the frame distance of long roll-outs."""
    kinds = {kind: title for kind, (title, _) in DISTANCES.items() if f"{kind}/static" in estimates}
    yield from ("", f"| distance | {' | '.join(kinds.values())} |", "|---" * (len(kinds) + 1) + "|")
    for name, label in SETS.items():
        cells = (cell(estimates.get(f"{kind}/{name}"), " ") for kind in kinds)
        yield f"| {label} | {' | '.join(cells)} |"
    for name in (*(f"stability/{p}/{end}/drift" for p in POLICIES for end in ENDS), "stability/floor/drift"):
        if name in estimates:
            cells = (cell(estimates[name] if kind == "frame_distance" else None, " ") for kind in kinds)
            yield f"| {METRICS[name].title} | {' | '.join(cells)} |"


def cell(estimate: dict[str, float] | None, between: str) -> str:
    """Value and interval with three significant digits, empty without an estimate."""
    if estimate is None:
        return ""
    ends = (estimate[key] for key in ("value", "low", "high"))
    value, low, high = (f"{x:.3g}" if abs(x) < 100 else f"{x:.0f}" for x in ends)
    return f"{value}{between}[{low}, {high}]"


if __name__ == "__main__":
    main()
