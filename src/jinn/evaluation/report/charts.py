"""Charts as inline SVG: pure functions that make strings. Colours are c0 to c6 of the style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from jinn.evaluation.estimate import Estimate
from jinn.evaluation.report.numbers import MINUS

WIDTH, HEIGHT = 380, 226
LEFT, RIGHT, TOP, BOTTOM = 42, 104, 10, 38
COLOURS = 6
LABEL_GAP = 13  # between the labels of two lines
MOST_POINTS = 400


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: its label, at its end and on hovering.
        colour: 0 is grey, 1 to `COLOURS` are colours.
        points: x, ascending, and its estimate; the interval is shown as a band unless it is empty.
        dashed: whether it is a baseline.
    """

    label: str
    colour: int
    points: Sequence[tuple[float, Estimate]]
    dashed: bool = False


def colour(index: int) -> int:
    """The colour of the ``index``-th line or world."""
    return 1 + index % COLOURS


def limits(lines: Sequence[Line], zero: bool = False) -> tuple[float, float]:
    """The range of values that holds all lines and their bands, and 0 if asked for."""
    ends = [end for line in lines for _, f in line.points for end in (f.low, f.high, f.value)]
    ends = [end for end in ends if math.isfinite(end)] + [0.0] * zero
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def line_chart(
    lines: Sequence[Line],
    title: str,
    x_name: str,
    show: Callable[[float], str],
    y_range: tuple[float, float] | None = None,
    log: bool = False,
    zero: bool = False,
) -> str:
    """A chart of lines with bands, each labelled at its end; hovering shows all values of an x.

    Args:
        lines: at least one, with at least one point each.
        title: title for screen readers.
        x_name: name of the x axis.
        show: formats a value, for hovering.
        y_range: range of the y axis, `limits` by default.
        log: whether the y axis is logarithmic; all values must be positive.
        zero: whether to show a line at 0.
    """
    low, high = y_range or limits(lines, zero)
    if log:
        values = [f.value for line in lines for _, f in line.points]
        low, high = math.log10(min(values)) - 0.03, math.log10(max(values)) + 0.03
    xs = sorted({x for line in lines for x, _ in line.points})
    first, last = xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1

    def across(x: float) -> float:
        return LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        value = math.log10(value) if log else min(max(value, low), high)
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    summary = "; ".join(
        f"{line.label} {show(line.points[0][1].value)} to {show(line.points[-1][1].value)}" for line in lines
    )
    label = escape(f"{title}: {summary}")
    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    parts += _axes(across, up, (first, last), (low, high), x_name, log, zero)
    parts += _curves(lines, across, up)
    wanted = [up(line.points[-1][1].value) for line in lines]
    for line, y in zip(lines, separate(wanted, LABEL_GAP, TOP + 2, HEIGHT - BOTTOM), strict=True):
        text = escape(shorten(line.label))
        parts.append(
            f'<text class="label c{line.colour}" x="{WIDTH - RIGHT + 7}" y="{y + 3.5:.1f}">{text}</text>'
        )
    parts.extend(_hover(lines, xs, across, x_name, show))
    return "".join(parts) + "</svg>"


def _axes(
    across: Callable[[float], float],
    up: Callable[[float], float],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_name: str,
    log: bool,
    zero: bool,
) -> list[str]:
    """Grid, ticks, the name of the x axis, and the line at 0."""
    parts: list[str] = []
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for tick in log_ticks(*y_range) if log else ticks(*y_range):
        y = up(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 3.5:.1f}">{tick_text(tick)}</text>')
    for tick in ticks(*x_range, whole=True):
        x = across(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 16}">{tick_text(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    parts.append(f'<text class="tick mid" x="{(LEFT + right) / 2}" y="{HEIGHT - 6}">{escape(x_name)}</text>')
    if zero:
        parts.append(f'<path class="zero" d="M{LEFT} {up(0):.1f}H{right}"/>')
    return parts


def _curves(
    lines: Sequence[Line], across: Callable[[float], float], up: Callable[[float], float]
) -> list[str]:
    """The bands of all lines, and the lines above them."""
    parts: list[str] = []
    for line in lines:
        if any(f.low < f.high for _, f in line.points):
            edge = [(x, f.high) for x, f in line.points] + [(x, f.low) for x, f in reversed(line.points)]
            corners = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in edge)
            parts.append(f'<path class="band c{line.colour}" d="M{corners}Z"/>')
    for line in lines:
        corners = "L".join(f"{across(x):.1f} {up(f.value):.1f}" for x, f in line.points)
        dashed = " dashed" * line.dashed
        parts.append(f'<path class="line c{line.colour}{dashed}" d="M{corners}"/>')
        if len(line.points) == 1:  # a line of one point would not be seen
            x, f = line.points[0]
            parts.append(
                f'<circle class="dot c{line.colour}" cx="{across(x):.1f}" cy="{up(f.value):.1f}" r="3"/>'
            )
    return parts


def _hover(
    lines: Sequence[Line],
    xs: Sequence[float],
    across: Callable[[float], float],
    x_name: str,
    show: Callable[[float], str],
) -> list[str]:
    """For each x an invisible column whose title lists all values there."""
    found = [dict(line.points) for line in lines]
    borders = [LEFT, *((across(a) + across(b)) / 2 for a, b in pairwise(xs)), WIDTH - RIGHT]
    parts = []
    for i, x in enumerate(xs):
        values = [
            f"{line.label}: {with_interval(points[x], show)}"
            for line, points in zip(lines, found, strict=True)
            if x in points
        ]
        text = escape("\n".join([f"{x_name} {tick_text(x)}", *values]))
        parts.append(
            f'<g class="at"><title>{text}</title><path d="M{across(x):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
            f'<rect x="{borders[i]:.1f}" y="{TOP}" width="{borders[i + 1] - borders[i]:.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/></g>'
        )
    return parts


def with_interval(estimate: Estimate, show: Callable[[float], str]) -> str:
    """An estimate and its interval, which is left out if it is empty."""
    if not estimate.low < estimate.high:
        return show(estimate.value)
    return f"{show(estimate.value)} [{show(estimate.low)}, {show(estimate.high)}]"


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """About ``count`` round numbers within a range: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range given by its logarithms to base ten: 1, 2, 5 or only powers of ten."""
    wide = high - low > 2
    powers = range(math.floor(low), math.ceil(high) + 1)
    numbers = [m * 10.0**p for p in powers for m in ((1,) if wide else (1, 2, 5))]
    numbers = [number for number in numbers if low <= math.log10(number) <= high]
    return numbers[:: 1 + len(numbers) // 8]


def tick_text(tick: float) -> str:
    """A tick as text: thousands as k."""
    if abs(tick) >= 10_000:
        return f"{tick / 1000:g}k"
    return f"{tick:g}".replace("-", MINUS)


def separate(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions at least ``gap`` apart, as little as possible, within [low, high] if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    positions = [min(max(wanted[i], low), high) for i in order]
    for i in range(1, len(positions)):
        positions[i] = max(positions[i], positions[i - 1] + gap)
    for i in reversed(range(len(positions))):
        positions[i] = min(positions[i], high if i == len(positions) - 1 else positions[i + 1] - gap)
    return [y for _, y in sorted(zip(order, positions, strict=True))]


def shorten(text: str, most: int = 17) -> str:
    """A label that fits beside a chart."""
    return text if len(text) <= most else text[: most - 1] + "…"


def thin(points: Sequence[tuple[int, float]], most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """At most ``most`` of the points, evenly spaced, with the first and the last."""
    if len(points) <= most:
        return list(points)
    return [points[i * (len(points) - 1) // (most - 1)] for i in range(most)]


def strip(estimate: Estimate, marks: Sequence[float], low: float, high: float) -> str:
    """An interval among its baselines, ticks at ``marks``; decoration, so it is hidden from screen readers."""

    def x(value: float) -> str:
        return f"{3 + (value - low) / ((high - low) or 1.0) * 94:.1f}%"

    ticks = "".join(f'<line class="mark" x1="{x(m)}" x2="{x(m)}" y1="1" y2="13"/>' for m in marks)
    return (
        '<svg class="strip" aria-hidden="true"><line class="axis" x1="0" x2="100%" y1="7" y2="7"/>'
        f'{ticks}<line class="range" x1="{x(estimate.low)}" x2="{x(estimate.high)}" y1="7" y2="7"/>'
        f'<circle class="value" cx="{x(estimate.value)}" cy="7" r="3.5"/></svg>'
    )


def arrow_svg(down: float, right: float, size: int = 28, longest: float = 4.0, static: float = 0.15) -> str:
    """A motion as an arrow: a dot if there is none, a dash if it is unknown.

    Args:
        down, right: pixels a frame.
        size: side of the picture in pixels.
        longest: the speed whose arrow fills the picture.
        static: the speed below which a dot is shown.
    """
    speed = math.hypot(down, right)
    head = f'<svg class="arrow" viewBox="-16 -16 32 32" width="{size}" height="{size}" aria-hidden="true">'
    if not math.isfinite(speed):
        return head + '<path d="M-5 0H5"/></svg>'
    if speed < static:
        return head + '<circle r="3.5"/></svg>'
    angle = math.degrees(math.atan2(down, right))
    tip = (9 + 19 * min(1.0, speed / longest)) / 2
    back = tip - 6
    path = f"M{-tip:.1f} 0H{tip:.1f}M{back:.1f} -4.8L{tip:.1f} 0L{back:.1f} 4.8"
    return f'{head}<path transform="rotate({angle:.1f})" d="{path}"/></svg>'
