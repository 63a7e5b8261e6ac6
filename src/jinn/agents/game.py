"""The real game behind Gymnasium's vector interface: agents of a learned environment play it unchanged."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from jinn.contracts import JinnError, as_actions
from jinn.data.games import PROCGEN_FPS, make_envpool

# Level seeds (first, count) that agents learn on, and that they are measured on.
TRAIN_LEVELS, TEST_LEVELS = (0, 10_000), (20_000, 1_000)
# Reward for the end of a level in CoinRun, Climber, Jumper and Ninja; a star earns less.
SOLVED = 10.0


def number_of_actions(name: str) -> int:
    """How many actions a game of EnvPool has."""
    return int(make_envpool(name, 0, None, 1).action_space.n)


class Game(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Procgen's games, many at a time, with their rewards; the step after an episode's last starts the next.

    Args:
        name: of EnvPool, such as ``CoinrunHard-v0``.
        num_envs: B.
        levels: first level seed and number of levels; None plays all there are.
        seed: of the levels' order, until `reset` is given another one.
        render_mode: "rgb_array" or None.

    Raises:
        JinnError: no such game, or EnvPool is not installed.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 Gymnasium's own form
        "render_modes": ["rgb_array"],
        "render_fps": PROCGEN_FPS,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        name: str = "CoinrunHard-v0",
        num_envs: int = 16,
        levels: tuple[int, int] | None = None,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise JinnError("num_envs must be at least 1")
        self.name, self.num_envs, self.levels, self.render_mode = name, num_envs, levels, render_mode
        self.pool = make_envpool(name, seed, levels, num_envs)
        space = self.pool.observation_space
        self.single_observation_space = spaces.Box(0, 255, space.shape, np.uint8)
        self.num_actions = int(self.pool.action_space.n)
        self.single_action_space = spaces.Discrete(self.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start all episodes; a seed restarts the order of the levels."""
        super().reset(seed=seed)
        if seed is not None:
            self.pool.close()
            self.pool = make_envpool(self.name, seed, self.levels, self.num_envs)
        self.frames_BHWC, info = self.pool.reset()
        return self.frames_BHWC.copy(), {"level_seed": info["level_seed"].copy()}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of all games: frames, rewards, terminated, truncated, and the level of each."""
        actions_B = as_actions(actions, (self.num_envs,), self.num_actions).cpu()
        self.frames_BHWC, rewards, terminated, truncated, info = self.pool.step(actions_B.int().numpy())
        levels = {"level_seed": info["level_seed"].copy()}
        return self.frames_BHWC.copy(), rewards, terminated, truncated, levels

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The present frames, where `render_mode` asks for them."""
        return None if self.render_mode is None else tuple(self.frames_BHWC.copy())

    def close_extras(self, **_: Any) -> None:
        """Stop EnvPool's threads."""
        self.pool.close()
