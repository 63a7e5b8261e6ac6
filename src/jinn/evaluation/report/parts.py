"""Pieces that several sections are made of: numbers as text, with as many digits as help, and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from jinn.evaluation.estimate import Estimate
from jinn.evaluation.results import WorldResults

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"


def show(value: float, unit: str, sign: bool = False) -> str:
    """A number with its unit, a `jinn.evaluation.catalogue.Unit`; with ``sign`` as a difference."""
    if not math.isfinite(value):
        return NONE
    plus = "+" if sign else ""
    if unit == "fraction":
        text = f"{100 * value:{plus}.1f}" + (" points" if sign else "%")
    elif unit == "score":
        text = f"{value:{plus}.3f}"
    elif unit in ("dB", "bits", "count"):
        text = f"{value:{plus},.{2 if unit == 'dB' else 1}f}" + (f" {unit}" if unit != "count" else "")
    else:
        text = f"{value:{plus},.0f}" if abs(value) >= 99.95 else f"{value:{plus}#.3g}"
    return text.replace("-", MINUS)


def interval(estimate: Estimate, unit: str, sign: bool = False) -> str:
    """An interval in brackets; nothing if it is empty."""
    if not estimate.low < estimate.high:
        return ""
    # The unit stands with the value; a percent sign is short enough to stay.
    low, high = (show(end, unit, sign).split(" ")[0] for end in (estimate.low, estimate.high))
    return f"[{low}, {high}]"


def section(title: str, how: str, body: str) -> str:
    """A section of the page, or nothing if it has no body."""
    anchor = title.lower().replace(" ", "-").replace(",", "")
    how = f'<p class="how">{how}</p>' if how else ""
    return f'<section id="{anchor}"><h2>{title}</h2>{how}\n{body}</section>\n' if body else ""


def scroll(body: str, label: str) -> str:
    """Something wide, in a box of its own that scrolls; also by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{body}</div>'


def table(head: str, rows: str, kind: str = "") -> str:
    """A table of the class ``kind``, of a row of head cells and rows."""
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def world_title(world: WorldResults, worlds: Sequence[WorldResults]) -> str:
    """The name of a world over what is shown of it, unless it is the only one."""
    return f"<h3>{escape(world.name)}</h3>" if len(worlds) > 1 else ""
