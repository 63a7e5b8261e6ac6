"""The scripted expert of Maze: it reads the picture, and it finds the cheese of real levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium", reason="agents need gymnasium")

from jinn.agents.game import SOLVED, Game
from jinn.agents.play import play
from jinn.agents.search import CELLS, STAY, WALL_RGB, first_move, solve_maze


def picture(
    open_cells: list[tuple[int, int]], mouse: tuple[int, int], cheese: tuple[int, int]
) -> torch.Tensor:
    frame = np.full((64, 64, 3), WALL_RGB, np.uint8)
    edges = np.round(np.arange(CELLS + 1) * 64 / CELLS).astype(int)
    for row, column in open_cells:
        frame[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = (90, 92, 95)
    for (row, column), colour in ((mouse, (210, 210, 210)), (cheese, (250, 160, 10))):
        frame[edges[row] + 1 : edges[row + 1] - 1, edges[column] + 1 : edges[column + 1] - 1] = colour
    return torch.from_numpy(frame)


def test_a_known_maze_gives_the_known_path() -> None:
    path = [(9, 5), (8, 5), (7, 5), (7, 6), (7, 7), (8, 7), (9, 7)]
    opened = [*path, (6, 5), (5, 5)]  # and a dead end
    frames = torch.stack([picture(opened, place, (9, 7)) for place in path[:6]])
    assert solve_maze(frames).tolist() == [5, 5, 7, 7, 3, 3]
    assert solve_maze(torch.stack([picture([(2, 2), (12, 12)], (2, 2), (12, 12))])).tolist() == [STAY]
    assert first_move(np.ones((CELLS, CELLS), bool), None, (0, 0)) == STAY


def test_real_levels_are_solved() -> None:
    pytest.importorskip("envpool", reason="the real game needs EnvPool")
    envs = Game("MazeEasy-v0", 8, levels=(40_000, 100))
    assert (play(envs, solve_maze, 8) >= SOLVED).mean() > 0.8
    envs.close()
