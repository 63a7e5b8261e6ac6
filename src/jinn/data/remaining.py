"""How much of some films is read, in megabytes of their files: a few are long and many short, and time goes by that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate

from jinn.contracts import JinnError
from jinn.data.film import Film
from jinn.data.video import video_seconds


def film_progress(
    films: Sequence[Film], fps: float, progress: Callable[[int, int, str], None]
) -> Callable[[int, int], None]:
    """A function of a film's number and of how many frames of it are read, which tells `progress` how much is done.

    The number of films stands for the end. Within a film its length counts, as far as it says one.
    """
    sizes = [_megabytes(film) for film in films]
    before = [0, *accumulate(sizes)]

    @lru_cache(maxsize=1)
    def frames_of(number: int) -> float:
        files = films[number].files
        if len(files) > 1:
            return len(files)
        with suppress(JinnError):  # what is wrong with a film is said when it is read
            return fps * video_seconds(files[0])
        return 0.0

    def show(number: int, frames: int) -> None:
        if number == len(films):
            return progress(before[-1], before[-1], "videos")
        whole = frames_of(number) if frames and sizes[number] > 1 else 0.0
        part = int(sizes[number] * min(1.0, frames / whole)) if whole else 0
        text = f"{films[number].name} ({frames:,} frames)" if frames else films[number].name
        progress(before[number] + part, before[-1], f"MB, {text}")

    return show


def _megabytes(film: Film) -> int:
    """The size of a film's files, at least 1."""
    with suppress(OSError):
        return max(1, round(sum(file.stat().st_size for file in film.files) / 1e6))
    return 1
