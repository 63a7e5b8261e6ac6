"""Whether the world of the synthetic game still shows its sprite."""

from __future__ import annotations

import numpy as np

from jinn.data.synthetic import CELL, SPRITE


def sprite_is_whole(frames_BHWC: np.ndarray) -> np.ndarray:
    """Whether frames, real or generated, show the sprite exactly once and nothing like it elsewhere, bool ``B``.

    A cell shows it whole with a root mean square error of less than 60 grey levels; three pixels of its yellow in any
    other cell are a piece of it.
    """
    B, H, W, _ = frames_BHWC.shape
    cells = frames_BHWC.reshape(B, H // CELL, CELL, W // CELL, CELL, 3).swapaxes(2, 3).astype(np.float64)
    is_sprite = np.sqrt(((cells - SPRITE) ** 2).mean((-3, -2, -1))) < 60
    yellow = (cells[..., 0] > 170) & (cells[..., 1] > 140) & (cells[..., 2] < 110)
    pieces_B = (yellow.sum((-2, -1)) * ~is_sprite).sum((1, 2))
    return np.asarray((is_sprite.sum((1, 2)) == 1) & (pieces_B < 3))
