"""Frames to a film: mp4 or GIF."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Literal

import numpy as np
from PIL import Image

from jinn.errors import JinnError

FilmFormat = Literal["mp4", "gif"]
SIDE = {"mp4": 512, "gif": 320}  # pixels of the longer side: a film of 64 would be tiny on a screen
MEDIA_TYPE = {"mp4": "video/mp4", "gif": "image/gif"}


def encode_film(
    frames_THWC: np.ndarray, fps: float, format: FilmFormat, is_ended: Callable[[], bool] = lambda: False
) -> bytes:
    """The file of a film of uint8 frames, each of their pixels enlarged to a square.

    `is_ended` is asked before each frame whether the film is not wanted any more.

    Raises:
        JinnError: the film is not wanted any more; or PyAV is missing, which an mp4 (H.264, plays everywhere) needs.
    """
    scale = max(1, SIDE[format] // max(frames_THWC.shape[1:3]))
    if format == "gif":
        return _encode_gif(frames_THWC, fps, scale, is_ended)
    try:
        import av
    except ImportError:
        raise JinnError("mp4 needs PyAV: pip install 'jinn[play]', or keep a GIF") from None
    height, width = (scale * side // 2 * 2 for side in frames_THWC.shape[1:3])  # H.264 wants even sides
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16", "preset": "fast"}
        for frame_HWC in _until(is_ended, frames_THWC):
            large_HWC = frame_HWC.repeat(scale, 0).repeat(scale, 1)[:height, :width]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(large_HWC), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def _until(is_ended: Callable[[], bool], frames_THWC: np.ndarray) -> Iterator[np.ndarray]:
    for frame_HWC in frames_THWC:
        if is_ended():
            raise JinnError("the film is not wanted any more")
        yield frame_HWC


def _encode_gif(frames_THWC: np.ndarray, fps: float, scale: int, is_ended: Callable[[], bool]) -> bytes:
    # One palette for all frames: a palette for each would flicker.
    some_PHWC = frames_THWC[:: max(1, len(frames_THWC) // 32)]
    colours = Image.fromarray(some_PHWC.reshape(-1, *some_PHWC.shape[2:])).quantize(256)
    height, width = frames_THWC.shape[1:3]
    pictures = (
        Image.fromarray(frame_HWC)
        .quantize(palette=colours, dither=Image.Dither.NONE)
        .resize((scale * width, scale * height), Image.Resampling.NEAREST)
        for frame_HWC in _until(is_ended, frames_THWC)
    )
    # The format counts hundredths of a second: each frame ends as near to its time as it can.
    ends = [round(100 * (i + 1) / fps) for i in range(len(frames_THWC))]
    durations = [10 * (end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    file = io.BytesIO()
    next(pictures).save(
        file, "GIF", save_all=True, append_images=pictures, duration=durations, loop=0, disposal=1
    )
    return file.getvalue()
