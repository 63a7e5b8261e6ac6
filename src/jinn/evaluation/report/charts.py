"""Charts of lines with bands, drawn by matplotlib as inline SVG, and two small drawings of our own."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jinn.evaluation.estimate import Estimate

# The colours c0 (grey) to c6 of the style sheet, which has others for the dark; then its soft ink and its lines.
COLOURS = ("#6f6b77", "#0069a8", "#b84a00", "#007d5a", "#a6437e", "#846a00", "#3a3742")
INK, GRID = "#64606c", "#dcd7cb"
STYLE = Path(__file__).parent / "static" / "charts.mplstyle"
STILL = 0.15  # pixels a frame: a slower motion is shown as a dot


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        colour: an index of `COLOURS`; 0 is grey.
        points: x, ascending, and its estimate; the interval is shown as a band unless it is empty.
        dashed: whether it is a baseline.
    """

    label: str
    colour: int
    points: Sequence[tuple[float, Estimate]]
    dashed: bool = False


def colour(index: int) -> int:
    """The colour of the ``index``-th line or world."""
    return 1 + index % (len(COLOURS) - 1)


def limits(lines: Sequence[Line], zero: bool = False) -> tuple[float, float]:
    """The range of values that holds all lines and their bands, and 0 if asked for."""
    ends = [end for line in lines for _, f in line.points for end in (f.low, f.high, f.value)]
    ends = [end for end in ends if math.isfinite(end)] + [0.0] * zero
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def draw(axes: Axes, lines: Sequence[Line], x_name: str, y_range: tuple[float, float] | None = None) -> None:
    """Draw lines, their bands and a legend; ``y_range`` is `limits` by default."""
    for line in lines:
        xs, estimates = zip(*line.points, strict=True)
        color, marker = COLOURS[line.colour], "o" if len(xs) == 1 else ""  # one point alone would not be seen
        style = "--" if line.dashed else "-"
        axes.plot(xs, [f.value for f in estimates], style, color=color, marker=marker, label=line.label)
        if any(f.low < f.high for f in estimates):
            ends = [f.low for f in estimates], [f.high for f in estimates]
            axes.fill_between(xs, *ends, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel=x_name, ylim=y_range or limits(lines))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, labelcolor="linecolor")


def line_chart(
    lines: Sequence[Line],
    title: str,
    x_name: str,
    show: Callable[[float], str],
    y_range: tuple[float, float] | None = None,
    log: bool = False,
) -> str:
    """A chart of at least one line with at least one point each, in the colours of the page.

    Screen readers read the title and each line's first and last value as ``show`` formats it. A ``log`` axis needs
    positive values; a line is shown at 0 where the axis reaches below it.
    """
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(3.8, 2.26), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, lines, x_name, y_range)
        if log:
            axes.set(yscale="log")
            axes.autoscale(axis="y")
        elif axes.get_ylim()[0] < 0:
            axes.axhline(0, color=INK, linewidth=0.8)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue().partition("<svg ")[2]
    svg = re.sub(r' id="\w+_\d+"', "", svg)  # a page may have each only once
    names = {value: f"c{index}" for index, value in enumerate(COLOURS)} | {INK: "soft", GRID: "line"}
    svg = re.sub("|".join(names), lambda found: f"var(--{names[found[0]]})", svg)
    ends = [(line.label, *(show(line.points[end][1].value) for end in (0, -1))) for line in lines]
    label = escape(f"{title}: " + "; ".join(f"{name} {first} to {last}" for name, first, last in ends))
    return f'<svg class="plot" role="img" aria-label="{label}" {svg}'


def strip(estimate: Estimate, marks: Iterable[float], low: float, high: float) -> str:
    """An interval among its baselines, ticks at ``marks``; decoration, so it is hidden from screen readers."""

    def x(value: float) -> str:
        return f"{3 + (value - low) / ((high - low) or 1.0) * 94:.1f}%"

    ticks = "".join(f'<line class="mark" x1="{x(m)}" x2="{x(m)}" y1="1" y2="13"/>' for m in marks)
    return (
        '<svg class="strip" aria-hidden="true"><line class="axis" x1="0" x2="100%" y1="7" y2="7"/>'
        f'{ticks}<line class="range" x1="{x(estimate.low)}" x2="{x(estimate.high)}" y1="7" y2="7"/>'
        f'<circle class="value" cx="{x(estimate.value)}" cy="7" r="3.5"/></svg>'
    )


def arrow_svg(down: float, right: float, longest: float = 4.0) -> str:
    """A motion in pixels a frame as an arrow, a dot if there is none; the speed ``longest`` fills the picture."""
    speed = math.hypot(down, right)
    if speed < STILL:
        shape = '<circle r="3.5"/>'
    else:
        angle = math.degrees(math.atan2(down, right))
        tip = (9 + 19 * min(1.0, speed / longest)) / 2
        back = tip - 6
        path = f"M{-tip:.1f} 0H{tip:.1f}M{back:.1f} -4.8L{tip:.1f} 0L{back:.1f} 4.8"
        shape = f'<path transform="rotate({angle:.1f})" d="{path}"/>'
    return (
        f'<svg class="arrow" viewBox="-16 -16 32 32" width="28" height="28" aria-hidden="true">{shape}</svg>'
    )
