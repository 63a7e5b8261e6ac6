"""Fitting pictures to the store's size: crop the middle to the wanted shape, then resize; never distort."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from jinn.contracts import to_float, to_uint8


def crop_resize(frames_THWC: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Crop the middle of uint8 frames to the shape of `size_hw` and resize, averaging what shrinks."""
    if frames_THWC.shape[1:3] == tuple(size_hw):
        return frames_THWC
    height, width = frames_THWC.shape[1:3]
    crop_h, crop_w = crop_shape((height, width), size_hw)
    top, left = (height - crop_h) // 2, (width - crop_w) // 2
    crop = torch.from_numpy(np.ascontiguousarray(frames_THWC[:, top : top + crop_h, left : left + crop_w]))
    pixels_TCHW = to_float(crop).permute(0, 3, 1, 2)
    resized = F.interpolate(pixels_TCHW, size_hw, mode="bilinear", antialias=True, align_corners=False)
    return to_uint8(resized.permute(0, 2, 3, 1)).contiguous().numpy()


def crop_shape(have_hw: tuple[int, int], want_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width, in pixels of `have_hw`, of the largest part that is shaped like `want_hw`."""
    scale = min(have_hw[0] / want_hw[0], have_hw[1] / want_hw[1])
    return max(1, round(want_hw[0] * scale)), max(1, round(want_hw[1] * scale))
