"""Films that are no video files -> frames: numbered pictures and animated WebP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from jinn.contracts import JinnError
from jinn.data.clock import Shown, Warn, resample, steady
from jinn.data.images import Resize, on_white
from jinn.data.video import VideoError


def picture_frames(
    files: Sequence[Path], rate: float | None, fps: float, to_size: Resize, warn: Warn
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of the clip and the frame, uint8 HWC, of pictures, `rate` a second or else one frame each.

    A new clip begins behind pictures that cannot be read.
    """
    damaged = 0

    def pictures() -> Iterator[np.ndarray | None]:
        nonlocal damaged
        for file in files:
            try:
                with open_picture(file) as picture:
                    frame_HWC = _to_frame(picture, to_size)
            except JinnError:
                raise
            except Exception:  # Pillow's plugins raise errors of all kinds for damaged files
                damaged += 1
                yield None
            else:
                yield frame_HWC

    yield from steady(pictures(), rate, fps, warn)
    if damaged:
        warn(f"{damaged} of its {len(files)} pictures cannot be read: a new clip begins behind them")


def webp_frames(path: Path, fps: float, to_size: Resize, warn: Warn) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of the clip and the frame, uint8 HWC, of an animated WebP."""
    with open_picture(path) as film:
        if getattr(film, "n_frames", 1) < 2:
            raise VideoError("it is a single picture, not a video")

        def shown() -> Iterator[Shown]:
            time = 0.0
            for number in range(film.n_frames):
                film.seek(number)
                frame_HWC = _to_frame(film, to_size)  # which loads the picture, and with it the duration
                duration = film.info["duration"] / 1000
                yield Shown(frame_HWC, time, duration)
                time += duration

        yield from resample(shown(), fps, 1 / fps, warn)


def to_rgba(picture: Any) -> np.ndarray:
    """A picture of Pillow as uint8 RGBA, upright."""
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(picture).convert("RGBA"))


def open_picture(file: Path | IO[bytes]) -> Any:
    """A picture of Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise JinnError("reading pictures needs Pillow: run pip install 'jinn[video]'") from error
    return Image.open(file)


def _to_frame(picture: Any, to_size: Resize) -> np.ndarray:
    """A picture of Pillow as a frame, uint8 HWC: upright, on white, and resized."""
    return np.array(to_size(on_white(to_rgba(picture))[None])[0])
