"""A clip, and the table of all clips of a curation: one row for each, with what was measured and why it is left out."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.curated import CLIPS, FilmPart, parquet
from jinn.data.film import read_film
from jinn.data.video import VideoError
from jinn.files import replacing


@dataclass(frozen=True)
class Clip:
    """Some seconds of a film.

    Attributes:
        file: Path of the film.
        start: Seconds by the film's clock, which begins at 0 in nearly all films.
        seconds: Length.
    """

    file: str
    start: float
    seconds: float

    @property
    def name(self) -> str:
        """A stable id that can name a file: 12 hexadecimal digits.

        It is a hash of the name of the film, not of its folder, and of the start in milliseconds.
        """
        place = os.fsencode(Path(self.file).name) + f"@{round(1000 * self.start)}".encode()
        return hashlib.blake2b(place, digest_size=6).hexdigest()


@dataclass(frozen=True)
class Row:
    """A clip in the table, or a whole film that has none; then `reason` says why, and nothing is measured.

    Attributes:
        file: Absolute path of the film.
        size: Bytes of the film when it was read: one that has grown is read again.
        start, seconds: As of `Clip`.
        title: Of the film.
        motion: Mean difference of neighbouring frames, grey levels of 255.
        black: Fraction of the frames that are black.
        letterbox: Fraction of the picture that black bars take.
        overlay: Fraction of the picture without the bars that frames what moves and does not move itself.
        cut: The strongest sign of a cut inside the clip, in the unit of `jinn.curation.shots`.
        hash: Hexadecimal digits that nearly agree for clips that show the same, see `jinn.curation.duplicates`.
        score: Probability that the clip is good, from 0 to 1, where a classifier was given.
        reason: Empty where the clip is kept, else the sentence why not.
    """

    file: str
    size: int
    start: float
    seconds: float
    title: str
    motion: float | None = None
    black: float | None = None
    letterbox: float | None = None
    overlay: float | None = None
    cut: float | None = None
    hash: str = ""
    score: float | None = None
    reason: str = ""

    @property
    def clip(self) -> Clip:
        return Clip(self.file, self.start, self.seconds)


def read_clip(clip: Clip, fps: float = 10.0, size_hw: tuple[int, int] = (90, 160)) -> np.ndarray:
    """The frames of a clip, decoded and resized as of all films (`jinn.data.film.read_film`).

    Args:
        clip: Which part of which film.
        fps: Frames per second.
        size_hw: Height and width, pixels; the middle of other shapes is cropped.

    Returns:
        uint8 ``THWC`` with T = ``round(seconds * fps)``, at least 1. Where the rate of the film leaves out the last of
        them, the frame before is repeated.

    Raises:
        VideoError: The film cannot be read, or is damaged in this part or shorter.
        JinnError: PyAV is not installed.
    """
    path = Path(clip.file)
    part = FilmPart(name=path.name, files=(path,), start=clip.start, seconds=clip.seconds)
    chunks = []
    for piece, chunk_THWC in read_film(part, fps, size_hw):
        if piece:
            raise VideoError(f"{path.name} is damaged behind {clip.start:.1f} seconds")
        chunks.append(chunk_THWC)
    if not chunks:
        raise VideoError(f"{path.name} has no pictures behind {clip.start:.1f} seconds")
    frames_THWC = np.concatenate(chunks)
    # The span ends between two pictures, so there may be one frame too many or too few.
    wanted = max(1, round(clip.seconds * fps))
    missing = max(0, wanted - len(frames_THWC))
    return np.concatenate([frames_THWC[:wanted], frames_THWC[-1:].repeat(missing, axis=0)])


def read_clips(folder: str | Path) -> list[Row]:
    """The rows of a curation's table.

    Raises:
        JinnError: There is none, it is damaged or of another version, or pyarrow is not installed.
    """
    return read_table(Path(folder) / CLIPS)


def write_clips(folder: str | Path, rows: Sequence[Row]) -> None:
    """Write the table of a curation into its folder, which is made; the old one stays until the new one is whole."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_table(Path(folder) / CLIPS, rows)


def read_table(path: Path) -> list[Row]:
    """Rows in a file of Parquet; errors are those of `read_clips`."""
    fields = [field.name for field in dataclasses.fields(Row)]
    try:
        return [Row(**values) for values in parquet().read_table(path, columns=fields).to_pylist()]
    except JinnError:
        raise
    except FileNotFoundError:
        raise JinnError(f"there is no {path}: make it with jinn curate") from None
    except Exception as error:  # pyarrow raises errors of all kinds for damaged files
        raise JinnError(f"{path} cannot be read ({error}): curate the videos again") from error


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as Parquet, under a temporary name first."""
    write = parquet().write_table
    import pyarrow as pa  # once `parquet` has said whether it is installed

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "float | None": pa.float64()}
    schema = pa.schema([(field.name, kinds[str(field.type)]) for field in dataclasses.fields(Row)])
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    with replacing(path) as temporary:
        write(pa.table(columns, schema=schema), temporary)
