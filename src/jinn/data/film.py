"""What a film is: one source of clips, whatever its format; and how one is read.

`Film` itself is a video file, or numbered pictures. Each other format is a file with a subclass and with a function
that finds such films: arrays.py, lerobot.py and minari.py. A new one says which part of its files a film is, yields
that film's pictures, and has its line in `find_films`.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jinn.contracts import JinnError
from jinn.data.clock import Warn, steady
from jinn.data.images import Fit, Resize, on_white, resize
from jinn.data.pictures import open_picture, picture_frames, to_rgba, webp_frames
from jinn.data.video import VideoError, video_frames

if TYPE_CHECKING:
    from jinn.data.action_codes import ActionCodes

CHUNK = 256  # frames yielded at once
CHUNK_BYTES = 2**25  # but no more than this
LEFT_OUT = (
    "its actions are continuous and are left out: --action-codes 16 keeps them as sixteen discrete ones"
)


@dataclass(frozen=True, eq=False)
class Film:
    """One source of clips: a video in any format that FFmpeg decodes, an animated WebP, or pictures in their order.

    Attributes:
        name: To show, and to keep in the store.
        files: One video, or several pictures in their order; of subclasses what they are read from.
        fps: Pictures a second, where the files do not say when each is displayed. None makes a frame of each picture.
        num_actions: Number of different actions that `actions` may return; 0 where it returns none.
        notes: What a user should know of it.
        action_names: A name for each action, None where nobody says.
        value_names: A name for each value of a continuous action, None where nobody says.
        codes: What its continuous actions become, None if they are left out.
    """

    name: str
    files: tuple[Path, ...]
    fps: float | None = None
    num_actions: int = 0
    notes: tuple[str, ...] = ()
    action_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    value_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    codes: ActionCodes | None = field(default=None, kw_only=True)

    @property
    def part(self) -> str:
        """Which part of its files it is, where they hold several films."""
        return ""

    @property
    def place(self) -> str:
        """A hash of where the film lies: a file that changed, or grew, is still the same film."""
        return short_hash(os.fsencode(self.files[0].resolve()) + self.part.encode())

    def content_hash(self) -> str:
        """A hash of all bytes: the same wherever the film lies and whatever its name is; `OSError`, `VideoError`."""
        return short_hash(b"".join(file_hash(path) for path in self.files))

    def group(self, content: str) -> str:
        """Name of the films that share a split with this one, such as other cameras; `content` is its own hash."""
        return content

    def frames(self, fps: float, to_size: Resize, warn: Warn) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of the clip and the frame, uint8 HWC; as of `read_film`."""
        if len(self.files) > 1:
            return picture_frames(self.files, self.fps, fps, to_size, warn)
        if self.files[0].suffix.lower() == ".webp":
            return webp_frames(self.files[0], fps, to_size, warn)
        return video_frames(self.files[0], fps, to_size, warn)

    def actions(self) -> np.ndarray | None:
        """True actions, int ``(T,)`` in ``[0, num_actions)``, one for each picture; None where there are none.

        Entry t leads from picture t to picture t + 1, the last is ignored.
        """
        return None

    def values(self) -> np.ndarray | None:
        """Continuous actions, float64 ``(T, D)``, one for each picture as of `actions`; None where there are none."""
        return None


@dataclass(frozen=True, eq=False)
class Recording(Film):
    """A film whose pictures are values in a file that holds other things too. Subclasses have `stored`."""

    def stored(self) -> Iterator[np.ndarray | bytes]:
        """Yield its pictures as they are stored: uint8 HW, or HWC with 1, 3 or 4 channels, or as a PNG or JPEG."""
        raise NotImplementedError

    def content_hash(self) -> str:
        digest = hashlib.blake2b()
        try:
            for picture in self.stored():
                if isinstance(picture, np.ndarray):
                    picture = repr(picture.shape).encode() + picture.tobytes()
                digest.update(picture)
        except Exception as error:  # libraries raise errors of all kinds for damaged files
            raise unreadable(error) from error
        return short_hash(digest.digest())

    def frames(self, fps: float, to_size: Resize, warn: Warn) -> Iterator[tuple[int, np.ndarray]]:
        damaged = 0

        def pictures() -> Iterator[np.ndarray | None]:
            nonlocal damaged
            for picture in self.stored():
                try:
                    yield _decoded(picture)
                except JinnError:
                    raise
                except Exception:  # Pillow's plugins raise errors of all kinds
                    damaged += 1
                    yield None

        for clip, pixels_HWC in steady(pictures(), self.fps, fps, warn):
            yield clip, np.array(to_size(pixels_HWC[None])[0])
        if damaged:
            warn(f"{damaged} of its pictures cannot be read: a new clip begins behind them")


def read_film(
    film: Film | str | Path,
    fps: float,
    size_hw: tuple[int, int],
    warn: Warn = lambda text: None,
    fit: Fit = "crop",
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a film's frames in chunks, each with the number of the clip that it belongs to.

    A whole film is one clip, number 0. Where pictures are missing, as behind damage, and where the clock jumps, the
    next clip begins. Frames are uint8 ``(T, H, W, 3)`` with T from 1 to `CHUNK`, fewer if they are large.

    Args:
        film: A film, or the path of a video.
        fps: Frames per second to yield; above the film's own rate, frames repeat. Pictures without any rate become
            one frame each.
        size_hw: Height and width of the frames, pixels.
        warn: Is told in plain words what is missing, or unusual, in a film that can be read.
        fit: What becomes of pictures of another shape than `size_hw`, see `jinn.data.images.resize`.

    Raises:
        VideoError: It is no film, or breaks off, after all frames before that were yielded. Whatever goes wrong with a
            file is a `VideoError`.
        JinnError: A package that reads this format is not installed.
    """
    if not isinstance(film, Film):
        film = Film(Path(film).name, (Path(film),))
    length = max(1, min(CHUNK, CHUNK_BYTES // (3 * math.prod(size_hw))))
    chunk: list[np.ndarray] = []
    current = 0
    try:
        for clip, frame_HWC in film.frames(fps, partial(resize, size_hw=size_hw, fit=fit), warn):
            if chunk and (clip != current or len(chunk) == length):
                yield current, np.stack(chunk)
                chunk.clear()
            current = clip
            chunk.append(frame_HWC)
    except Exception as error:  # decoders raise errors of all kinds, and one file must not end the rest
        if chunk:  # what was decoded comes first
            yield current, np.stack(chunk)
        raise unreadable(error) from error
    if chunk:
        yield current, np.stack(chunk)


def read_actions(film: Film, fps: float, warn: Warn) -> np.ndarray | None:
    """The actions of a film where it has any, and one for each frame at this rate; `warn` is told why not."""
    if film.num_actions and film.fps not in (None, fps):
        rate = f"{film.fps:g}"
        warn(
            f"its actions belong to {rate} pictures a second and are left out at {fps:g}: --fps {rate} keeps them"
        )
        return None
    try:
        values_TD = film.values() if film.codes else None
        return film.actions() if film.codes is None or values_TD is None else film.codes.of(values_TD)
    except Exception as error:  # libraries raise errors of all kinds for damaged files
        warn(f"its actions cannot be read ({error})")
        return None


def choose_camera(cameras: Sequence[str], wanted: str | None, name: str) -> tuple[str, tuple[str, ...]]:
    """One of a data set's cameras, and notes as of `Film` if nobody chose it.

    Args:
        cameras: Their names, at least one.
        wanted: A name, or the end of one behind a dot or a slash; None for the first.
        name: Of the data set, to show.

    Raises:
        JinnError: There is no such camera.
    """
    others = ", ".join(cameras)
    if wanted is None:
        note = f"of its cameras ({others}) {cameras[0]} is read: --camera NAME chooses another"
        return cameras[0], (note,) if len(cameras) > 1 else ()
    for camera in cameras:
        if wanted in (camera, camera.rpartition(".")[2], camera.rpartition("/")[2]):
            return camera, ()
    raise JinnError(f"{name} has no camera {wanted}: choose one of {others}")


def unreadable(error: Exception) -> JinnError:
    """The `VideoError` for an error of any kind; a `JinnError` is itself."""
    if isinstance(error, JinnError):
        return error
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return VideoError(f"its pictures cannot be decoded ({reason})")


def file_hash(path: Path) -> bytes:
    """A hash of a file's bytes, kept for files that hold many films."""
    status = path.stat()
    return _file_hash(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _file_hash(path: Path, size: int, changed: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def short_hash(content: bytes) -> str:
    """16 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def printable(name: str) -> str:
    """A name as it can be shown and stored, also where it is not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _decoded(picture: np.ndarray | bytes) -> np.ndarray:
    """A picture as uint8 RGB: upright, on white."""
    if not isinstance(picture, np.ndarray):
        with open_picture(io.BytesIO(picture)) as opened:
            picture = to_rgba(opened)
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.shape[-1] == 4:
        return on_white(picture)
    return np.broadcast_to(picture, (*picture.shape[:2], 3))
