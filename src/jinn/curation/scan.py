"""A film -> rows of its clips, each within one shot and measured; the film is decoded once and never held whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from jinn.curation.clip import Row
from jinn.curation.duplicates import TIMES, clip_hash
from jinn.curation.measures import measure
from jinn.curation.probe import Keywords, Probe, probe
from jinn.curation.shots import THRESHOLD, scored
from jinn.data.film import read_film
from jinn.data.video import VideoError
from jinn.errors import JinnError

T = TypeVar("T")

SIZE_HW = (72, 128)  # at which films are measured, the whole picture without regard to its shape

NO_TITLE = "its title has none of the words that are looked for, or one that is not wanted"
NO_CLIP = "it has no shot that is as long as a clip"


@dataclass(frozen=True)
class ScanConfig:
    """How films become clips.

    Attributes:
        clip_seconds: Length of a clip; the paper has 16.
        fps: Frames per second that are looked at; the paper has 10.
        keywords: Words that titles must have, see `Keywords`; None takes all films.
    """

    clip_seconds: float = 16.0
    fps: float = 10.0
    keywords: Keywords | None = None

    def __post_init__(self) -> None:
        if not (self.fps > 0 and self.frames >= TIMES):
            raise JinnError(
                f"clips of {self.clip_seconds:g} seconds at {self.fps:g} frames a second have fewer than {TIMES} "
                "frames: choose longer ones"
            )

    @property
    def frames(self) -> int:
        """Of a clip."""
        return round(self.clip_seconds * self.fps)


@dataclass
class Scan:
    """What came of a film.

    Attributes:
        rows: Of its clips, or one that says why it has none.
        problem: Why the film could not be read to its end, empty where it could.
        seconds: Of film that was looked at.
        spent: Seconds of one core by stage.
    """

    rows: list[Row]
    problem: str = ""
    seconds: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)


def scan(path: str | Path, config: ScanConfig | None = None) -> Scan:
    """Look at a whole film.

    A film that cannot be read, or only in part, is no error: what was read is kept, and `Scan.problem` says what is
    wrong. Behind a damaged place, or a jump of its clock, nothing is read, because the times of clips are not known.

    Raises:
        JinnError: A package that this needs is not installed.
    """
    config, path = config or ScanConfig(), Path(path)
    found, timer = Scan([]), Timer()
    facts, why = None, NO_CLIP
    try:
        facts = timer.of("probe", partial(probe, path))
        if config.keywords is None or config.keywords.accept(facts.title):
            found.rows.extend(_clips(path, facts, config, timer, found))
        else:
            why = NO_TITLE
    except OSError as error:
        found.problem = f"it cannot be read ({error.strerror})"
    except VideoError as error:
        found.problem = str(error)
    if not found.rows:
        found.rows.append(_without_clips(path, facts, found.problem or why))
    found.spent = timer.spent
    return found


def _without_clips(path: Path, facts: Probe | None, reason: str) -> Row:
    if facts is None:
        return Row(str(path), size_of(path), 0.0, 0.0, path.stem, reason=reason)
    return Row(str(path), facts.size, 0.0, facts.facts.seconds, facts.title, reason=reason)


def size_of(path: Path) -> int:
    """Bytes of a file, -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _clips(path: Path, facts: Probe, config: ScanConfig, timer: Timer, found: Scan) -> Iterator[Row]:
    chunks = timer.each("decode", _first_piece(path, config.fps, found))
    for first, cut, frames_THWC in within_shots(timer.each("cuts", scored(chunks)), config.frames):
        start = facts.facts.begin + first / config.fps
        row = Row(str(path), facts.size, round(start, 3), config.clip_seconds, facts.title, cut=round(cut, 4))
        measures = timer.of("measures", partial(measure, frames_THWC))
        digits = timer.of("hash", partial(clip_hash, frames_THWC))
        yield replace(row, hash=digits, **asdict(measures))


def _first_piece(path: Path, fps: float, found: Scan) -> Iterator[np.ndarray]:
    """The frames of a film up to the first place where some are missing."""
    try:
        for piece, chunk_THWC in read_film(path, fps, SIZE_HW, fit="stretch"):
            if piece:
                found.problem = f"behind {found.seconds:.1f} seconds it is damaged, or its clock jumps"
                return
            found.seconds += len(chunk_THWC) / fps
            yield chunk_THWC
    except VideoError as error:  # what was read before it is looked at
        found.problem = str(error)


def within_shots(
    scored_chunks: Iterable[tuple[np.ndarray, np.ndarray]], length: int, threshold: float = THRESHOLD
) -> Iterator[tuple[int, float, np.ndarray]]:
    """Clips of a film, one behind another within each shot; what is left of a shot is in none.

    The frames at a cut are in none either: at the film's own rate, the cut may lie up to a frame beside.

    Args:
        scored_chunks: Frames and their `jinn.curation.shots.cut_scores`.
        length: Frames of a clip.
        threshold: The score from which on a frame is the last of its shot, or a part of a fade.

    Yields:
        The number of the first frame, the highest score in the clip, and its frames, uint8 ``THWC``.
    """
    frames: list[np.ndarray] = []
    scores: list[float] = []
    number, skip = 0, False
    for chunk_THWC, scores_T in scored_chunks:
        for frame_HWC, score in zip(chunk_THWC, scores_T.tolist(), strict=True):
            number += 1
            if score > threshold or skip:
                frames, scores, skip = [], [], score > threshold
                continue
            frames.append(frame_HWC)
            scores.append(score)
            if len(frames) == length:
                yield number - length, max(scores), np.stack(frames)
                frames, scores = [], []


class Timer:
    """Counts the seconds of the processor that the stages of a film take, each without those inside it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inside = [0.0]

    def of(self, stage: str, call: Callable[[], T]) -> T:
        """What a function returns."""
        began = time.process_time()
        self._inside.append(0.0)
        try:
            return call()
        finally:
            took = time.process_time() - began
            self.spent[stage] = self.spent.get(stage, 0.0) + took - self._inside.pop()
            self._inside[-1] += took

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items, whose making is counted."""
        iterator = iter(items)
        with suppress(StopIteration):
            while True:
                yield self.of(stage, partial(next, iterator))
