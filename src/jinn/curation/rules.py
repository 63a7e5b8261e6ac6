"""Which clips are left out, and why: rules on what was measured, copies, and the classifier's probability."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from jinn.curation.clip import Row
from jinn.curation.duplicates import find_duplicates
from jinn.data.changes import STILL

COPY = "it shows the same as another clip"
BAD = "the classifier finds it bad"


@dataclass(frozen=True)
class Rules:
    """What a clip must be like to be kept; the fields are those of `jinn.curation.clip.Row`.

    Attributes:
        motion: Grey levels that must change from frame to frame.
        black: Fraction of the frames that may be black.
        letterbox: Fraction of the picture that black bars may take.
        overlay: Fraction of the picture that what frames the game may take; the lines of a score take less.
        score: Probability of being good that a classifier must give, where there is one.
    """

    motion: float = STILL
    black: float = 0.1
    letterbox: float = 0.1
    overlay: float = 0.4
    score: float = 0.5


def why_not(row: Row, rules: Rules | None = None) -> str:
    """The sentence why a clip is left out by what was measured, empty where it is not."""
    rules = rules or Rules()
    if row.motion is None:
        return row.reason  # a film without clips
    reasons = {
        "much of it is black": row.black is not None and row.black > rules.black,
        "hardly anything moves": row.motion < rules.motion,
        "it has black bars": row.letterbox is not None and row.letterbox > rules.letterbox,
        "a still frame surrounds the game": row.overlay is not None and row.overlay > rules.overlay,
    }
    return next((sentence for sentence, holds in reasons.items() if holds), "")


def decide(rows: Sequence[Row], rules: Rules | None = None) -> list[Row]:
    """The rows in the order of films and times, each with its reason; of copies the first is kept.

    The classifier comes last: it need not be asked about copies, and those of a clip that it finds bad are no better.
    """
    rules = rules or Rules()
    rows = sorted(rows, key=lambda row: (row.file, row.start))
    rows = [dataclasses.replace(row, reason=why_not(row, rules)) for row in rows]
    kept = [number for number, row in enumerate(rows) if not row.reason]
    for copy in find_duplicates([rows[number].hash for number in kept]):
        rows[kept[copy]] = dataclasses.replace(rows[kept[copy]], reason=COPY)
    return [
        dataclasses.replace(row, reason=BAD)
        if not row.reason and row.score is not None and row.score < rules.score
        else row
        for row in rows
    ]


def summary_of(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows have each reason, the most frequent first."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.reason] = counts.get(row.reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
