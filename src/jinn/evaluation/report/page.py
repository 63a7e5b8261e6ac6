"""The page: what was measured and how, the figures that say most, and all other sections below them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from jinn.evaluation.report import charts, glossary
from jinn.evaluation.report.curves import curves, training
from jinn.evaluation.report.films import clips, held
from jinn.evaluation.report.legend import legends
from jinn.evaluation.report.parts import anchor, interval, section
from jinn.evaluation.report.tables import tables
from jinn.evaluation.results import Figure, Results, WorldResults
from jinn.files import write_json, write_text

STATIC = Path(__file__).parent / "static"

# Title, what it is, the figure, and its baselines with their names. "" is zero.
GLANCE = (
    ("Reconstruction", "the tokenizer's picture of a true frame, PSNR", "tokenizer/psnr", ()),
    (
        "Roll-out",
        "from one frame, inferred actions, PSNR",
        "inferred/psnr",
        (("inferred/psnr/frozen", "prompt repeated"),),
    ),
    (
        "Worth of actions",
        "PSNR lost at frame 4 if they are random",
        "control/delta_psnr_4",
        (("", "no use"),),
    ),
    (
        "Actions found again",
        "the pressed one, in generated video",
        "control/agreement",
        (("control/agreement/chance", "chance"), ("control/agreement/reconstruction", "ceiling")),
    ),
    (
        "FVD",
        "generated to real clips, inferred actions",
        "fvd.*/inferred",
        (("{kind}/floor", "real to real"), ("{kind}/static", "nothing moves")),
    ),
)


def write_report(results: Results, folder: Path) -> None:
    """Write ``report.json`` and ``report.html``; each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", results.to_json())
    write_text(folder / "report.html", page(results))


def page(results: Results) -> str:
    """The whole page."""
    style, script = ((STATIC / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    # Of all scripts only this one may run, and nothing may be fetched.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    names = " and ".join(escape(world.name) for world in results.worlds)
    sections = "".join(
        (
            settings(results),
            glance(results),
            clips(results),
            held(results),
            legends(results.worlds),
            curves(results.worlds),
            training(results.worlds),
            tables(results),
        )
    )
    titles = re.findall(r"<section id=.*?><h2>(.*?)</h2>", sections)
    links = "".join(f'<a href="#{anchor(title)}">{title}</a>' for title in titles)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>jinn / {names}: report</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header><h1><span class="mark">jinn</span> {names}</h1><nav aria-label="Sections">{links}</nav></header>
<main>
{sections}</main>
<script>{script}</script>
</body>
</html>
"""


def settings(results: Results) -> str:
    """How it was measured, and what was not."""
    terms = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in results.settings.items()
    )
    missing = "".join(f"<li>{escape(sentence)}</li>" for sentence in results.missing)
    note = f'<aside class="missing"><h2>Not measured</h2><ul>{missing}</ul></aside>' if missing else ""
    return f'<section><dl class="settings">{terms}</dl>{note}</section>\n'


def glance(results: Results) -> str:
    """The few figures that say most, each beside its baselines, and what the metrics mean."""
    cards = []
    for title, text, pattern, baselines in GLANCE:
        name = next((name for name in results.names() if re.fullmatch(pattern, name)), None)
        if name is not None:
            paths = {label: path.format(kind=name.split("/")[0]) for path, label in baselines}
            columns = _columns(results.worlds, name, paths)
            cards.append(
                f'<article><h3>{title}</h3><p>{text}</p><div class="columns">{columns}</div></article>'
            )
    met = {part for name in results.names() for part in re.split(r"\W|_|\d", name)}
    words = "".join(f"<li>{text}</li>" for metric, text in glossary.METRICS.items() if metric in met)
    body = f'<div class="cards">{"".join(cards)}</div><ul class="words">{words}</ul>' if cards else ""
    how = "With 95% intervals. In the strips, ticks are the baselines that a figure must be read beside."
    return section("At a glance", how, body)


def _columns(worlds: Sequence[WorldResults], name: str, paths: dict[str, str]) -> str:
    """A figure of each world beside its baselines, drawn on one scale."""
    unit = glossary.meaning(name).unit
    shown: list[tuple[WorldResults, Figure, dict[str, float]]] = []
    for world in worlds:
        if name in world.figures:
            values = {
                label: world.figures[path].value if path else 0.0
                for label, path in paths.items()
                if not path or path in world.figures
            }
            shown.append((world, world.figures[name], values))
    ends = [end for _, figure, values in shown for end in (figure.low, figure.high, *values.values())]
    columns = ""
    for world, figure, values in shown:
        title = f'<p class="name">{escape(world.name)}</p>' if len(worlds) > 1 else ""
        beside = "".join(
            f"<div><dt>{label}</dt><dd>{glossary.show(value, unit)}</dd></div>"
            for label, value in values.items()
        )
        drawn = charts.strip(figure, list(values.values()), min(ends), max(ends)) if values else ""
        columns += (
            f'<div class="column">{title}<p class="big">{glossary.show(figure.value, unit)}</p>'
            f'<p class="interval">{interval(figure, unit)}</p>{drawn}<dl>{beside}</dl></div>'
        )
    return columns
