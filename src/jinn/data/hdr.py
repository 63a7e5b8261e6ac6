"""Pictures of high dynamic range, as phones film them -> the range of a screen.

Both encodings are those of ITU-R BT.2100. White paper is displayed at 203 candela a square metre (ITU-R BT.2408):
it becomes the white of the screen, and what is brighter than that becomes white as well.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

PQ, HLG = 16, 18  # the numbers that FFmpeg, and ITU-T H.273, give to the two transfer functions
WHITE = 203.0  # candela a square metre
# Linear light with the primaries of BT.2020 to that with those of BT.709 (ITU-R BT.2087).
TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def to_screen(frame_HWC: np.ndarray, transfer: int) -> np.ndarray:
    """A frame (uint8 RGB) with the transfer function `PQ` or `HLG` and the primaries of BT.2020 as one of BT.709."""
    light_HWC = np.clip(_light(transfer)[frame_HWC] @ TO_BT709.T, 0, 1)
    return np.round(255 * light_HWC ** (1 / 2.4)).astype(np.uint8)


@lru_cache(maxsize=2)
def _light(transfer: int) -> np.ndarray:
    """Displayed light for each of the 256 codes, 1 is white."""
    signal = np.arange(256, dtype=np.float64) / 255
    if transfer == PQ:
        root = signal ** (32 / 2523)
        light = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (8192 / 1305)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        light = 1000 * scene**1.2
    return (light / WHITE).astype(np.float32)
