"""Films that are no video files -> frames: numbered pictures, animated WebP, and arrays of NumPy."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.data.clock import Shown, Warn, resample
from jinn.data.images import Resize, on_white
from jinn.data.video import VideoError

ARRAYS = (".npy", ".npz")


def picture_frames(files: Sequence[Path], to_size: Resize, warn: Warn) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of the clip and the frame, uint8 HWC, of pictures, one frame each.

    A new clip begins behind pictures that cannot be read.
    """
    image = _pillow()
    clip, damaged, is_cut = 0, 0, False
    for file in files:
        try:
            with image.open(file) as picture:
                frame_HWC = _to_frame(picture, to_size)
        except Exception:  # Pillow's plugins raise errors of all kinds for damaged files
            damaged, is_cut = damaged + 1, True
            continue
        clip, is_cut = clip + is_cut, False
        yield clip, frame_HWC
    if damaged:
        warn(f"{damaged} of its {len(files)} pictures cannot be read: a new clip begins behind them")


def webp_frames(path: Path, fps: float, to_size: Resize, warn: Warn) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of the clip and the frame, uint8 HWC, of an animated WebP."""
    with _pillow().open(path) as film:
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


def array_frames(path: Path, to_size: Resize) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of the clip and the frame, uint8 HWC, of clips as arrays, one frame for each picture.

    Args:
        path: A ``.npy`` file with one clip, or an ``.npz`` file whose arrays are clips in the order of their names:
            uint8 ``(T, H, W, 3)``, or ``(T, H, W)`` or ``(T, H, W, 1)`` for grey pictures.
        to_size: Brings pictures to the size of the frames.

    Raises:
        VideoError: An array is something else. Nothing is unpickled.
    """
    try:
        # A .npy is mapped and not read as a whole.
        content = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(content, np.ndarray):
            yield from _clip(0, content, to_size)
            return
        with content:
            for clip, name in enumerate(sorted(content.files)):
                yield from _clip(clip, content[name], to_size)
    except VideoError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise VideoError(f"it is no array of pictures ({error})") from error


def _clip(clip: int, pictures: np.ndarray, to_size: Resize) -> Iterator[tuple[int, np.ndarray]]:
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] not in (1, 3):
        raise VideoError(
            f"it holds {pictures.dtype} of shape {pictures.shape}: a clip is uint8 (frames, height, width, 3)"
        )
    for picture_HWC in pictures:
        frame_HWC = to_size(np.broadcast_to(picture_HWC, (*picture_HWC.shape[:2], 3))[None])[0]
        yield clip, np.array(frame_HWC)


def _to_frame(picture: Any, to_size: Resize) -> np.ndarray:
    """A picture of Pillow as a frame, uint8 HWC: upright, on white, and resized."""
    from PIL import ImageOps

    pixels_HWC = on_white(np.asarray(ImageOps.exif_transpose(picture).convert("RGBA")))
    return np.array(to_size(pixels_HWC[None])[0])


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise JinnError("reading pictures needs Pillow: run pip install 'jinn[video]'") from error
    return Image
