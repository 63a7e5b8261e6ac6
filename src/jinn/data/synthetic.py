"""A tiny game whose actions are known: for tests, the tutorial, and a first run without any download.

A sprite walks on a board of coloured cells. It stays or moves by one cell; at the edge it runs into a wall and stays
where it is. Every seed is a level with its own background, start and walk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jinn.data.store import FrameStore
from jinn.data.writer import StoreWriter

ACTIONS = ("stay", "left", "right", "up", "down")
CELL = 4  # side of a cell of the board, of the sprite and of a step, pixels

MOVES_YX = np.array([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)])
_PALETTE = np.array(  # soft colours, so that the bright sprite is found on all of them
    [(52, 73, 94), (71, 92, 80), (94, 82, 105), (60, 96, 112), (104, 94, 76), (84, 64, 72)], np.uint8
)
# Four rows of a sprite without any symmetry: w white, y yellow, r red, k black.
SPRITE = np.array(
    [[{"w": (255, 255, 255), "y": (255, 214, 10), "r": (255, 59, 48), "k": (0, 0, 0)}[c] for c in row]
     for row in ("yywy", "ykyw", "yyyr", "ryrr")], np.uint8
)  # fmt: skip


def new_board(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """The board of a level, uint8 ``HWC``."""
    grid = np.array(size_hw) // CELL
    return _PALETTE[rng.integers(len(_PALETTE), size=tuple(grid))].repeat(CELL, 0).repeat(CELL, 1)


def walk(cell: np.ndarray, action: int, grid: np.ndarray) -> np.ndarray:
    """The cell (down, right) to which an action leads on a grid of so many cells."""
    return np.clip(cell + MOVES_YX[action], 0, grid - 1)


def draw(board_HWC: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """The frame with the sprite in a cell (down, right) of a board, uint8 ``HWC``."""
    frame_HWC, (y, x) = board_HWC.copy(), cell * CELL
    frame_HWC[y : y + CELL, x : x + CELL] = SPRITE
    return frame_HWC


def game_rollout(
    seed: int, length: int, size_hw: tuple[int, int] = (32, 32)
) -> tuple[np.ndarray, np.ndarray]:
    """One episode of the game, played at random on the level of a seed: uint8 ``frames_THWC``, int64 ``actions_T``.

    ``actions_T[t]``, in 0..4 (see `ACTIONS`), leads from frame t to frame t + 1; the last entry is the padding -1.
    Sides are multiples of 4 pixels.
    """
    if size_hw[0] % CELL or size_hw[1] % CELL or length < 1:
        raise ValueError(f"sides are multiples of {CELL} and lengths at least 1, got {size_hw}, {length}")
    rng = np.random.default_rng(seed)
    grid, board_HWC = np.array(size_hw) // CELL, new_board(rng, size_hw)
    actions = np.append(rng.integers(len(ACTIONS), size=length - 1), -1)
    cells = np.empty((length, 2), np.int64)
    cells[0] = rng.integers(grid)
    for t in range(length - 1):
        cells[t + 1] = walk(cells[t], actions[t], grid)
    return np.stack([draw(board_HWC, cell) for cell in cells]), actions


def write_game(
    path: str | Path, episodes: int, length: int, seed: int = 0, size_hw: tuple[int, int] = (32, 32)
) -> FrameStore:
    """Write a store of levels ``seed .. seed + episodes - 1`` with their actions, and open it."""
    with StoreWriter(path, size_hw, fps=10, num_actions=len(ACTIONS), action_names=ACTIONS) as writer:
        for level in range(seed, seed + episodes):
            frames, actions = game_rollout(level, length, size_hw)
            writer.append(frames)
            writer.end_episode("synthetic:game", actions, level_seed=level)
    return FrameStore.open(path)
