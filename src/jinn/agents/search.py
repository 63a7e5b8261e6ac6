"""A scripted expert of Procgen's Maze: it reads the maze off the picture and walks the shortest path."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

# MazeEasy shows 15 x 15 cells in 64 x 64 pixels; smaller mazes are surrounded by wall.
CELLS = 15
WALL_RGB = (195.0, 144.0, 95.0)  # the mean of a wall's cell; most floors differ by 24 or more in one channel
WALL_CLOSE = 10.0
WHITE, ORANGE = 180, 210  # only the mouse is so white, and only the cheese has so much more red than blue
STAY = 4
MOVES = {1: (0, -1), 3: (1, 0), 5: (-1, 0), 7: (0, 1)}  # action of Procgen: rows down, columns right


def solve_maze(frames_BHWC: Tensor) -> Tensor:
    """The first step of the shortest path from the mouse to the cheese; a policy of `jinn.agents.play.play`.

    Args:
        frames_BHWC: uint8, pictures of ``MazeEasy-v0``.

    Returns:
        int64 B, Procgen's actions; "stay" where there is no mouse, no cheese or no path.
    """
    return torch.tensor([first_move(*read_maze(frame)) for frame in frames_BHWC.cpu().numpy()])


def read_maze(frame_HWC: np.ndarray) -> tuple[np.ndarray, tuple[int, int] | None, tuple[int, int] | None]:
    """Open cells (bool, 15 x 15), and row and column of the mouse and the cheese, or None where not seen."""
    frame = frame_HWC.astype(np.int64)
    edges = np.round(np.arange(CELLS + 1) * len(frame) / CELLS).astype(int)
    inner = [slice(a + 1, b - 1) for a, b in pairwise(edges)]  # a border mixes two cells
    means = np.array([[frame[rows, columns].mean((0, 1)) for columns in inner] for rows in inner])
    open_YX = np.abs(means - WALL_RGB).max(-1) > WALL_CLOSE
    mouse = cell(frame.min(-1) > WHITE)
    cheese = cell(frame[..., 0] - frame[..., 2] > ORANGE)
    return open_YX, mouse, cheese


def cell(seen_HW: np.ndarray) -> tuple[int, int] | None:
    """The cell in the middle (median) of the pixels, or None where there are none."""
    if not seen_HW.any():
        return None
    row, column = (np.median(np.argwhere(seen_HW), 0) + 0.5) * CELLS / len(seen_HW)
    return int(row), int(column)


def first_move(open_YX: np.ndarray, start: tuple[int, int] | None, goal: tuple[int, int] | None) -> int:
    """Breadth-first search from the goal; the action that leaves the start by a shortest path, or "stay"."""
    if start is None or goal is None or start == goal:
        return STAY
    seen, queue = {goal}, deque([goal])
    while queue:
        row, column = queue.popleft()
        for action, (down, right) in MOVES.items():
            before = (row - down, column - right)
            if before == start:
                return action
            if before not in seen and min(before) >= 0 and max(before) < len(open_YX) and open_YX[before]:
                seen.add(before)
                queue.append(before)
    return STAY
