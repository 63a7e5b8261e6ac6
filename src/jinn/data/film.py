"""Films of all kinds -> clips of frames: video files, numbered pictures, animated WebP, arrays of NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.clock import Warn
from jinn.data.images import Fit, Resize, resize
from jinn.data.pictures import ARRAYS, array_frames, picture_frames, webp_frames
from jinn.data.video import VideoError, video_frames

CHUNK = 256  # frames yielded at once
CHUNK_BYTES = 2**25  # but no more than this


def read_film(
    files: str | Path | Sequence[Path],
    fps: float,
    size_hw: tuple[int, int],
    warn: Warn = lambda text: None,
    fit: Fit = "crop",
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a film's frames in chunks, each with the number of the clip that it belongs to.

    A whole film is one clip, number 0. Where pictures are missing, as behind damage, and where the clock jumps, the
    next clip begins. Frames are uint8 ``(T, H, W, 3)`` with T from 1 to `CHUNK`, fewer if they are large.

    Args:
        files: A video in any format that FFmpeg decodes (mp4, webm, mkv, mov, avi, gif, ...), an animated WebP, an
            array (see `array_frames`), or several pictures in their order.
        fps: Frames per second to yield; above the film's own rate, frames repeat. Pictures and arrays, which have no
            rate, become one frame each.
        size_hw: Height and width of the frames, pixels.
        warn: Is told in plain words what is missing, or unusual, in a film that can be read.
        fit: What becomes of pictures of another shape than `size_hw`, see `jinn.data.images.resize`.

    Raises:
        VideoError: It is no film, or breaks off, after all frames before that were yielded. Whatever goes wrong with a
            file is a `VideoError`.
        JinnError: PyAV or Pillow is not installed.
    """
    length = max(1, min(CHUNK, CHUNK_BYTES // (3 * math.prod(size_hw))))
    chunk: list[np.ndarray] = []
    current = 0
    try:
        for clip, frame_HWC in _frames(files, fps, partial(resize, size_hw=size_hw, fit=fit), warn):
            if chunk and (clip != current or len(chunk) == length):
                yield current, np.stack(chunk)
                chunk.clear()
            current = clip
            chunk.append(frame_HWC)
    except Exception as error:  # decoders raise errors of all kinds, and one file must not end the rest
        if chunk:  # what was decoded comes first
            yield current, np.stack(chunk)
        if isinstance(error, JinnError):
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(f"its pictures cannot be decoded ({reason})") from error
    if chunk:
        yield current, np.stack(chunk)


def _frames(
    files: str | Path | Sequence[Path], fps: float, to_size: Resize, warn: Warn
) -> Iterator[tuple[int, np.ndarray]]:
    if not isinstance(files, str | Path):
        return picture_frames(files, to_size, warn)
    path = Path(files)
    suffix = path.suffix.lower()
    if suffix in ARRAYS:
        return array_frames(path, to_size)
    if suffix == ".webp":
        return webp_frames(path, fps, to_size, warn)
    return video_frames(path, fps, to_size, warn)
