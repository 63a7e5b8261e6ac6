"""Put the figures of a report into a model card, between the two lines that mark their place.

python -m jinn eval coinrun stores/test --out report
python scripts/model_card.py report src/jinn/world/built_in/coinrun/README.md
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures of scripts/model_card.py -->", "<!-- end of figures -->"
ROWS = {
    "Tokenizer": {
        "PSNR": "tokenizer/psnr",
        "SSIM": "tokenizer/ssim",
        "LPIPS (lower is better)": "tokenizer/lpips",
        "codes used": "tokenizer/codes_used",
        "bits a frame": "tokenizer/bits",
        "bits a frame at most": "tokenizer/capacity_bits",
    },
    "Control": {
        "**Delta_4 PSNR**": "control/delta_psnr_4",
        "pressed action found again in generated video": "control/agreement",
        "its ceiling, in reconstructed real video": "control/agreement/reconstruction",
        "NMI with the true actions": "actions/nmi_true",
        "NMI with the scrolling": "actions/nmi_scrolling",
        "true action told by the latent one, other levels": "actions/map_accuracy",
        "the same by guessing": "actions/map_accuracy/chance",
    },
    "Long roll-outs": {
        "still at the end, random actions": "stability/random/frozen",
        "beyond all real frames at the end, random actions": "stability/random/exploded",
        "still at the end, one action held": "stability/held/frozen",
        "beyond all real frames at the end, one action held": "stability/held/exploded",
    },
}
REGIMES = {"next frame, true ones before": "next_frame", "inferred actions": "inferred", "given": "given"}
SETS = ("next_frame", "inferred", "given", "floor", "static", "shuffled", "other_level")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="folder that jinn eval wrote")
    parser.add_argument("card", type=Path, help="markdown file with the two marks")
    options = parser.parse_args()
    report = json.loads((options.report / "report.json").read_text(encoding="utf-8"))
    card = options.card.read_text(encoding="utf-8")
    place = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not place.search(card):
        raise SystemExit(f"{options.card} lacks the lines {BEGIN} and {END}")
    options.card.write_text(place.sub(f"{BEGIN}\n{tables(report)}\n{END}", card), encoding="utf-8")


def tables(report: dict[str, Any]) -> str:
    """All tables of the first world, as markdown."""
    world, settings = report["worlds"][0], report["settings"]
    figures, curves = world["figures"], world["curves"]
    lines = [f"{settings['clips']}; long roll-outs: {settings['long roll-outs']}; seed {settings['seed']}."]
    for title, rows in ROWS.items():
        lines += ["", f"| {title} | mean | 95% interval |", "|---|---|---|"]
        lines += [
            f"| {label} | {cell(figures[name], ' | ')} |" for label, name in rows.items() if name in figures
        ]
    last = len(curves["inferred/psnr"])
    steps = [t for t in (1, 4, 10, 16) if t <= last]
    lines += ["", f"| PSNR in dB of frame | {' | '.join(map(str, steps))} |", "|---" * (len(steps) + 1) + "|"]
    for label, name in REGIMES.items():
        for end, half in (("", ""), ("/moving", ", moving half")):
            for what, path in ((label, f"{name}/psnr{end}"), ("frozen picture", f"{name}/psnr/frozen{end}")):
                cells = " | ".join(cell(curves[path][t - 1], " ") for t in steps)
                lines.append(f"| {what}{half} | {cells} |")
    kinds = dict.fromkeys(name.split("/")[0] for name in figures if name.endswith("/other_level"))
    lines += ["", "| distance | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for name in SETS:
        row = [cell(figures[f"{k}/{name}"], " ") if f"{k}/{name}" in figures else "" for k in kinds]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(row)} |")
    for name, figure in figures.items():
        if stretch := re.fullmatch(r"stability/(\w+)/frames_(\d+)_(\d+)", name):
            label = f"long play, {stretch[1]} actions, frames {stretch[2]} to {stretch[3]}"
            lines.append(f"| {label} | {cells_of(figure, kinds)} |")
    if "stability/floor" in figures:
        lines.append(f"| long real stretches | {cells_of(figures['stability/floor'], kinds)} |")
    return "\n".join(lines)


def cells_of(figure: dict[str, float], kinds: dict[str, None]) -> str:
    """A row that has a frame distance only."""
    return " | ".join(cell(figure, " ") if kind == "frame_distance" else "" for kind in kinds)


def cell(figure: dict[str, float], between: str) -> str:
    """Value and interval, with three digits that count."""
    value, low, high = (f"{x:.3g}" if abs(x) < 100 else f"{x:.0f}" for x in map(figure.__getitem__, KEYS))
    return f"{value}{between}[{low}, {high}]"


KEYS = ("value", "low", "high")


if __name__ == "__main__":
    main()
