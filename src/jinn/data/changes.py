"""How much a film changes from frame to frame, and which frames are black: for a look at videos, and to curate them."""

from __future__ import annotations

import numpy as np

# Grey levels of 255. A frame that changes by less repeats the one before; one that changes by more may follow a cut;
# one that is darker is black; and where less changes on average, hardly anything moves.
DIFFERENT, CUT, DARK, STILL = 0.25, 25.0, 8.0, 0.5


def changes(clip_THWC: np.ndarray) -> np.ndarray:
    """Mean difference of each frame (uint8) from the one before, grey levels, float64 ``(T - 1,)``."""
    pairs = zip(clip_THWC[:-1].astype(np.int16), clip_THWC[1:], strict=True)
    return np.array([np.abs(before - after).mean() for before, after in pairs])


def brightness(clip_THWC: np.ndarray) -> np.ndarray:
    """Mean of each frame (uint8), grey levels, float64 ``(T,)``."""
    means: np.ndarray = clip_THWC.mean((1, 2, 3))
    return means
