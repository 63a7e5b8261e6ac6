"""Ratings of clips by people, from 1 to 5: the file they are kept in, who rates what next, and how far people agree.

The file has a line of JSON for each rating and only ever grows. A line is on the disk before its rating counts as
given, and what a process leaves that is killed while it writes is no whole line, so it is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jinn.errors import JinnError
from jinn.files import from_dict, named

RATINGS = "ratings.jsonl"  # in the folder of a curation
LEVELS = 5  # ratings are 1, the worst, to 5, the best
MAX_PERSON = 40  # characters of a name

# The rating of each clip by each person.
ByClip = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Rating:
    """What a person said of a clip.

    Attributes:
        clip: `jinn.curation.clip.Clip.name`.
        person: Who.
        rating: 1 to 5; None: they took back what they said before.
        time: When, seconds since 1970.
    """

    clip: str
    person: str
    rating: int | None
    time: float

    def __post_init__(self) -> None:
        if self.rating is not None and not 1 <= self.rating <= LEVELS:
            raise JinnError(f"a rating is 1 to {LEVELS}, and not {self.rating}")
        if not (self.person.isprintable() and 0 < len(self.person.strip()) == len(self.person) <= MAX_PERSON):
            raise JinnError(f"a person's name has 1 to {MAX_PERSON} characters, and no space at its ends")


def add_rating(folder: Path, rating: Rating) -> None:
    """Add a rating to the file in a folder; it is on the disk when this returns.

    Several processes may do so at once: each line is written by one call, behind all that there is.
    """
    path = folder / RATINGS
    line = json.dumps(asdict(rating), ensure_ascii=False).encode() + b"\n"
    with named(path), path.open("ab+", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # somebody was killed in the middle of a line
                line = b"\n" + line
        file.write(line)
        os.fsync(file.fileno())


def read_ratings(folder: Path) -> list[Rating]:
    """All ratings in the file of a folder, the oldest first; none if there is no file.

    Raises:
        JinnError: A line is whole and yet no rating.
    """
    path = folder / RATINGS
    lines = path.read_bytes().splitlines() if path.exists() else []
    ratings = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except ValueError:
            continue  # what was left by a process that was killed
        try:
            ratings.append(from_dict(Rating, values))
        except (JinnError, TypeError, AttributeError) as error:
            raise JinnError(
                f"line {number} of {path} is no rating ({error}): mend it, or take the line out"
            ) from None
    return ratings


def latest(ratings: Iterable[Rating]) -> ByClip:
    """The rating of each clip by each person: their last one, unless they took it back."""
    by_clip: ByClip = {}
    for rating in ratings:
        people = by_clip.setdefault(rating.clip, {})
        people.pop(rating.person, None)
        if rating.rating is not None:
            people[rating.person] = rating.rating
    return {clip: people for clip, people in by_clip.items() if people}


def waiting(clips: Sequence[str], by_clip: ByClip, person: str) -> list[str]:
    """The clips that a person has not rated, in the order in which they should.

    Those that few others have rated come first. Among these the order is random, but always the same for a person, so
    people who rate at the same time begin with different clips.
    """

    def order(clip: str) -> tuple[int, bytes]:
        chance = hashlib.blake2b(f"{person}\n{clip}".encode(), digest_size=8).digest()
        return len(by_clip.get(clip, {})), chance

    return sorted((clip for clip in clips if person not in by_clip.get(clip, {})), key=order)


def agreement(by_clip: ByClip) -> float | None:
    """Krippendorff's alpha for ordinal ratings: 1 where people agree, 0 where they do as by chance, less where worse.

    Of the usual measures it is the one for any number of people who each rated some of the clips. Weighted kappa is for
    two who both rated all. A disagreement counts by how many of the ratings lie between the two levels.

    Returns:
        None where no clip has two ratings, or all of these are the same: nothing can be said then.
    """
    shared = [people for people in by_clip.values() if len(people) > 1]
    counts = np.zeros((len(shared), LEVELS))  # of each clip, how many ratings have each level
    for row, people in zip(counts, shared, strict=True):
        for rating in people.values():
            row[rating - 1] += 1
    weighted = counts / (counts.sum(1, keepdims=True) - 1)
    coincidences = weighted.T @ counts - np.diag(weighted.sum(0))
    totals = coincidences.sum(1)
    # Of levels c and k: how many ratings lie between them, with half of those at the two ends.
    middle = np.cumsum(totals) - totals / 2
    distances = (middle[:, None] - middle[None]) ** 2
    expected = (np.outer(totals, totals) * distances).sum() / max(totals.sum() - 1, 1)
    return float(1 - (coincidences * distances).sum() / expected) if expected else None


def labels(by_clip: ByClip) -> dict[str, bool]:
    """Whether each clip is good, by the paper's rule: 5 is good, 1 is bad, and what is between is left out.

    Of several people's ratings the median counts.
    """
    medians = {clip: float(np.median(list(people.values()))) for clip, people in by_clip.items()}
    return {clip: median == LEVELS for clip, median in medians.items() if median in (1, LEVELS)}
