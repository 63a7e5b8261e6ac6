"""Planning: in a maze whose shortest way is known, and in a tiny world."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium", reason="agents need gymnasium")

from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402

from jinn.agents.baselines import random_actions  # noqa: E402
from jinn.agents.plan import (  # noqa: E402
    Lookahead,
    Method,
    PlanConfig,
    Planner,
    beam_search,
    cross_entropy,
    random_shooting,
)
from jinn.agents.play import play  # noqa: E402
from jinn.contracts import JinnError  # noqa: E402
from jinn.env import WorldVectorEnv  # noqa: E402
from tiny_world import tiny_world  # noqa: E402

# From the upper left to G, which earns 1; x ends the episode, and so does G.
MAZE = np.array([list(row) for row in ("..x.", ".x..", "...G")])
MOVES = np.array([(0, -1), (0, 1), (-1, 0), (1, 0)])
LEFT, RIGHT, UP, DOWN = range(4)
SHORTEST = [DOWN, DOWN, RIGHT, RIGHT, RIGHT]
NOTHING = torch.zeros(0, dtype=torch.long)


class Maze(VectorEnv[Any, Any, Any]):
    """A frame has one white pixel: the player, who moves by one cell or stays at the edge."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 Gymnasium's own form

    def __init__(self, num_envs: int, horizon: int = 12) -> None:
        self.num_envs, self.horizon = num_envs, horizon
        self.single_action_space = gymnasium.spaces.Discrete(4)
        self.at = np.zeros((num_envs, 2), int)
        self.age, self.over = np.zeros(num_envs, int), np.zeros(num_envs, bool)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        options = options or {}
        if "fork" in options:
            rows = np.broadcast_to(options["fork"], self.num_envs)
            self.at, self.age, self.over = self.at[rows], self.age[rows], self.over[rows]
            return self.show(), {}
        rows = np.flatnonzero(options.get("reset_mask", np.ones(self.num_envs, bool)))
        self.at[rows], self.age[rows], self.over[rows] = 0, 0, False
        if "frames" in options:
            self.at[rows] = np.argwhere(options["frames"][-1, :, :, 0])[0]
        return self.show(), {}

    def show(self) -> np.ndarray:
        frames = np.zeros((self.num_envs, 3, 4, 3), np.uint8)
        frames[np.arange(self.num_envs), self.at[:, 0], self.at[:, 1]] = 255
        return frames

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        new = self.over
        self.at = np.where(new[:, None], 0, np.clip(self.at + MOVES[actions], 0, (2, 3)))
        self.age = np.where(new, 0, self.age + 1)
        cells = MAZE[self.at[:, 0], self.at[:, 1]]
        terminated = ~new & np.isin(cells, ["x", "G"])
        truncated = ~terminated & (self.age == self.horizon)
        self.over = terminated | truncated
        return self.show(), np.where(new, 0.0, cells == "G"), terminated, truncated, {}


def in_the_corner() -> torch.Tensor:
    return torch.from_numpy(Maze(1).reset()[0])


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


METHODS: list[tuple[Method, int]] = [
    (random_shooting, 4096),
    (cross_entropy, 512),
    (beam_search, 32),
]


@pytest.mark.parametrize(("method", "candidates"), METHODS)
def test_each_method_finds_the_shortest_way(method: Method, candidates: int) -> None:
    planner = Planner(Maze(candidates), method, PlanConfig(moves=7, discount=0.9))
    assert planner.plan(in_the_corner(), NOTHING, chance()).tolist()[:5] == SHORTEST
    assert play(Maze(2, horizon=7), planner, 2).tolist() == [1.0, 1.0]
    assert play(Maze(50, horizon=7), random_actions(4, chance()), 400).mean() < 0.1


def test_the_cross_entropy_method_needs_its_rounds() -> None:
    """With as many candidates one round is random shooting, which rarely finds a way of one in 4^5."""

    def found(rounds: int) -> int:
        method = partial(cross_entropy, rounds=rounds)
        planner = Planner(Maze(192), method, PlanConfig(moves=7, discount=0.9))
        plans = [planner.plan(in_the_corner(), NOTHING, chance(seed)) for seed in range(10)]
        return sum(plan.tolist()[:5] == SHORTEST for plan in plans)

    assert found(1) <= 5
    assert found(6) >= 8


def written_out(plan: list[int], hold: int, discount: float, horizon: int) -> float:
    """The score of a plan from its definition, in an environment of one."""
    envs, score, weight = Maze(1, horizon), 0.0, 1.0
    envs.reset()
    for action in np.repeat(plan, hold):
        frames, rewards, terminated, truncated, _ = envs.step(np.array([action]))
        score += weight * rewards[0]
        weight *= discount
        if terminated[0]:
            return score
        if truncated[0]:
            break
    return score + weight * float(lower_right(torch.from_numpy(frames))[0])


def lower_right(frames_BHWC: torch.Tensor) -> torch.Tensor:
    """A value that grows downwards and to the right."""
    at_B2 = torch.stack([frame[:, :, 0].nonzero()[0] for frame in frames_BHWC])
    return at_B2.sum(1) / 10


@pytest.mark.parametrize("horizon", [12, 3])
@pytest.mark.parametrize("hold", [1, 2])
def test_scores_are_discounted_returns_with_a_value_where_an_episode_goes_on(hold: int, horizon: int) -> None:
    plans_NK = torch.randint(4, (64, 4), generator=chance())
    plans_NK[:2] = torch.tensor([SHORTEST[:4], [DOWN, RIGHT, DOWN, RIGHT]])
    config, dream = PlanConfig(moves=4, hold=hold, discount=0.8), Maze(64, horizon)
    dream.reset()
    scores_N = Lookahead(dream, config, lower_right, in_the_corner(), 0).evaluate(plans_NK)
    expected = [written_out(plan, hold, 0.8, horizon) for plan in plans_NK.tolist()]
    assert scores_N.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("method", [random_shooting, cross_entropy, beam_search])
def test_a_value_leads_where_no_reward_is_in_sight(method: Method) -> None:
    """Two moves see no goal. Without a value nothing is better than anything else."""
    planner = Planner(Maze(64), method, PlanConfig(moves=2), value=lower_right)
    assert planner.plan(in_the_corner(), NOTHING, chance()).tolist() == [DOWN, DOWN]
    blind = Planner(Maze(64), method, PlanConfig(moves=2))
    assert len({tuple(blind.plan(in_the_corner(), NOTHING, chance(seed)).tolist()) for seed in range(8)}) > 1


def test_the_first_moves_are_played_and_the_rest_begins_the_next_plan() -> None:
    kept_plans = []

    def method(ahead: Lookahead, kept: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        kept_plans.append((kept.tolist(), len(ahead.start_THWC)))
        return torch.tensor([DOWN, RIGHT, UP])

    config = PlanConfig(moves=3, hold=2, play=2, context=3)
    planner = Planner(Maze(2), method, config, actions=[10, 11, 12, 13])
    frame = in_the_corner()
    assert [int(planner(frame)) for _ in range(6)] == [13, 13, 11, 11, 13, 13]
    assert kept_plans == [([], 1), ([UP], 3)]
    planner.begin([0], [True])
    assert int(planner(frame)) == 13
    assert kept_plans[-1] == ([], 1)


def test_a_plan_is_kept_until_there_is_a_better_one() -> None:
    """With one candidate that is the last plan itself."""
    planner = Planner(Maze(1), random_shooting, PlanConfig(moves=5))
    plan = torch.tensor([UP, LEFT, UP, LEFT, UP])
    assert planner.plan(in_the_corner(), plan[1:], chance()).tolist()[:4] == plan[1:].tolist()
    for seed in range(4):
        for method in (random_shooting, cross_entropy, beam_search):
            planner = Planner(Maze(8), method, PlanConfig(moves=4))
            assert planner.plan(in_the_corner(), plan[:4], chance(seed)).tolist() == plan[:4].tolist()


def test_a_game_is_planned_for_alike_beside_any_others() -> None:
    frames = torch.from_numpy(Maze(3).reset()[0])

    def actions(rows: list[int]) -> torch.Tensor:
        planner = Planner(Maze(4), random_shooting, PlanConfig(moves=3), seed=7)
        steps = []
        for t in range(8):
            planner.begin(rows, [t == 0] * len(rows))
            steps.append(planner(frames[rows]))
        return torch.stack(steps, 1)

    together = actions([0, 1, 2])
    assert len(together.unique(dim=0)) == 3
    assert torch.equal(actions([2, 1]), together[[2, 1]])


def test_wrong_settings_are_one_sentence() -> None:
    world = tiny_world()
    with pytest.raises(JinnError, match="at least 4 environments"):
        Planner(Maze(3))(in_the_corner())
    with pytest.raises(JinnError, match="actions are integers"):
        Planner(Maze(3), actions=[0, 1, 2])
    with pytest.raises(JinnError, match='autoreset_mode="NextStep"'):
        Planner(WorldVectorEnv(1, world, autoreset_mode="SameStep"))
    for options in ({"moves": 0}, {"moves": 2, "play": 3}, {"discount": 1.5}):
        with pytest.raises(JinnError, match=r"at (most|least)"):
            PlanConfig(**options)  # type: ignore[arg-type]


def test_plans_in_a_world() -> None:
    """They are the same again, score what they then earn, and leave the roll-outs of others as they are."""
    world = tiny_world()

    def brighter(before: torch.Tensor, _: Any, after: torch.Tensor) -> tuple[torch.Tensor, bool]:
        return after.float().mean((1, 2, 3)) - before.float().mean((1, 2, 3)), False

    every = torch.cartesian_prod(*[torch.arange(3)] * 2)  # plans of two moves
    dream = WorldVectorEnv(len(every), world, reward=brighter, actions=[0, 1, 2])

    def rolled(policy: Any) -> tuple[list[int], np.ndarray]:
        game = WorldVectorEnv(1, world)
        frames, actions = [game.reset(seed=3)[0]], []
        for _ in range(2):
            actions.append(int(policy(torch.from_numpy(frames[-1]))[0]))
            frames.append(game.step(actions[-1:])[0])
        return actions, np.stack(frames)

    config = PlanConfig(moves=2, context=2)
    actions, frames = rolled(Planner(dream, config=config))
    assert rolled(Planner(dream, config=config))[0] == actions
    played = iter(actions)
    assert np.array_equal(rolled(lambda _: [next(played)])[1], frames)

    start_THWC = torch.from_numpy(frames[:2, 0])
    ahead = Lookahead(dream, config, None, start_THWC, seed=5)
    plan = beam_search(ahead, NOTHING, chance())
    alone = WorldVectorEnv(1, world, reward=brighter, as_tensors=True)
    alone.reset(seed=5, options={"frames": start_THWC})
    first, second = (float(alone.step([action])[1][0]) for action in plan.tolist())
    scores_N = ahead.evaluate(every)
    assert first + config.discount * second == pytest.approx(float(scores_N.max()))
    tensors = Lookahead(alone, config, None, start_THWC, seed=5)
    assert float(tensors.evaluate(plan[None])) == pytest.approx(float(scores_N.max()))
