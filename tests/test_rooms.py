"""The game in rooms: its levels, its steps, and that a shortest path is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plan_ahead
import pytest
import rooms as script
import rooms_cloning as cloning
import rooms_in_dream as dream
from PIL import Image

from jinn.agents.clone import CloneConfig
from jinn.agents.curriculum import CurriculumConfig
from jinn.agents.distill import DistillConfig
from jinn.agents.illuminate import SearchConfig
from jinn.agents.network import Network
from jinn.agents.offline import OfflineConfig
from jinn.agents.plan import PlanConfig
from jinn.agents.ppo import PPOConfig
from jinn.agents.rooms import Levels, Rooms, distances, edited, empty_rooms, path_lengths, random_levels
from jinn.contracts import JinnError
from jinn.data.synthetic import ACTIONS, CELL, SPRITE

STAY, LEFT, RIGHT, UP, DOWN = range(5)


def corridor() -> Levels:
    """A level of 3 x 3 cells: from the top left around a wall to the bottom left.

    . . .
    # # .
    G . .
    """
    walls = np.zeros((1, 3, 3), bool)
    walls[0, 1, :2] = True
    return Levels(walls, np.array([[0, 0]]), np.array([[2, 0]]))


def walk(levels: Levels, actions: list[int], **options: object) -> list[tuple[float, bool, bool]]:
    """Reward, terminated and truncated after each action, in one game."""
    game = Rooms(levels, **options)  # type: ignore[arg-type]
    game.reset()
    found = []
    for action in actions:
        _, rewards, terminated, truncated, _ = game.step(np.array([action]))
        found.append((float(rewards[0]), bool(terminated[0]), bool(truncated[0])))
    return found


def test_distances_go_around_walls() -> None:
    assert distances(corridor())[0].tolist() == [[6, 5, 4], [-1, -1, 3], [0, 1, 2]]


def test_walls_stop_and_the_goal_pays_and_ends() -> None:
    around = [RIGHT, RIGHT, DOWN, DOWN, LEFT, LEFT]
    assert walk(corridor(), [DOWN, UP, LEFT, *around])[-1] == (1.0, True, False)
    assert [reward for reward, *_ in walk(corridor(), [DOWN, UP, LEFT, *around])] == [0.0] * 8 + [1.0]


def test_an_episode_is_cut_off_at_the_horizon_and_the_next_step_starts_another() -> None:
    steps = walk(corridor(), [RIGHT, RIGHT, DOWN, DOWN, LEFT], horizon=3)
    assert [truncated for *_, truncated in steps] == [False, False, True, False, False]
    game = Rooms(corridor(), horizon=2)
    first = game.reset()[0]
    game.step(np.array([RIGHT]))
    game.step(np.array([RIGHT]))
    again, rewards, *_ = game.step(np.array([RIGHT]))
    assert (again == first).all()
    assert rewards[0] == 0.0


def test_in_the_dark_the_goal_is_not_seen_and_pays_for_every_step() -> None:
    here = Levels(np.zeros((1, 3, 3), bool), np.array([[0, 0]]), np.array([[0, 1]]))
    there = Levels(np.zeros((1, 3, 3), bool), np.array([[0, 0]]), np.array([[2, 2]]))
    assert (Rooms(here, dark=True).reset()[0] == Rooms(there, dark=True).reset()[0]).all()
    assert (Rooms(here).reset()[0] != Rooms(there).reset()[0]).any()
    steps = walk(here, [RIGHT, STAY, STAY, LEFT], dark=True, horizon=4)
    assert [reward for reward, *_ in steps] == [1.0, 1.0, 1.0, 0.0]
    assert not any(terminated for _, terminated, _ in steps)


def test_the_picture_shows_player_walls_and_goal() -> None:
    frame = Rooms(corridor()).reset()[0][0]
    assert frame.shape == (3 * CELL, 3 * CELL, 3)
    assert (frame[:CELL, :CELL] == SPRITE).all()
    cells = frame.reshape(3, CELL, 3, CELL, 3)
    wall, floor, goal = cells[1, 0, 0, 0], cells[0, 0, 1, 0], cells[2, 0, 0, 0]
    assert len({tuple(color) for color in (wall, floor, goal)}) == 3


def test_drawn_and_edited_levels_can_be_solved_by_the_shortest_path() -> None:
    rng = np.random.default_rng(0)
    levels = random_levels(200, rng)
    children = edited(levels, rng)
    assert len(levels) == 200
    assert len(children) > 100
    for some in (levels, children):
        game = Rooms(some, horizon=60)
        game.reset()
        steps = np.zeros(len(some), np.int64)
        for step in range(1, 41):
            terminated = game.step(game.best_actions())[2]
            steps[terminated & (steps == 0)] = step
        assert (steps == path_lengths(some)).all()
    assert not empty_rooms(5, rng).walls_LYX.any()


def test_a_seed_draws_the_same_levels() -> None:
    frames = [Rooms(num_envs=8).reset(seed=seed)[0] for seed in (1, 1, 2)]
    assert (frames[0] == frames[1]).all()
    assert (frames[0] != frames[2]).any()


@pytest.mark.parametrize("action", [-1, len(ACTIONS)])
def test_actions_that_do_not_exist_are_refused(action: int) -> None:
    with pytest.raises(JinnError):
        walk(corridor(), [action])


def test_the_script_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agents, picture = tmp_path / "agents", tmp_path / "failures.png"
    few = OfflineConfig(steps=3, batch=8)
    script.offline(agents, seeds=2, players=8, steps=30, config=few, levels=8)
    assert "weighted less all" in capsys.readouterr().out
    script.failing(agents / "1", out=picture, search=SearchConfig(rounds=2, batch=16), tries=1, again=1)
    assert "judged again" in capsys.readouterr().out
    assert Image.open(picture).height == script.SIDE * CELL * CELL
    chosen = CurriculumConfig(keep=4, candidates=8, tries=2, every=1)
    script.curricula(2, PPOConfig(64 * 2 * 2, minibatches=1, epochs=1, length=2), chosen, levels=8)
    assert "less domain randomisation" in capsys.readouterr().out
    script.distilled(
        seeds=2, episodes=8, copies=1, config=DistillConfig(context=20, steps=2, batch=2), played=3
    )
    assert "cloning of the last fifth, known goals, by episode" in capsys.readouterr().out


@pytest.mark.long
def test_an_agent_learns_in_a_dream_of_rooms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All parts of the script, each far too short; a second call reads what the first one learned."""
    short = ("tokenizer", "latent_action", "dynamics", "self_rollout")
    for _ in range(2):
        dream.main(
            out=tmp_path,
            seeds=1,
            players=32,
            steps=60,
            config=PPOConfig(64, length=8, minibatches=1),
            copy=OfflineConfig(steps=2),
            num_envs=4,
            levels=8,
            settings=(*dream.SMALL, *(f"{phase}_training.steps=2" for phase in short)),
        )
    printed = capsys.readouterr().out
    for row in (
        "PPO in the dream",
        "PPO in the dream, where it learned",
        "PPO in the game",
        "copies weighted",
    ):
        assert printed.count(f"seeds 0 to 0, {row}: ") == 2
    assert "PPO in the dream less copies all: " in printed
    assert Network.load(tmp_path / "0" / "dream").config == dream.SIZES
    plan_ahead.rooms(tmp_path / "0", 2, candidates=5, plan=PlanConfig(moves=2))
    planned = capsys.readouterr().out
    assert all(f"{name}: " in planned for name in plan_ahead.METHODS)


@pytest.mark.long
def test_latent_actions_label_an_expert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All rows of the script, each learned far too shortly; the oracle of enough steps finds the way."""
    cloning.main(
        out=tmp_path,
        seeds=1,
        players=16,
        steps=60,
        expert_steps=40,
        labelled=(50,),
        cloning=CloneConfig(steps=200, shift=0),
        levels=64,
        settings=(*cloning.SHORT, "latent_action_training.steps=2"),
    )
    printed = dict(line.rsplit(": ", 1) for line in capsys.readouterr().out.splitlines())
    share = {name.removeprefix("seeds 0 to 0, "): float(row.split()[0]) for name, row in printed.items()}
    assert share["the oracle"] > share["random actions"] + 0.1
    assert share["the oracle"] > share["a clone of 50 of the expert's steps alone"]
    for whose in ("the expert's", "the players'"):
        assert f"latent actions, a dictionary of 50 of {whose} steps" in share
    assert "known actions, seen by a model of them, less the oracle" in share


def test_genes_make_every_level() -> None:
    genes = np.zeros((2, script.SIDE**2 + 2))
    genes[:, 3], genes[0, -2:], genes[1, -2:] = 1.0, (0.999, 0.2), (0.0, 1.0)
    levels = script.level_of(genes)
    assert levels.walls_LYX.sum((1, 2)).tolist() == [1, 1]
    assert levels.walls_LYX[:, 0, 3].all()
    assert levels.start_L2.tolist() == [[5, 5], [0, 0]]
    assert levels.goal_L2.tolist() == [[1, 1], [5, 5]]
