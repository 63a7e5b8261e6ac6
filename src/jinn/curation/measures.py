"""What a clip is like, by arithmetic on its frames: how much moves, what is black, bars, and frames around the game."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jinn.data.changes import DARK, brightness, changes

BAR = 32  # grey levels: what never gets brighter is a black bar, encoded with some noise
MOVES = 16  # grey levels: what changes by less, stands still with some noise
FEW = 0.02  # the fraction of a line that may do otherwise


@dataclass(frozen=True)
class Measures:
    """As of `jinn.curation.clip.Row`."""

    motion: float
    black: float
    letterbox: float
    overlay: float


def measure(frames_THWC: np.ndarray) -> Measures:
    """What a clip is like.

    Args:
        frames_THWC: uint8, at least two frames, of the whole picture: cropped, the bars would be missing.
    """
    brightest_HW = frames_THWC.max((0, 3))
    top, bottom, left, right = box(brightest_HW > BAR)
    letterbox = 1 - (bottom - top) * (right - left) / brightest_HW.size
    inner_THWC = frames_THWC[:, top:bottom, left:right]
    overlay = 1.0
    if inner_THWC.size:
        moves_HW = (inner_THWC.max(0) - inner_THWC.min(0)).max(-1) > MOVES
        top, bottom, left, right = box(moves_HW)
        overlay = 1 - (bottom - top) * (right - left) / moves_HW.size
    return Measures(
        motion=float(changes(frames_THWC).mean()),
        black=float((brightness(frames_THWC) < DARK).mean()),
        letterbox=float(letterbox),
        overlay=float(overlay),
    )


def box(is_HW: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the smallest box that holds the lines in which more than a few pixels are true."""
    sides: list[int] = []
    for axis in (1, 0):
        lines = np.flatnonzero(is_HW.mean(axis) > FEW)
        sides += [int(lines[0]), int(lines[-1]) + 1] if len(lines) else [0, 0]
    return sides[0], sides[1], sides[2], sides[3]
