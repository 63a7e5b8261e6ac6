"""The action legend: the effect of each action, and the true actions that occur with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from jinn.evaluation.report.charts import arrow_svg
from jinn.evaluation.report.parts import MINUS, scroll, section, show, table, world_title
from jinn.evaluation.results import WorldResults


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
    heads = "<th></th>"
    heads += "".join(f'<th scope="col" class="n">{u}</th>' for u in range(len(world.confusion_AU[0])))
    rows = ""
    for a, counts in enumerate(world.confusion_AU, start=1):
        total = sum(counts) or 1
        cells = "".join(
            f'<td class="n" style="--fraction:{count / total:.3f}">{count or "·"}</td>' for count in counts
        )
        rows += f'<tr><th scope="row" class="n">{a}</th>{cells}</tr>'
    body = scroll(table(heads, rows, "confusion"), f"{world.name}: latent by true actions")
    how = "Frames by latent action (rows) and true action (columns), shaded by the fraction of the row"
    return f'<div><p class="caption">{how}</p>{body}</div>'
