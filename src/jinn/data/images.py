"""The one way in which a picture becomes a frame, whether it comes from a video, an environment or a player.

Decoders only decode: they hand over uint8 RGB at the full size, upright, with transparency laid over white.

The filter is the area average: an output pixel is the mean of the little squares of one colour that it covers. So pixel
art that was enlarged by a whole factor comes back as its own pixels, which a triangle filter would smear, and a smaller
picture is enlarged with hard edges instead of blur. One formula holds in both directions, so nothing changes abruptly
at the frame's size. Sums are exact whole numbers: the result does not depend on the machine, the batch or the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np

# How a picture of another shape becomes a frame: its middle, all of it between black bars, or all of it distorted.
Fit = Literal["crop", "pad", "stretch"]

# `resize` to one size, of frames ``THWC`` and perhaps their `pixel_aspect`.
Resize = Callable[..., np.ndarray]

BAND_VALUES = 2**15  # input values that are converted and summed at a time: they stay in the cache


def resize(
    frames_THWC: np.ndarray, size_hw: tuple[int, int], fit: Fit = "crop", pixel_aspect: float = 1.0
) -> np.ndarray:
    """Bring frames to a size.

    Args:
        frames_THWC: uint8.
        size_hw: height and width to return, pixels.
        fit: what becomes of frames of another shape, see `Fit`.
        pixel_aspect: width of an input pixel divided by its height; videos for television have others than 1.

    Returns:
        uint8 ``(T, *size_hw, 3)``; the input itself if it has this size already.
    """
    if fit == "crop":
        return crop_resize(frames_THWC, size_hw, pixel_aspect)
    (height, width), (out_h, out_w) = frames_THWC.shape[1:3], size_hw
    if fit == "stretch":
        return _average(frames_THWC, size_hw)
    scale = max(height / out_h, width * pixel_aspect / out_w)
    inner_h, inner_w = max(1, round(height / scale)), max(1, round(width * pixel_aspect / scale))
    if (inner_h, inner_w) == tuple(size_hw):
        return _average(frames_THWC, size_hw)
    padded_THWC = np.zeros((len(frames_THWC), out_h, out_w, 3), np.uint8)
    top, left = (out_h - inner_h) // 2, (out_w - inner_w) // 2
    padded_THWC[:, top : top + inner_h, left : left + inner_w] = _average(frames_THWC, (inner_h, inner_w))
    return padded_THWC


def crop_resize(frames_THWC: np.ndarray, size_hw: tuple[int, int], pixel_aspect: float = 1.0) -> np.ndarray:
    """Crop the middle of frames to a shape and resize it, without distortion.

    Args:
        frames_THWC: uint8.
        size_hw: height and width to return, pixels. Its shape decides what is cropped.
        pixel_aspect: width of an input pixel divided by its height; videos for television have others than 1.

    Returns:
        uint8 ``(T, *size_hw, 3)``; the input itself if it has this size and square pixels.
    """
    height, width = frames_THWC.shape[1:3]
    if (height, width) == tuple(size_hw) and pixel_aspect == 1:
        return frames_THWC
    out_h, out_w = size_hw
    scale = min(height / out_h, width * pixel_aspect / out_w)
    crop_h, crop_w = max(1, round(out_h * scale)), max(1, round(out_w * scale / pixel_aspect))
    top, left = (height - crop_h) // 2, (width - crop_w) // 2
    return _average(frames_THWC[:, top : top + crop_h, left : left + crop_w], size_hw)


def _average(frames_THWC: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """All of the frames at another size, without regard to their shape; the input itself if it has this size."""
    (height, width), (out_h, out_w) = frames_THWC.shape[1:3], size_hw
    if (height, width) == (out_h, out_w):
        return frames_THWC
    # float32 holds the sums over rows exactly, up to 65,793 rows of 255; float64 those of both directions.
    frames = len(frames_THWC)
    sums = _sum_areas(frames_THWC.reshape(frames, height, width * 3), out_h, np.float32)
    # The first axis to be summed is moved behind the colours, so that again whole rows of memory are summed.
    sums = sums.swapaxes(1, 2).reshape(frames, width, 3 * out_h)
    sums = _sum_areas(sums, out_w, np.float64).reshape(frames, out_w, 3, out_h).transpose(0, 3, 1, 2)
    return np.floor(sums / (height * width) + 0.5).astype(np.uint8, order="C")


def on_white(pixels_HWC: np.ndarray) -> np.ndarray:
    """Lay a picture with transparency (uint8 RGBA) over white, as a browser shows it; returns uint8 RGB."""
    opaque = pixels_HWC[..., 3:].astype(np.uint16)
    return ((pixels_HWC[..., :3] * opaque + 255 * (255 - opaque) + 127) // 255).astype(np.uint8)


def _sum_areas(values_TIX: np.ndarray, want: int, dtype: type[np.floating]) -> np.ndarray:
    """Sums along axis 1 weighted by `_overlaps`, ``(T, want, X)``; only parts that overlap are multiplied."""
    frames, have, length = values_TIX.shape
    weights = _overlaps(have, want).astype(dtype)
    sums = np.empty((frames, want, length), dtype)
    step = max(1, BAND_VALUES * want // max(1, values_TIX.size))
    for first in range(0, want, step):
        last = min(first + step, want)
        begin, end = first * have // want, -(-last * have // want)
        np.matmul(
            weights[first:last, begin:end], values_TIX[:, begin:end].astype(dtype), out=sums[:, first:last]
        )
    return sums


@lru_cache(maxsize=8)
def _overlaps(have: int, want: int) -> np.ndarray:
    """How much of each of `have` equal parts of a line each of `want` parts covers, int64 ``(want, have)``.

    A row sums to `have`, a column to `want`.
    """
    have_edges, want_edges = np.arange(have + 1) * want, np.arange(want + 1) * have
    begins = np.maximum(want_edges[:-1, None], have_edges[:-1])
    ends = np.minimum(want_edges[1:, None], have_edges[1:])
    return np.maximum(ends - begins, 0)
