"""Tables: the action legend, and all estimates by section.

The legend has the effect of each action, and the true actions that occur with it. With several worlds, estimates
stand beside their differences from the first world.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from jinn.evaluation.catalogue import DISTANCES, METRICS, SECTIONS, SETS, Metric
from jinn.evaluation.estimate import Estimate
from jinn.evaluation.report.charts import arrow_svg
from jinn.evaluation.report.parts import MINUS, NONE, interval, scroll, section, show, table, world_title
from jinn.evaluation.results import Results, WorldResults


def fastest(worlds: Sequence[WorldResults]) -> float:
    """The speed of the longest arrow, pixels per frame: the same for all worlds, so that arrows compare."""
    speeds = (math.hypot(meant.down, meant.right) for world in worlds for meant in world.legend)
    return max(speeds, default=0.0) or 1.0


def legends(worlds: Sequence[WorldResults]) -> str:
    """The effect of each action, and the true actions that occur with it, world by world."""
    heads = (
        '<th class="n">action</th><th></th><th>name</th><th class="n">fraction of frames</th>'
        '<th class="n">down</th><th class="n">right</th>'
    )
    longest = fastest(worlds)
    body = ""
    for world in worlds:
        rows = ""
        for a, meant in enumerate(world.legend, start=1):
            down, right = (f"{pixels:+.2f}".replace("-", MINUS) for pixels in (meant.down, meant.right))
            rows += (
                f'<tr><td class="n">{a}</td><td>{arrow_svg(meant.down, meant.right, longest)}</td>'
                f'<th scope="row">{escape(meant.name)}</th><td class="n">{show(meant.fraction, "fraction")}'
                f'<span class="bar" style="--fraction:{meant.fraction:.3f}"></span></td>'
                f'<td class="n">{down}</td><td class="n">{right}</td></tr>'
            )
        if rows:
            legend = f'<div class="legend">{table(heads, rows)}{_confusion(world)}</div>'
            body += world_title(world, worlds) + legend
    how = "Names are guesses from the motion in real clips; down and right are mean pixels per frame."
    return section("Action legend", how, body)


def _confusion(world: WorldResults) -> str:
    if not world.confusion_AU:
        return ""
    heads = "".join(f'<th scope="col" class="n">{u}</th>' for u, _ in enumerate(world.confusion_AU[0]))
    rows = ""
    for a, counts in enumerate(world.confusion_AU, start=1):
        total = sum(counts) or 1
        cells = "".join(
            f'<td class="n" style="--fraction:{count / total:.3f}">{count or "·"}</td>' for count in counts
        )
        rows += f'<tr><th scope="row" class="n">{a}</th>{cells}</tr>'
    body = scroll(table(f"<th></th>{heads}", rows, "confusion"), f"{world.name}: latent by true actions")
    how = "Frames by latent action (rows) and true action (columns), shaded by the fraction of the row"
    return f'<div><p class="caption">{how}</p>{body}</div>'


def tables(results: Results) -> str:
    """All estimates, by section."""
    body = ""
    for key, (title, introduction) in SECTIONS.items():
        names = [name for name in results.names() if METRICS[name].section == key]
        if names:
            rows = _distances(results, names) if key == "distances" else _estimates(results, names)
            body += f'<h3>{title}</h3><p class="how">{introduction}</p>{scroll(rows, title)}\n'
    how = "Estimates with their 95% intervals by bootstrap; n is the number of independent samples."
    return section("All metrics", how, body)


def _columns(results: Results) -> list[str]:
    """Heads of the columns: each world, and each world's difference from the first."""
    first, *others = (escape(world.name) for world in results.worlds)
    if not others:
        return ["value"]
    return [first] + [head for other in others for head in (other, f"{other} minus {first}")]


def _cells(results: Results, name: str) -> Iterator[str]:
    """The cells of a metric, in the order of `_columns`."""
    metric = METRICS[name]
    for w, world in enumerate(results.worlds):
        label, text = name, NONE
        if estimate := world.estimates.get(name):
            label += f", n = {estimate.count}"
            text = f"{show(estimate.value, metric.unit)}{_interval(estimate, metric)}"
        yield f'<td class="n" title="{label}">{text}</td>'
        if w > 0:
            difference = results.differences[w - 1].get(name)
            yield f'<td class="n">{_difference(difference, metric) if difference else ""}</td>'


def _interval(estimate: Estimate, metric: Metric, sign: bool = False) -> str:
    return f'<small class="interval">{interval(estimate, metric.unit, sign)}</small>'


def _difference(estimate: Estimate, metric: Metric) -> str:
    """A difference: bold, and in words, where its interval excludes zero."""
    text = show(estimate.value, metric.unit, sign=True)
    if estimate.low <= 0 <= estimate.high:
        words = f"{text} <small>not clear</small>"
    elif not metric.better:
        words = f"<b>{text}</b> <small>differs</small>"
    else:
        verdict = "better" if (estimate.value > 0) == (metric.better == "higher") else "worse"
        words = f'<b>{text}</b> <small class="{verdict}">{verdict}</small>'
    return words + _interval(estimate, metric, sign=True)


def _estimates(results: Results, names: list[str]) -> str:
    """A row for each estimate."""
    heads = "".join(f'<th scope="col" class="n">{head}</th>' for head in [*_columns(results), "n"])
    rows = ""
    for name in names:
        metric = METRICS[name]
        better = f" <em>{metric.better.capitalize()} is better.</em>" if metric.better else ""
        found = (world.estimates.get(name) for world in results.worlds)
        counts = " / ".join(dict.fromkeys(str(estimate.count) for estimate in found if estimate))
        cells = "".join(_cells(results, name))
        code = name.replace("/", "/<wbr>")  # where it may break on a phone
        head = f'<th scope="row"><code>{code}</code><p>{metric.text}.{better}</p></th>'
        rows += f'<tr>{head}{cells}<td class="n">{counts}</td></tr>'
    kind = "metrics" if len(results.worlds) == 1 else "metrics several"
    return table(f'<th scope="col">metric</th>{heads}', rows, kind)


def _distances(results: Results, names: list[str]) -> str:
    """A row for each kind of distance, or several, one for each world; a column for each set of clips."""
    kinds = dict.fromkeys(name.partition("/")[0] for name in names)
    found = {name.partition("/")[2] for name in names}
    sets = [name for name in SETS if name in found]
    heads = "".join(f'<th scope="col" class="n">{SETS[name]}</th>' for name in sets)
    rows = ""
    for kind in kinds:
        text = f"<code>{kind}</code><p>{DISTANCES[kind][1]}.</p>"
        labels = [text]
        if len(results.worlds) > 1:
            rows += f'<tr><th scope="rowgroup" colspan="{len(sets) + 1}">{text}</th></tr>'
            labels = _columns(results)
        cells = zip(*(_cells(results, f"{kind}/{s}") for s in sets), strict=True)
        for label, row in zip(labels, cells, strict=True):
            rows += f'<tr><th scope="row">{label}</th>{"".join(row)}</tr>'
    return table(f"<th></th>{heads}", rows, "metrics distances")
