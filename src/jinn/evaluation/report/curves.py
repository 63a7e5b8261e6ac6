"""Curves: picture metrics and Delta PSNR by horizon, and the losses of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from html import escape

from jinn.evaluation.catalogue import COPY_LAST, DELTA_PSNR, HIGH_MOTION, METRICS, PICTURES, SETS, Metric
from jinn.evaluation.estimate import Estimate, exactly
from jinn.evaluation.report import charts
from jinn.evaluation.report.charts import Line
from jinn.evaluation.report.parts import interval, scroll, section, show, table
from jinn.evaluation.results import WorldResults

SHORT = {"next_frame": "next frame", "inferred": "inferred actions", "given": "given actions"}
MOST_POINTS = 400
HALVES = {"All clips": "", "The high-motion half of the clips": f"/{HIGH_MOTION}"}
Panels = dict[str, list[Line]]  # the lines of charts on one scale, by the charts' titles
Points = list[tuple[float, Estimate]]


def curves(worlds: Sequence[WorldResults]) -> str:
    """Picture metrics by horizon of all clips and of their high-motion half, and Delta PSNR."""
    body = ""
    effects: Panels = {}
    for title, half in HALVES.items():
        figures = ""
        for metric, (short, *_) in PICTURES.items():
            figures += _charts(_pictures(worlds, metric, half), short, METRICS[f"inferred/{metric}"])
        body += _group(title, figures)
        points = [_points(world, f"{DELTA_PSNR}{half}") for world in worlds]
        effects[title.lower()] = _lines(worlds, points, "difference")
    delta = METRICS[DELTA_PSNR]
    body += _group("Effect of actions", _charts(effects, delta.title, delta))
    how = f"Means over clips with 95% bands. Dashed is the {COPY_LAST}."
    return section("Curves by horizon", how, body)


def _group(title: str, figures: str) -> str:
    return f'<h3>{title}</h3><div class="charts">{figures}</div>\n' if figures else ""


def _pictures(worlds: Sequence[WorldResults], metric: str, half: str) -> Panels:
    """One world: all sources in one chart. Several: a chart for each source, in which the worlds compare."""
    one = len(worlds) == 1
    panels: Panels = {}
    for s, source in enumerate(SHORT):
        points = [_points(world, f"{source}/{metric}{half}") for world in worlds]
        lines = panels.setdefault("" if one else SETS[source], [])
        lines += _lines(worlds, points, SHORT[source], first=s if one else 0)
        label = "copy of frame before" if source == "next_frame" else "copy of prompt"
        for world in worlds:
            copied = _points(world, f"{source}/{metric}/copy_last{half}")
            # On the same clips the baseline of all worlds is the same: it is shown once, and grey.
            if copied and not any(line.points == copied for line in lines):
                lines.append(Line(label, charts.colour(s) if one else 0, copied, dashed=True))
    return panels


def _points(world: WorldResults, name: str) -> Points:
    """A curve's points; the first is one frame after the prompt."""
    return [(t, f) for t, f in enumerate(world.curves.get(name, []), start=1) if math.isfinite(f.value)]


def _lines(worlds: Sequence[WorldResults], points: list[Points], label: str, first: int = 0) -> list[Line]:
    """A line of each world that has points, in colours from the ``first`` on; the label is for the only world."""
    names = [world.name for world in worlds] if len(worlds) > 1 else [label]
    return [
        Line(name, charts.colour(first + w), found)
        for w, (name, found) in enumerate(zip(names, points, strict=True))
        if found
    ]


def _charts(panels: Panels, title: str, metric: Metric) -> str:
    """Charts on one scale, each over its values as a table."""
    y_range = charts.limits([line for lines in panels.values() for line in lines], metric.zero)
    notes = [metric.unit] * (metric.unit == "dB") + [f"{metric.better} is better"] * bool(metric.better)
    figures = ""
    for subtitle, lines in panels.items():
        if lines:
            name = f"{title} {subtitle}".strip()
            caption = f"{title}, {subtitle}" if subtitle else title
            svg = charts.line_chart(lines, name, "frame", partial(show, unit=metric.unit), y_range)
            values = scroll(_values(lines, metric.unit), f"{title}: values")
            below = f"<details><summary>Values</summary>{values}</details>"
            figures += _figure(caption, ", ".join(notes), svg + below)
    return figures


def _figure(title: str, note: str, body: str) -> str:
    caption = f"<figcaption><b>{escape(title)}</b> {note}</figcaption>"
    return f'<figure class="chart">{caption}{body}</figure>\n'


def _values(lines: Sequence[Line], unit: str) -> str:
    """The values of a chart as a table."""
    heads = "".join(f'<th scope="col" class="n">{escape(line.label)}</th>' for line in lines)
    estimates = [dict(line.points) for line in lines]
    rows = ""
    for x in sorted(set().union(*estimates)):
        found = (at_x.get(x) for at_x in estimates)
        cells = "".join(f'<td class="n">{_with_interval(f, unit)}</td>' for f in found)
        rows += f'<tr><th scope="row" class="n">{x:g}</th>{cells}</tr>'
    return table(f'<th class="n">frame</th>{heads}', rows)


def _with_interval(estimate: Estimate | None, unit: str) -> str:
    return f"{show(estimate.value, unit)} {interval(estimate, unit)}" if estimate else ""


def _losses(world: WorldResults, stage: str) -> Points:
    """A stage's losses as points, evenly spaced to the last one, not many more than a chart can show."""
    finite = [(step, loss) for step, loss in world.training.get(stage, []) if math.isfinite(loss)]
    spaced = finite[:: -max(1, len(finite) // MOST_POINTS)][::-1]
    return [(step, exactly(loss, 1, 0)) for step, loss in spaced]


def training(worlds: Sequence[WorldResults]) -> str:
    """Loss by step of each stage."""
    figures = ""
    for stage in dict.fromkeys(stage for world in worlds for stage in world.training):
        lines = _lines(worlds, [_losses(world, stage) for world in worlds], "loss")
        losses = [f.value for line in lines for _, f in line.points]
        if losses:
            log = min(losses) > 0 and max(losses) > 10 * min(losses)
            title = stage.replace("_", " ")
            svg = charts.line_chart(lines, f"Loss of {title}", "step", "{:.4g}".format, log=log)
            figures += _figure(title, "loss, logarithmic" if log else "loss", svg)
    return section("Training", "", figures and f'<div class="charts">{figures}</div>')
