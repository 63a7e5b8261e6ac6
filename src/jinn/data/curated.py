"""Parts of films, such as the clips that ``jinn curate`` kept: its folder is a source, and no film is stored twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.data.clock import Warn
from jinn.data.film import Film, file_hash, short_hash
from jinn.data.images import Resize
from jinn.data.video import VideoError, video_frames

CLIPS = "clips.parquet"  # the table in the folder of a curation


@dataclass(frozen=True, eq=False, kw_only=True)
class FilmPart(Film):
    """Some seconds of a video file.

    Attributes:
        start: Seconds by the film's clock, which begins at 0 in nearly all films.
        seconds: Length.
    """

    start: float
    seconds: float

    @property
    def part(self) -> str:
        return f"{self.start:.3f} {self.seconds:.3f}"

    def content_hash(self) -> str:
        return short_hash(file_hash(self.files[0]) + self.part.encode())

    def group(self, content: str) -> str:
        """All parts of a film share a split."""
        return super().content_hash()

    def frames(self, fps: float, to_size: Resize, warn: Warn) -> Iterator[tuple[int, np.ndarray]]:
        return video_frames(self.files[0], fps, to_size, warn, (self.start, self.start + self.seconds))


def find_parts(folder: Path, name: str) -> tuple[list[Film], list[tuple[str, str]]]:
    """The clips that a curation kept, and (name, reason) of what cannot be read of it.

    Args:
        folder: Of the curation, with a file `CLIPS`.
        name: To show.

    Raises:
        JinnError: pyarrow is not installed.
    """
    try:
        columns = ["file", "start", "seconds", "reason"]
        rows = parquet().read_table(folder / CLIPS, columns=columns).to_pylist()
        kept = [(Path(row["file"]), row["start"], row["seconds"]) for row in rows if not row["reason"]]
    except JinnError:
        raise
    except Exception as error:  # pyarrow raises errors of all kinds for damaged files
        return [], [(name, str(VideoError(f"its {CLIPS} cannot be read ({error}): curate the videos again")))]
    return [
        FilmPart(name=f"{file.name} {start:.1f}s", files=(file,), start=start, seconds=seconds)
        for file, start, seconds in kept
    ], []


def parquet() -> Any:
    """The module of pyarrow; `JinnError` where it is not installed."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise JinnError("a table of clips needs pyarrow: run pip install 'jinn[datasets]'") from error
    return parquet
