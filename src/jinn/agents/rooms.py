"""A game in which one must look, whose levels are data: rooms with walls, a player and a goal.

Levels can be drawn, edited, and solved exactly, and a batch of games steps as one array. So curricula over levels, the
search for levels on which a policy fails, and learning from histories are measured here in minutes. In the dark the
goal is not drawn: it has to be found, and remembered from episode to episode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jinn.contracts import JinnError, as_actions
from jinn.data.synthetic import ACTIONS, CELL, MOVES_YX, SPRITE

SIDE = 8  # cells
FLOOR, WALL, GOAL = (np.array(rgb, np.uint8) for rgb in ((94, 104, 112), (30, 30, 38), (72, 199, 116)))


@dataclass(frozen=True)
class Levels:
    """L levels.

    Attributes:
        walls_LYX: bool, cells that cannot be entered.
        start_L2, goal_L2: int64, row and column of a free cell each.
    """

    walls_LYX: np.ndarray
    start_L2: np.ndarray
    goal_L2: np.ndarray

    def __len__(self) -> int:
        return len(self.walls_LYX)

    def __getitem__(self, rows: Any) -> Levels:
        """Some of the levels: rows is a slice, or an array of numbers or of bools."""
        return Levels(self.walls_LYX[rows], self.start_L2[rows], self.goal_L2[rows])


# How many levels, and a generator -> as many levels.
Source = Callable[[int, np.random.Generator], Levels]


def join(parts: list[Levels]) -> Levels:
    """Levels one after another."""
    return Levels(
        *(np.concatenate([getattr(x, name) for x in parts]) for name in ("walls_LYX", "start_L2", "goal_L2"))
    )


def random_levels(count: int, rng: np.random.Generator, most_walls: float = 0.5, side: int = SIDE) -> Levels:
    """Levels that can be solved: each cell is a wall with a probability that is drawn for each level, up to a limit."""
    found: list[Levels] = []
    while sum(map(len, found)) < count:
        rate_L11 = rng.uniform(0, most_walls, (count, 1, 1))
        walls_LYX = rng.random((count, side, side)) < rate_L11
        ends_L2 = np.array([rng.choice(side * side, 2, replace=False) for _ in range(count)])
        start_L2, goal_L2 = (np.stack(np.divmod(cells, side), -1) for cells in ends_L2.T)
        found.append(solvable(opened(walls_LYX, start_L2, goal_L2)))
    return join(found)[:count]


def empty_rooms(count: int, rng: np.random.Generator, side: int = SIDE) -> Levels:
    """Levels without walls: the start and the goal are anywhere."""
    return random_levels(count, rng, most_walls=0.0, side=side)


def edited(levels: Levels, rng: np.random.Generator, changes: int = 3) -> Levels:
    """Children of levels, each with some cells changed from wall to floor or back; those that can be solved."""
    walls_LYX, side = levels.walls_LYX.copy(), levels.walls_LYX.shape[-1]
    each_L = np.arange(len(levels))
    for _ in range(changes):
        row_L, column_L = rng.integers(side, size=(2, len(levels)))
        walls_LYX[each_L, row_L, column_L] ^= True
    return solvable(opened(walls_LYX, levels.start_L2, levels.goal_L2))


def opened(walls_LYX: np.ndarray, start_L2: np.ndarray, goal_L2: np.ndarray) -> Levels:
    """Levels of these parts, with no wall on the start and on the goal."""
    walls_LYX, each_L = walls_LYX.copy(), np.arange(len(walls_LYX))
    for cell_L2 in (start_L2, goal_L2):
        walls_LYX[each_L, cell_L2[:, 0], cell_L2[:, 1]] = False
    return Levels(walls_LYX, start_L2, goal_L2)


def solvable(levels: Levels) -> Levels:
    """Those of the levels whose goal can be reached, and is not the start."""
    return levels[path_lengths(levels) > 0]


def path_lengths(levels: Levels) -> np.ndarray:
    """Steps of a shortest path from the start to the goal, int64 ``L``; -1 where there is none."""
    return distances(levels)[np.arange(len(levels)), levels.start_L2[:, 0], levels.start_L2[:, 1]]


def distances(levels: Levels) -> np.ndarray:
    """Steps from every cell to the goal, int64 ``LYX``; -1 where there is a wall or no path."""
    each_L, (L, Y, X) = np.arange(len(levels)), levels.walls_LYX.shape
    reached_LYX = np.zeros((L, Y, X), bool)
    reached_LYX[each_L, levels.goal_L2[:, 0], levels.goal_L2[:, 1]] = True
    found_LYX, step = np.where(reached_LYX, 0, -1), 0
    while True:
        step += 1
        wider_LYX = reached_LYX.copy()
        wider_LYX[:, 1:] |= reached_LYX[:, :-1]
        wider_LYX[:, :-1] |= reached_LYX[:, 1:]
        wider_LYX[:, :, 1:] |= reached_LYX[:, :, :-1]
        wider_LYX[:, :, :-1] |= reached_LYX[:, :, 1:]
        new_LYX = wider_LYX & ~levels.walls_LYX & ~reached_LYX
        if not new_LYX.any():
            return found_LYX
        found_LYX[new_LYX] = step
        reached_LYX |= new_LYX


class Rooms(VectorEnv[Any, Any, Any]):
    """Games in rooms. The goal pays 1 and ends an episode; the step after an episode's last starts the next.

    Args:
        levels: what episodes are played on: a source that new ones are drawn from, or levels, one for each
            environment, which then plays the same one again and again.
        num_envs: B, where levels are drawn.
        horizon: steps after which an episode is truncated.
        dark: the goal is not drawn, and an episode goes on there to its horizon: every step on the goal pays.
        seed: of the levels, until `reset` is given another one.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 Gymnasium's own form

    def __init__(
        self,
        levels: Source | Levels = random_levels,
        num_envs: int = 64,
        horizon: int = 40,
        dark: bool = False,
        seed: int = 0,
    ) -> None:
        if isinstance(levels, Levels):
            num_envs = len(levels)
        if min(num_envs, horizon) < 1:
            raise JinnError("num_envs and horizon must be at least 1")
        self.source, self.num_envs, self.horizon, self.dark, self.seed = levels, num_envs, horizon, dark, seed
        self.levels = levels if isinstance(levels, Levels) else levels(num_envs, np.random.default_rng(seed))
        pixels = self.levels.walls_LYX.shape[-1] * CELL
        self.single_observation_space = spaces.Box(0, 255, (pixels, pixels, 3), np.uint8)
        self.single_action_space = spaces.Discrete(len(ACTIONS))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start all episodes; the same seed draws the same levels."""
        super().reset(seed=self.seed if seed is None else seed)
        self.cell_B2 = np.zeros((self.num_envs, 2), np.int64)
        self.age_B, self.over_B = np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs, bool)
        self.start(np.ones(self.num_envs, bool))
        return self.frames(), {}

    def start(self, new_B: np.ndarray) -> None:
        """New episodes where asked for."""
        if not isinstance(self.source, Levels):
            drawn = self.source(int(new_B.sum()), self.np_random)
            kept = {name: getattr(self.levels, name).copy() for name in ("walls_LYX", "start_L2", "goal_L2")}
            for name, values in kept.items():
                values[new_B] = getattr(drawn, name)
            self.levels = Levels(**kept)
        self.cell_B2[new_B], self.age_B[new_B] = self.levels.start_L2[new_B], 0

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of all games: frames, rewards, terminated, truncated, and an empty info."""
        actions_B = as_actions(actions, (self.num_envs,), len(ACTIONS)).cpu().numpy()
        new_B, side = self.over_B, self.levels.walls_LYX.shape[-1]
        to_B2 = np.clip(self.cell_B2 + MOVES_YX[actions_B], 0, side - 1)
        is_wall_B = self.levels.walls_LYX[np.arange(self.num_envs), to_B2[:, 0], to_B2[:, 1]]
        self.cell_B2 = np.where(is_wall_B[:, None], self.cell_B2, to_B2)
        self.age_B += 1
        if new_B.any():
            self.start(new_B)
        there_B = (self.cell_B2 == self.levels.goal_L2).all(1) & ~new_B
        terminated_B = there_B & (not self.dark)
        truncated_B = (self.age_B >= self.horizon) & ~terminated_B
        self.over_B = terminated_B | truncated_B
        return self.frames(), there_B.astype(np.float64), terminated_B, truncated_B, {}

    def frames(self) -> np.ndarray:
        """The present frames, uint8 ``BHWC``."""
        each_B, levels = np.arange(self.num_envs), self.levels
        cells_BYXC = np.where(levels.walls_LYX[..., None], WALL, FLOOR)
        if not self.dark:
            cells_BYXC[each_B, levels.goal_L2[:, 0], levels.goal_L2[:, 1]] = GOAL
        frames_BHWC = cells_BYXC.repeat(CELL, 1).repeat(CELL, 2)
        inside = np.arange(CELL)
        rows_BH, columns_BW = (CELL * self.cell_B2[:, axis, None] + inside for axis in (0, 1))
        frames_BHWC[each_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]] = SPRITE
        return frames_BHWC

    def best_actions(self) -> np.ndarray:
        """An action of a shortest path to the goal for each game, int64 ``B``: what an expert plays."""
        each_B, far_BYX = np.arange(self.num_envs), distances(self.levels)
        side = far_BYX.shape[-1]
        to_AB2 = np.clip(self.cell_B2 + MOVES_YX[:, None], 0, side - 1)
        far_AB = far_BYX[each_B, to_AB2[..., 0], to_AB2[..., 1]]
        return np.where(far_AB < 0, side * side, far_AB).argmin(0)
