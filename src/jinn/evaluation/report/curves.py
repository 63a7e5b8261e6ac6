"""Curves: picture metrics and Delta PSNR by horizon, and the losses of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from jinn.evaluation.catalogue import COPY_LAST, DELTA_PSNR, HIGH_MOTION, METRICS, PICTURES, SETS, Metric
from jinn.evaluation.estimate import Estimate, exactly
from jinn.evaluation.report import charts, numbers
from jinn.evaluation.report.charts import Line
from jinn.evaluation.report.parts import scroll, section, table
from jinn.evaluation.results import WorldResults

SHORT = {"next_frame": "next frame", "inferred": "inferred actions", "given": "given actions"}
HALVES = {"All clips": "", "The high-motion half of the clips": f"/{HIGH_MOTION}"}
Panels = dict[str, list[Line]]  # the lines of charts on one scale, by the charts' titles


def curves(worlds: Sequence[WorldResults]) -> str:
    """Picture metrics by horizon of all clips and of their high-motion half, and Delta PSNR."""
    parts = []
    for title, half in HALVES.items():
        body = ""
        for metric, (short, *_) in PICTURES.items():
            panels = _pictures(worlds, metric, half)
            body += _charts(panels, short, METRICS[f"inferred/{metric}"])
        parts.append(_group(title, body))
    panels = {
        title.lower(): _of_worlds(worlds, f"{DELTA_PSNR}{half}", "difference")
        for title, half in HALVES.items()
    }
    delta = METRICS[DELTA_PSNR]
    parts.append(_group("Effect of actions", _charts(panels, delta.title, delta)))
    how = f"Means over clips with 95% bands. Dashed is the {COPY_LAST}."
    return section("Curves by horizon", how, "".join(parts))


def _group(title: str, body: str) -> str:
    return f'<h3>{title}</h3><div class="charts">{body}</div>\n' if body else ""


def _pictures(worlds: Sequence[WorldResults], metric: str, half: str) -> Panels:
    """One world: all sources in one chart. Several: a chart for each source, in which the worlds compare."""
    one = len(worlds) == 1
    panels: Panels = {}
    for s, source in enumerate(SHORT):
        lines = panels.setdefault("" if one else SETS[source], [])
        for w, world in enumerate(worlds):
            colour = charts.colour(s if one else w)
            if points := _points(world, f"{source}/{metric}{half}"):
                lines.append(Line(SHORT[source] if one else world.name, colour, points))
        for world in worlds:
            points = _points(world, f"{source}/{metric}/copy_last{half}")
            # On the same clips the baseline of all worlds is the same: it is shown once, and grey.
            if points and not any(line.points == points for line in lines):
                label = "copy of frame before" if source == "next_frame" else "copy of prompt"
                lines.append(Line(label, charts.colour(s) if one else 0, points, dashed=True))
    return panels


def _of_worlds(worlds: Sequence[WorldResults], name: str, label: str) -> list[Line]:
    """A curve of each world; the label is for the only one."""
    found = [(w, world, _points(world, name)) for w, world in enumerate(worlds)]
    return [
        Line(label if len(worlds) == 1 else world.name, charts.colour(w), points)
        for w, world, points in found
        if points
    ]


def _points(world: WorldResults, name: str) -> list[tuple[float, Estimate]]:
    """A curve's points; the first is one frame after the prompt."""
    return [(t, f) for t, f in enumerate(world.curves.get(name, []), start=1) if math.isfinite(f.value)]


def _charts(panels: Panels, title: str, metric: Metric) -> str:
    """Charts on one scale, each over its values as a table."""
    panels = {subtitle: lines for subtitle, lines in panels.items() if lines}
    y_range = charts.limits([line for lines in panels.values() for line in lines], metric.zero)
    unit, better = metric.unit, metric.better
    notes = [unit] * (unit == "dB") + [f"{better} is better"] * bool(better)

    def show(value: float) -> str:
        return numbers.show(value, unit)

    return "".join(
        _figure(
            ", ".join(filter(None, (title, subtitle))),
            ", ".join(notes),
            charts.line_chart(lines, f"{title} {subtitle}".strip(), "frame", show, y_range, zero=metric.zero),
            f"<details><summary>Values</summary>{scroll(_values(lines, unit), f'{title}: values')}</details>",
        )
        for subtitle, lines in panels.items()
    )


def _figure(title: str, note: str, svg: str, below: str = "") -> str:
    caption = f"<figcaption><b>{escape(title)}</b> {note}</figcaption>"
    return f'<figure class="chart">{caption}{svg}{below}</figure>\n'


def _values(lines: Sequence[Line], unit: str) -> str:
    """The values of a chart as a table."""
    heads = "".join(f'<th scope="col" class="n">{escape(line.label)}</th>' for line in lines)
    found = [dict(line.points) for line in lines]
    rows = ""
    for x in sorted({x for points in found for x in points}):
        texts = (charts.with_interval(p[x], lambda v: numbers.show(v, unit)) if x in p else "" for p in found)
        cells = "".join(f'<td class="n">{text}</td>' for text in texts)
        rows += f'<tr><th scope="row" class="n">{x:g}</th>{cells}</tr>'
    return table(f'<th class="n">frame</th>{heads}', rows)


def training(worlds: Sequence[WorldResults]) -> str:
    """Loss by step of each stage."""
    body = ""
    for stage in dict.fromkeys(stage for world in worlds for stage in world.training):
        lines = []
        for w, world in enumerate(worlds):
            finite = [(step, loss) for step, loss in world.training.get(stage, []) if math.isfinite(loss)]
            points = [(step, exactly(loss, 1, 0)) for step, loss in charts.thin(finite)]
            if points:
                lines.append(Line(world.name if len(worlds) > 1 else "loss", charts.colour(w), points))
        if lines:
            losses = [f.value for line in lines for _, f in line.points]
            log = min(losses) > 0 and max(losses) > 10 * min(losses)
            title = stage.replace("_", " ")
            svg = charts.line_chart(lines, f"Loss of {title}", "step", lambda loss: f"{loss:.4g}", log=log)
            body += _figure(title, "loss, logarithmic" if log else "loss", svg)
    return section("Training", "", f'<div class="charts">{body}</div>' if body else "")
