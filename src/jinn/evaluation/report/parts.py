"""Pieces of HTML that several sections are made of."""

from __future__ import annotations

from html import escape

from jinn.evaluation.estimate import Estimate
from jinn.evaluation.report import numbers


def section(title: str, how: str, body: str) -> str:
    """A section of the page, or nothing if it has no body."""
    how = f'<p class="how">{how}</p>' if how else ""
    return f'<section id="{anchor(title)}"><h2>{title}</h2>{how}\n{body}</section>\n' if body else ""


def anchor(title: str) -> str:
    """The anchor of a section, for links to it."""
    return title.lower().replace(" ", "-").replace(",", "")


def scroll(body: str, label: str) -> str:
    """Something wide, in a box of its own that scrolls; also by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{body}</div>'


def table(head: str, rows: str, kind: str = "") -> str:
    """A table of the class ``kind``, of a row of head cells and rows."""
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def interval(estimate: Estimate, unit: str, sign: bool = False) -> str:
    """An interval in brackets; nothing if it is empty."""
    if not estimate.low < estimate.high:
        return ""
    # The unit stands with the value; a percent sign is short enough to stay.
    low, high = (numbers.show(end, unit, sign).split(" ")[0] for end in (estimate.low, estimate.high))
    return f"[{low}, {high}]"
