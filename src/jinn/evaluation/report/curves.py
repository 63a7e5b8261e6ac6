"""Curves: fidelity by horizon, what actions are worth, and the losses of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from jinn.evaluation.report import charts, glossary
from jinn.evaluation.report.charts import Line
from jinn.evaluation.report.parts import scroll, section, table
from jinn.evaluation.results import Figure, WorldResults

# Curve, its name beside the line, and the name of its frozen twin.
SERIES = (
    ("next_frame", "next frame", "frame before"),
    ("inferred", "inferred actions", "prompt repeated"),
    ("given", "given actions", "prompt repeated"),
)
DELTA = {"all clips": "control/delta_psnr", "moving half": "control/delta_psnr/moving"}
Panels = dict[str, list[Line]]  # the lines of charts on one scale, by the charts' titles


def curves(worlds: Sequence[WorldResults]) -> str:
    """Fidelity by horizon of all clips and of their moving half, what actions are worth, and other curves."""
    used = set(DELTA.values())
    parts = []
    for title, half in (("All clips", ""), ("The half of the clips in which most moves", "/moving")):
        drawn = ""
        for metric, (unit, better) in glossary.PICTURES.items():
            used.update(f"{series}/{metric}{end}{half}" for series, *_ in SERIES for end in ("", "/frozen"))
            drawn += _charts(_fidelity(worlds, metric, half), metric.upper(), unit, better)
        parts.append(_group(title, drawn))
    panels = {half: _of_worlds(worlds, name, "difference") for half, name in DELTA.items()}
    parts.append(_group("What actions are worth", _charts(panels, "Delta PSNR", "dB", "higher", zero=True)))
    drawn = ""
    for name in dict.fromkeys(name for world in worlds for name in world.curves if name not in used):
        means = glossary.meaning(name)
        drawn += _charts({"": _of_worlds(worlds, name, "value")}, name, means.unit, means.better)
    parts.append(_group("Other", drawn))
    how = "Means over clips with 95% bands. Dashed is a picture that does not move."
    return section("Curves by horizon", how, "".join(parts))


def _group(title: str, drawn: str) -> str:
    return f'<h3>{title}</h3><div class="charts">{drawn}</div>\n' if drawn else ""


def _fidelity(worlds: Sequence[WorldResults], metric: str, half: str) -> Panels:
    """One world: all series in one chart. Several: a chart for each series, in which the worlds compare."""
    one = len(worlds) == 1
    panels: Panels = {}
    for s, (series, label, frozen) in enumerate(SERIES):
        lines = panels.setdefault("" if one else label, [])
        for w, world in enumerate(worlds):
            colour = charts.colour(s if one else w)
            if points := _points(world, f"{series}/{metric}{half}"):
                lines.append(Line(label if one else world.name, colour, points))
        for world in worlds:
            points = _points(world, f"{series}/{metric}/frozen{half}")
            # On the same clips it is the same line, whichever world is measured: it is drawn once, and grey.
            if points and not any(line.points == points for line in lines):
                lines.append(Line(frozen, charts.colour(s) if one else 0, points, dashed=True))
    return panels


def _of_worlds(worlds: Sequence[WorldResults], name: str, label: str) -> list[Line]:
    """A curve of each world; the label is for the only one."""
    found = [(w, world, _points(world, name)) for w, world in enumerate(worlds)]
    return [
        Line(label if len(worlds) == 1 else world.name, charts.colour(w), points)
        for w, world, points in found
        if points
    ]


def _points(world: WorldResults, name: str) -> list[tuple[float, Figure]]:
    """A curve's points; the first is one frame after the prompt."""
    return [(t, f) for t, f in enumerate(world.curves.get(name, []), start=1) if math.isfinite(f.value)]


def _charts(panels: Panels, title: str, unit: str, better: str, zero: bool = False) -> str:
    """Charts on one scale, each over its values as a table."""
    panels = {subtitle: lines for subtitle, lines in panels.items() if lines}
    y_range = charts.limits([line for lines in panels.values() for line in lines], zero)
    notes = [unit] * (unit == "dB") + [f"{better} is better"] * bool(better)

    def show(value: float) -> str:
        return glossary.show(value, unit)

    return "".join(
        _figure(
            ", ".join(filter(None, (title, subtitle))),
            ", ".join(notes),
            charts.line_chart(lines, f"{title} {subtitle}".strip(), "frame", show, y_range, zero=zero),
            f"<details><summary>Values</summary>{scroll(_values(lines, unit), f'{title}: values')}</details>",
        )
        for subtitle, lines in panels.items()
    )


def _figure(title: str, note: str, svg: str, below: str = "") -> str:
    caption = f"<figcaption><b>{escape(title)}</b> {note}</figcaption>"
    return f'<figure class="chart">{caption}{svg}{below}</figure>\n'


def _values(lines: Sequence[Line], unit: str) -> str:
    """What a chart shows, for those who read numbers or hear the page."""
    heads = "".join(f'<th scope="col" class="n">{escape(line.label)}</th>' for line in lines)
    found = [dict(line.points) for line in lines]
    rows = ""
    for x in sorted({x for points in found for x in points}):
        told = (charts.with_interval(p[x], lambda v: glossary.show(v, unit)) if x in p else "" for p in found)
        cells = "".join(f'<td class="n">{text}</td>' for text in told)
        rows += f'<tr><th scope="row" class="n">{x:g}</th>{cells}</tr>'
    return table(f'<th class="n">frame</th>{heads}', rows)


def training(worlds: Sequence[WorldResults]) -> str:
    """Loss by step of each stage."""
    drawn = ""
    for stage in dict.fromkeys(stage for world in worlds for stage in world.training):
        lines = []
        for w, world in enumerate(worlds):
            finite = [(step, loss) for step, loss in world.training.get(stage, []) if math.isfinite(loss)]
            points = [(step, Figure(loss, loss, loss, 1, 0)) for step, loss in charts.thin(finite)]
            if points:
                lines.append(Line(world.name if len(worlds) > 1 else "loss", charts.colour(w), points))
        if lines:
            losses = [f.value for line in lines for _, f in line.points]
            log = min(losses) > 0 and max(losses) > 10 * min(losses)
            title = stage.replace("_", " ")
            svg = charts.line_chart(lines, f"Loss of {title}", "step", lambda loss: f"{loss:.4g}", log=log)
            drawn += _figure(title, "loss, logarithmic" if log else "loss", svg)
    return section("Training", "", f'<div class="charts">{drawn}</div>' if drawn else "")
