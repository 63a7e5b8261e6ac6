"""A game in which one must look: Maze, played by breadth-first search, by the best blind line, and at random.

python scripts/maze.py
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
import tyro

from jinn.agents.baselines import random_actions
from jinn.agents.game import SOLVED, TRAIN_LEVELS, Game
from jinn.agents.play import Policy, play
from jinn.agents.search import MOVES, solve_maze
from jinn.data.games import PROCGEN_MOVES
from jinn.evaluation.estimate import bootstrap

GAME = "MazeEasy-v0"
LEVELS = (50_000, 10_000)  # on which nothing was chosen: first and number


class Line:
    """Holds each of some actions for a number of steps, again and again, whatever the frame shows."""

    def __init__(self, actions: tuple[int, ...], hold: int) -> None:
        self.actions_T = torch.tensor(actions).repeat_interleave(hold)
        self.steps: dict[int, int] = {}

    def begin(self, rows_B: np.ndarray, first_B: np.ndarray) -> None:
        for row, first in zip(rows_B.tolist(), first_B.tolist(), strict=True):
            self.steps[row] = 0 if first else self.steps[row] + 1
        self.now_B = torch.tensor([self.steps[row] for row in rows_B.tolist()])

    def __call__(self, frames_BHWC: torch.Tensor) -> torch.Tensor:
        return self.actions_T[self.now_B % len(self.actions_T)]


def solved(policy: Policy, levels: tuple[int, int], episodes: int, seed: int) -> np.ndarray:
    """1 for each episode that ends at the cheese, else 0."""
    envs = Game(GAME, 25, levels, seed)
    returns = play(envs, policy, episodes)
    envs.close()
    return (returns >= SOLVED).astype(float)


def main(episodes: int = 200, tries: int = 25, seed: int = 0) -> None:
    """Print how many levels each solves.

    Args:
        episodes: Of each policy, on levels from 50,000 on.
        tries: Episodes of each blind line, on levels below 10,000; the best one is in the table.
        seed: Of the levels' order and the random presses.
    """
    lines: list[tuple[tuple[int, ...], int]] = [((action,), 1) for action in MOVES]
    lines += [(pair, hold) for pair in product(MOVES, repeat=2) if pair[0] < pair[1] for hold in (1, 2, 4)]
    earned = [solved(Line(*line), TRAIN_LEVELS, tries, seed).mean() for line in lines]
    best = lines[int(np.argmax(earned))]
    chance = random_actions(PROCGEN_MOVES, torch.Generator().manual_seed(seed))
    for who, policy in (
        ("breadth-first search", solve_maze),
        (f"best blind line, actions {best[0]} each held for {best[1]} steps", Line(*best)),
        ("random moves", chance),
    ):
        found = bootstrap(solved(policy, LEVELS, episodes, seed + 1), 0)
        print(f"{who}: solved {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
