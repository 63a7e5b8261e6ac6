"""The set like the paper's Robotics: `jinn data` reads what its script writes, and its recipe learns from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers_training import SMALL
from jinn.contracts import JinnError
from jinn.data.ingest import ingest
from jinn.data.store import FrameStore
from jinn.overrides import override
from jinn.recipes import load_recipe
from jinn.training.run import run_recipe

parquet = pytest.importorskip(
    "pyarrow.parquet", reason="LOUD: robots cannot be tested without the extra 'datasets'"
)
import robots  # noqa: E402 it needs pyarrow


def lines(number: int) -> Iterator[robots.Attempt]:
    """Three attempts: grey pictures of 20 more than the one before, and a hand that goes along an axis each."""
    for axis in range(3):
        length = 16 + axis
        frames_THWC = np.full((length, 90, 160, 3), 40 + 60 * number, np.uint8) + np.uint8(20 * axis)
        hands_T3 = np.zeros((length, 3), np.float32)
        hands_T3[:, axis] = np.linspace(0, 0.01 * (-1) ** number * length, length)
        yield robots.Attempt(frames_THWC, np.full((length, 4), number, np.float32), hands_T3)


@pytest.fixture(scope="module")
def robot_store(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    """A data set of two tasks that were made up, as a store."""
    out = tmp_path_factory.mktemp("robots")
    for number, task in enumerate(("push", "pull")):
        robots.write_task(out / "set", number, task, lines(number), 3)
    robots.write_info(out / "set", ("push", "pull"))
    ingest([str(out / "set")], out / "store", size_hw=(90, 160))
    return FrameStore.open(out / "store")


def test_a_robots_data_set_is_read_as_it_was_written(robot_store: FrameStore) -> None:
    assert (robot_store.fps, robot_store.action_names) == (20, robots.MOTIONS)
    assert robot_store.lengths.tolist() == [16, 17, 18] * 2
    tasks = [robot_store.source(i).split(": ")[1] for i in range(6)]
    assert tasks == ["push"] * 3 + ["pull"] * 3
    grey = [robot_store.frames(i, 0, int(n)).mean((1, 2, 3)) for i, n in enumerate(robot_store.lengths)]
    for frames, wanted in zip(grey, (40, 60, 80, 100, 120, 140), strict=True):
        np.testing.assert_allclose(frames, wanted, atol=2)
    actions = [robot_store.actions(i, 0, 15) for i in range(6)]
    names = [robots.MOTIONS[action] for row in actions if row is not None for action in set(row.tolist())]
    assert names == ["right", "forward", "up", "left", "back", "down"]


def test_a_robots_true_actions_are_kept_beside_its_motion(robot_store: FrameStore) -> None:
    tables = sorted((robot_store.path.parent / "set" / "data").rglob("*.parquet"))
    rows = [row for table in tables for row in parquet.read_table(table).to_pylist()]
    assert [row["index"] for row in rows] == list(range(102))
    assert [row["action.robot"] for row in rows] == [[0.0] * 4] * 51 + [[1.0] * 4] * 51


def test_small_motion_is_still() -> None:
    hands_T3 = np.array([[0, 0, 0], [0.003, -0.003, 0], [0.003, -0.02, 0.01], [0.003, -0.02, 0.02]])
    assert [robots.MOTIONS[number] for number in robots.motions(hands_T3)] == ["still", "back", "up", "still"]


def test_a_set_of_other_robots_is_left_alone(robot_store: FrameStore) -> None:
    root = robot_store.path.parent / "set"
    robots.write_task(root, 0, "push", iter(()), 3)  # it is there already
    for task, episodes in (("push", 4), ("pull", 3)):
        with pytest.raises(JinnError, match="other tasks or another number"):
            robots.write_task(root, 0, task, lines(0), episodes)


def test_a_set_of_another_seed_is_refused(tmp_path: Path) -> None:
    robots.keep_seed(tmp_path / "set", 3)
    robots.keep_seed(tmp_path / "set", 3)
    with pytest.raises(JinnError, match="begun with --seed 3"):
        robots.keep_seed(tmp_path / "set", 4)


@pytest.mark.long
def test_the_recipe_learns_from_robots(robot_store: FrameStore, tmp_path: Path) -> None:
    recipe = override(load_recipe("robotics_cpu"), SMALL)
    world = run_recipe(recipe, robot_store, tmp_path / "run", "robots")
    assert (world.size_hw, world.fps) == ((90, 160), 20)


@pytest.mark.slow
def test_experts_are_filmed(tmp_path: Path) -> None:
    """The hand goes where it is told, and the pictures show it."""
    pytest.importorskip(
        "metaworld", reason="Meta-World IS MISSING: install the extra 'robots' to test its filming"
    )
    robots.main(tmp_path / "set", episodes=2, tasks=("reach",))
    ingest([str(tmp_path / "set")], tmp_path / "store", size_hw=(90, 160))
    store = FrameStore.open(tmp_path / "store")
    frames_THWC = store.frames(0, 0, int(store.lengths[0]))
    assert frames_THWC.std() > 20
    assert np.abs(frames_THWC[0].astype(int) - frames_THWC[-1]).max() > 50
    [table] = (tmp_path / "set" / "data").rglob("*.parquet")
    columns = parquet.read_table(
        table, columns=["action.robot", "observation.state", "frame_index"]
    ).to_pydict()
    told, hands = np.array(columns["action.robot"])[:, :3], np.array(columns["observation.state"])
    inside = np.array(columns["frame_index"])[1:] > 0
    assert np.corrcoef(told[:-1][inside].ravel(), np.diff(hands, axis=0)[inside].ravel())[0, 1] > 0.5
