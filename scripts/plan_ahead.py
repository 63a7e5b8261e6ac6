"""Plan ahead in a world: how fast, and how far it helps in two real games.

python scripts/plan_ahead.py speed --world platforms
python scripts/plan_ahead.py game runs/known
python scripts/plan_ahead.py rooms runs/rooms_in_dream/0

The game is the synthetic one (`jinn.data.synthetic`). In each level, which no training has seen, the policy is shown a
picture of the goal: the player some cells away from where they stand. An episode is won when the game shows that
picture. Policies plan in a world that learned with the game's own actions (``jinn train stores/game --out runs/known
--recipe tiny --actions known``); beside them are random actions and each direction held, which see nothing.

Rooms are the harder game (`jinn.agents.rooms`): goals are up to eleven steps away, and behind walls. Its world, and
what sees a reward there, are those of `rooms_in_dream.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from rooms_in_dream import HORIZON, SAMPLING, held_out
from torch import Tensor

from jinn.agents.baselines import constant_action, random_actions
from jinn.agents.plan import Method, PlanConfig, Planner, beam_search, cross_entropy, random_shooting
from jinn.agents.play import Policy, play
from jinn.agents.rooms import Rooms
from jinn.data.synthetic import ACTIONS, CELL, draw, new_board, walk
from jinn.env import WorldVectorEnv
from jinn.evaluation.estimate import bootstrap
from jinn.rewards import GoalImage, RewardHead
from jinn.world.world import World

sys.path.insert(0, str(Path(__file__).parent.parent))  # another package of the name may be installed

from benchmarks.measure import interleaved

METHODS: dict[str, Method] = {
    "beam search": beam_search,
    "random shooting": random_shooting,
    "cross-entropy method": cross_entropy,
}
FIRST_LEVEL = 1_000_000  # stores of the game begin at small seeds


class Errand(VectorEnv[Any, Any, Any]):
    """One level of the synthetic game, as an environment of one: a reward of 1 ends the episode at the goal.

    Args:
        level: seed of board, start and goal.
        distance: number of cells from the start to the goal.
        steps: number of steps after which an episode is truncated.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 Gymnasium's own form

    def __init__(self, level: int, distance: int, steps: int, size_hw: tuple[int, int] = (32, 32)) -> None:
        rng = np.random.default_rng(level)
        self.grid, self.board_HWC = np.array(size_hw) // CELL, new_board(rng, size_hw)
        cells = np.stack(np.meshgrid(*map(np.arange, self.grid), indexing="ij"), -1).reshape(-1, 2)
        self.start = rng.permutation(cells)[0]
        away = cells[np.abs(cells - self.start).sum(1) == distance]
        self.goal = rng.permutation(away)[0]
        self.goal_HWC = draw(self.board_HWC, self.goal)
        self.num_envs, self.steps = 1, steps
        self.single_observation_space = spaces.Box(0, 255, (*size_hw, 3), np.uint8)
        self.single_action_space = spaces.Discrete(len(ACTIONS))

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Back to the start."""
        self.cell, self.age, self.over = self.start, 0, False
        return draw(self.board_HWC, self.cell)[None], {}

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        """One step of the player."""
        if self.over:
            return self.reset()[0], np.zeros(1), np.zeros(1, bool), np.zeros(1, bool), {}
        self.cell, self.age = walk(self.cell, int(actions[0]), self.grid), self.age + 1
        there = bool((self.cell == self.goal).all())
        self.over = there or self.age == self.steps
        frame = draw(self.board_HWC, self.cell)[None]
        return frame, np.array([float(there)]), np.array([there]), np.array([self.over and not there]), {}


def game(
    world: str,
    /,
    levels: int = 40,
    distance: int = 3,
    steps: int = 6,
    candidates: int = 30,
    plan: PlanConfig = PlanConfig(moves=4, discount=0.95),  # noqa: B008 it is frozen
    close: float = 1.0,
    methods: tuple[str, ...] = tuple(METHODS),
    seed: int = 0,
) -> None:
    """Measure how often each policy reaches the goal.

    Args:
        world: A world of the synthetic game that learned with known actions.
        levels: Number of levels.
        distance: Cells from the start to the goal.
        steps: Steps of an episode.
        candidates: Number of candidates that are tried at once.
        plan: How far a plan looks ahead.
        close: Mean difference of pixels at which a dreamed picture counts as the goal.
        methods: Which methods plan.
        seed: Seed of plans and actions.
    """
    dream = WorldVectorEnv(candidates, World.load(world))
    generator = torch.Generator().manual_seed(seed)

    def planner(method: Method) -> Callable[[Errand], Policy]:
        def policy(errand: Errand) -> Policy:
            dream.reward = GoalImage(errand.goal_HWC, close)
            return Planner(dream, method, plan, seed=seed)

        return policy

    policies: dict[str, Callable[[Errand], Policy]] = {
        "random actions": lambda _: random_actions(len(ACTIONS), generator)
    }
    for action, name in enumerate(ACTIONS[1:], 1):
        policies[f"{name} held"] = lambda _, action=action: constant_action(action)  # type: ignore[misc]
    policies |= {name: planner(METHODS[name]) for name in methods}
    for name, policy in policies.items():
        errands = [Errand(FIRST_LEVEL + level, distance, steps) for level in range(levels)]
        won = bootstrap(np.concatenate([play(errand, policy(errand), 1) for errand in errands]), seed)
        print(f"{name}: {won.value:.2f} [{won.low:.2f}, {won.high:.2f}] of {levels} levels", flush=True)


def rooms(
    folder: Path,
    /,
    levels: int = 64,
    candidates: int = 100,
    methods: tuple[str, ...] = tuple(METHODS),
    plan: PlanConfig = PlanConfig(moves=12, play=4, discount=0.95),  # noqa: B008 it is frozen
    seed: int = 0,
) -> None:
    """Reach goals in rooms that no training has seen, by plans that are made in a world.

    Args:
        folder: Of one seed of `rooms_in_dream.py`.
        levels: Number of levels; each is played once.
        candidates: Plans that are tried at once.
        methods: Names of methods.
        plan: How far they look ahead, and how much is played before the next plan.
        seed: Seed of all that is random.
    """
    head = RewardHead.load(folder / "head.safetensors")
    dream = WorldVectorEnv(candidates, folder / "run" / "world", reward=head, sampling=SAMPLING)
    tests = held_out(levels)
    policies: dict[str, Policy] = {
        "random actions": random_actions(len(ACTIONS), torch.Generator().manual_seed(seed))
    }
    policies |= {name: Planner(dream, METHODS[name], plan, seed=seed) for name in methods}
    for name, policy in policies.items():
        won = bootstrap(play(Rooms(tests, horizon=HORIZON), policy, levels), seed)
        print(f"{name}: {won.value:.2f} [{won.low:.2f}, {won.high:.2f}] of {levels} rooms", flush=True)


def speed(
    world: str = "platforms",
    candidates: tuple[int, ...] = (8, 32),
    moves: tuple[int, ...] = (4, 12),
    turns: int = 3,
    seed: int = 0,
) -> None:
    """Time one plan of each method; medians of alternating runs.

    Args:
        world: A world, by name or folder.
        candidates: Numbers of candidates.
        moves: Numbers of moves of a plan.
        turns: Timed plans of each kind.
        seed: Seed of the plans.
    """
    loaded = World.load(world)
    runs: dict[str, Callable[[], object]] = {}
    for count in candidates:
        dream = WorldVectorEnv(count, loaded)
        for length in moves:
            for method_name, method in METHODS.items():
                if method is beam_search and count < loaded.num_actions:
                    continue
                planner = Planner(dream, method, PlanConfig(length), seed=seed)
                name = f"{method_name}, {count} candidates, {length} moves"
                runs[name] = one_plan(planner, loaded.prompts[:1], seed)
    for name, seconds in interleaved(runs, turns).items():
        print(f"{name}: {1 / seconds:.3f} plans a second", flush=True)


def one_plan(planner: Planner, frames_THWC: Tensor, seed: int) -> Callable[[], object]:
    """A function that makes one plan from these frames."""
    kept, generator = torch.zeros(0, dtype=torch.long), torch.Generator().manual_seed(seed)
    return lambda: planner.plan(frames_THWC, kept, generator)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"game": game, "rooms": rooms, "speed": speed})
