"""Charts as inline SVG: pure functions that make strings. Colours are c0 to c6 of the style."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from jinn.evaluation.estimate import Estimate
from jinn.evaluation.report.parts import MINUS

WIDTH, HEIGHT = 380, 226
LEFT, RIGHT, TOP, BOTTOM = 42, WIDTH - 104, 10, HEIGHT - 38  # edges of the plot
COLOURS = 6
LABEL_GAP = 13  # between the labels of two lines
MOST_LETTERS = 17  # of a label
MOST_POINTS = 400
STILL = 0.15  # pixels a frame: a slower motion is shown as a dot


@dataclass(frozen=True)
class Line:
    """A line of a chart, labelled at its end and on hovering.

    Attributes:
        colour: 0 is grey, 1 to `COLOURS` are colours.
        points: x, ascending, and its estimate; the interval is shown as a band unless it is empty.
        dashed: whether it is a baseline.
    """

    label: str
    colour: int
    points: Sequence[tuple[float, Estimate]]
    dashed: bool = False


@dataclass(frozen=True)
class Axes:
    """The ranges of a chart, of y as logarithms to base ten if ``log``; `across` and `up` map values to pixels."""

    first: float
    last: float
    low: float
    high: float
    log: bool

    def across(self, x: float) -> float:
        return LEFT + (x - self.first) / (self.last - self.first) * (RIGHT - LEFT)

    def up(self, y: float) -> float:
        y = math.log10(y) if self.log else min(max(y, self.low), self.high)
        return BOTTOM - (y - self.low) / (self.high - self.low) * (BOTTOM - TOP)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.across(x):.1f} {self.up(y):.1f}" for x, y in points)


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


def by_x(lines: Sequence[Line]) -> dict[float, list[Estimate | None]]:
    """For each x, ascending, the estimates of all lines there, None where a line has none."""
    found = [dict(line.points) for line in lines]
    xs = sorted({x for points in found for x in points})
    return {x: [points.get(x) for points in found] for x in xs}


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

    There is at least one line, with at least one point each. Screen readers read the title, ``show`` formats values for
    hovering, ``y_range`` is `limits` by default, a ``log`` axis needs positive values, and ``zero`` shows a line at 0.
    """
    low, high = y_range or limits(lines)
    if log:
        values = [f.value for line in lines for _, f in line.points]
        low, high = math.log10(min(values)) - 0.03, math.log10(max(values)) + 0.03
    xs = by_x(lines).keys()
    first, last = min(xs), max(xs)
    axes = Axes(first, max(last, first + 1), low, high, log)
    ends = [(line.points[0][1].value, line.points[-1][1].value) for line in lines]
    summary = "; ".join(
        f"{line.label} {show(begin)} to {show(end)}" for line, (begin, end) in zip(lines, ends, strict=True)
    )
    label = escape(f"{title}: {summary}")
    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    parts += _grid(axes, x_name, zero)
    parts += _curves(lines, axes)
    places = separate([axes.up(end) for _, end in ends], LABEL_GAP, TOP + 2, BOTTOM)
    for line, y in zip(lines, places, strict=True):
        text = line.label if len(line.label) <= MOST_LETTERS else line.label[: MOST_LETTERS - 1] + "…"
        place = f'x="{RIGHT + 7}" y="{y + 3.5:.1f}"'
        parts.append(f'<text class="label c{line.colour}" {place}>{escape(text)}</text>')
    parts += _hover(lines, axes, x_name, show)
    return "".join(parts) + "</svg>"


def _grid(axes: Axes, x_name: str, zero: bool) -> Iterator[str]:
    """Grid, ticks, the name of the x axis, and the line at 0."""
    for tick in log_ticks(axes.low, axes.high) if axes.log else ticks(axes.low, axes.high):
        y = axes.up(tick)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
        yield f'<text class="tick end" x="{LEFT - 6}" y="{y + 3.5:.1f}">{tick_text(tick)}</text>'
    for tick in ticks(axes.first, axes.last, whole=True):
        x = axes.across(tick)
        yield f'<path class="axis" d="M{x:.1f} {BOTTOM}v4"/>'
        yield f'<text class="tick mid" x="{x:.1f}" y="{BOTTOM + 16}">{tick_text(tick)}</text>'
    yield f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>'
    yield f'<text class="tick mid" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}">{escape(x_name)}</text>'
    if zero:
        yield f'<path class="zero" d="M{LEFT} {axes.up(0):.1f}H{RIGHT}"/>'


def _curves(lines: Sequence[Line], axes: Axes) -> Iterator[str]:
    """The bands of all lines, and the lines above them."""
    for line in lines:
        if any(f.low < f.high for _, f in line.points):
            edge = [(x, f.high) for x, f in line.points] + [(x, f.low) for x, f in reversed(line.points)]
            yield f'<path class="band c{line.colour}" d="{axes.path(edge)}Z"/>'
    for line in lines:
        points = [(x, f.value) for x, f in line.points]
        yield f'<path class="line c{line.colour}{" dashed" * line.dashed}" d="{axes.path(points)}"/>'
        if len(points) == 1:  # a line of one point would not be seen
            x, y = axes.across(points[0][0]), axes.up(points[0][1])
            yield f'<circle class="dot c{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _hover(lines: Sequence[Line], axes: Axes, x_name: str, show: Callable[[float], str]) -> Iterator[str]:
    """For each x an invisible column whose title lists all values there."""
    values = by_x(lines)
    borders = [LEFT, *(axes.across((a + b) / 2) for a, b in pairwise(values)), RIGHT]
    for (x, found), (start, end) in zip(values.items(), pairwise(borders), strict=True):
        texts = [f"{x_name} {tick_text(x)}"]
        texts += [
            f"{line.label}: {with_interval(f, show)}" for line, f in zip(lines, found, strict=True) if f
        ]
        title = escape("\n".join(texts))
        yield f'<g class="at"><title>{title}</title><path d="M{axes.across(x):.1f} {TOP}V{BOTTOM}"/>'
        yield f'<rect x="{start:.1f}" y="{TOP}" width="{end - start:.1f}" height="{BOTTOM - TOP}"/></g>'


def with_interval(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    """An estimate and its interval, which is left out if it is empty; nothing for None."""
    if estimate is None:
        return ""
    if not estimate.low < estimate.high:
        return show(estimate.value)
    return f"{show(estimate.value)} [{show(estimate.low)}, {show(estimate.high)}]"


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """About five round numbers within a range: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


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
    positions = list(wanted)
    order = sorted(range(len(positions)), key=positions.__getitem__)
    for i in order:
        positions[i] = max(positions[i], low)
        low = positions[i] + gap
    for i in reversed(order):
        positions[i] = min(positions[i], high)
        high = positions[i] - gap
    return positions


def thin(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """At most `MOST_POINTS` of the points, evenly spaced, with the first and the last."""
    if len(points) <= MOST_POINTS:
        return points
    return [points[i * (len(points) - 1) // (MOST_POINTS - 1)] for i in range(MOST_POINTS)]


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
