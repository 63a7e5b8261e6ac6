"""Which films show the same, although their bytes differ: encoded anew, or in another container.

Two films are told from each other by how much they differ at the same times, measured against how much each of them
changes in time: films of one game have the same background, and only what moves in them differs.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from jinn.data.images import resize
from jinn.data.writer import StoreWriter

TIMES = 8  # pictures of a film that are compared
GRID = 8  # to which they are averaged, so that what an encoder loses does not matter
ALIKE = 0.5  # a copy differs by less than this fraction of the film's own change; another film by about 1.4
ROUNDING = 0.1  # mean square
LENGTHS = 0.01  # by which fraction the lengths of copies may differ, besides two frames


class Copies:
    """The films of a store, by what they show."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self.spans: dict[
            str, list[tuple[int, int]]
        ] = {}  # first frame and length of the clips of each source
        self.sources: dict[int, list[str]] = defaultdict(list)  # by their number of frames
        self.pictures: dict[str, np.ndarray] = {}  # of the films that were compared so far
        for source, spans in writer.episodes_since(0).items():
            self._put(source, spans)

    def add(self, source: str, first: int) -> str | None:
        """Add the film that was written from this frame of the store on, and return a source that it is a copy of."""
        spans = self.writer.episodes_since(first)[source]
        frames = sum(length for _, length in spans)
        most = 2 + int(LENGTHS * frames)
        near = [name for n in range(frames - most, frames + most + 1) for name in self.sources.get(n, ())]
        self._put(source, spans)
        if not near:
            return None
        own_THWC = self._pictures(source)
        # How bright they are bounds how much they differ, and tells nearly all films from each other at once.
        apart = np.stack([self._pictures(name).mean((1, 2)) for name in near]) - own_THWC.mean((1, 2))
        maybe = np.flatnonzero(np.square(apart).mean((1, 2)) <= _most_apart(own_THWC))
        return next((near[i] for i in maybe if look_alike(own_THWC, self._pictures(near[i]))), None)

    def remove(self, source: str) -> None:
        """Forget a film."""
        self.sources[sum(length for _, length in self.spans.pop(source))].remove(source)

    def _put(self, source: str, spans: list[tuple[int, int]]) -> None:
        self.spans[source] = spans
        self.sources[sum(length for _, length in spans)].append(source)

    def _pictures(self, source: str) -> np.ndarray:
        """float32 ``THWC`` of the sizes `TIMES` and `GRID`."""
        if source not in self.pictures:
            numbers = np.concatenate(
                [np.arange(start, start + length) for start, length in self.spans[source]]
            )
            chosen = numbers[(2 * np.arange(TIMES) + 1) * len(numbers) // (2 * TIMES)]
            small_THWC = resize(self.writer.read(chosen.tolist()), (GRID, GRID), "stretch")
            self.pictures[source] = small_THWC.astype(np.float32)
        return self.pictures[source]


def look_alike(one_THWC: np.ndarray, other_THWC: np.ndarray) -> bool:
    """Whether small pictures (float32) of two films at the same times differ by little of what changes in each."""
    apart = float(np.square(one_THWC - other_THWC).mean())
    return apart <= min(_most_apart(one_THWC), _most_apart(other_THWC))


def _most_apart(pictures_THWC: np.ndarray) -> float:
    """The mean square by which a copy may differ: of a film in which nothing moves, by rounding."""
    change = float(np.square(pictures_THWC - pictures_THWC.mean(0)).mean())
    return max(ROUNDING, ALIKE**2 * change)
