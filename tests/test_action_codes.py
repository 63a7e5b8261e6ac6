"""Continuous actions of data sets as a few codes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from jinn.contracts import JinnError
from jinn.data.action_codes import FILE, ActionCodes, learn_codes
from jinn.data.ingest import ingest
from jinn.data.store import FrameStore
from test_data_sets import SMALL, actions_in, clips_in, lerobot3, minari

pytest.importorskip("scipy", reason="coding continuous actions needs scipy")
h5py = pytest.importorskip("h5py", reason="Minari's data sets need h5py")


def robot(root: Path, names: object = None) -> Path:
    """A data set whose actions are continuous: the picture's number n as [n / 7, -n / 3]."""
    lerobot3(root)
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["action"]["names"] = names
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root


def test_neighbouring_actions_share_a_code(tmp_path: Path) -> None:
    summary = ingest(
        [str(robot(tmp_path / "robot", {"motors": ["x", "y"]}))],
        tmp_path / "out",
        size_hw=SMALL,
        action_codes=4,
    )
    store = FrameStore.open(tmp_path / "out")
    assert (store.num_actions, store.fps) == (4, 30)  # every picture has an action, so all of them are kept
    names = store.action_names or ()
    assert len(set(names)) == 4
    assert {name.partition(" (")[0] for name in names} == {"x- y+", "x+ y-", "middle"}
    assert not any("continuous" in text for _, text in summary.warnings)
    taken: dict[int, int] = {}
    for shown, actions in zip(clips_in(tmp_path / "out"), actions_in(tmp_path / "out"), strict=True):
        assert actions is not None
        assert actions.pop() == -1
        taken |= dict(zip(shown, actions, strict=False))
    codes = [taken[number] for number in sorted(taken)]
    assert set(codes) == set(range(4))
    assert sum(a != b for a, b in pairwise(codes)) == 3  # each code is one stretch of the line
    assert all(codes.count(k) >= codes.count(k + 1) - 2 for k in range(3))  # the most frequent come first


def test_the_codes_stay_with_the_store(tmp_path: Path) -> None:
    source, out = str(robot(tmp_path / "robot")), tmp_path / "out"
    ingest([source], out, size_hw=SMALL, action_codes=3)
    before, codes = actions_in(out), (out / FILE).read_bytes()
    assert ingest([source], out, action_codes=3).resumed == 3
    np.save(tmp_path / "more.npy", np.zeros((20, 32, 32, 3), np.uint8))
    ingest([source, str(tmp_path / "more.npy")], out, action_codes=3)
    assert actions_in(out) == [*before, None]
    assert (out / FILE).read_bytes() == codes
    ingest([source], tmp_path / "again", size_hw=SMALL, action_codes=3)
    assert (tmp_path / "again" / FILE).read_bytes() == codes
    with pytest.raises(JinnError, match="has 3 action codes"):
        ingest([source], out, action_codes=4)
    (out / FILE).write_text('{"mean": 1}')
    with pytest.raises(JinnError, match=r"action_codes\.json.*make the store again"):
        ingest([source], out, action_codes=3)


def test_a_copy_keeps_the_codes_and_other_codes_are_refused(tmp_path: Path) -> None:
    source, copied = str(robot(tmp_path / "robot")), str(tmp_path / "copied")
    for count in (3, 4):
        ingest([source], tmp_path / f"codes {count}", size_hw=SMALL, action_codes=count)
    three, four = (str(tmp_path / f"codes {count}") for count in (3, 4))
    ingest([three], tmp_path / "copied", size_hw=(16, 16))
    assert (tmp_path / "copied" / FILE).read_bytes() == (tmp_path / "codes 3" / FILE).read_bytes()
    for sources, out in (([three, four], "both"), ([four], "copied")):
        with pytest.raises(JinnError, match=r"codes 4.* have other codes of actions: make a store of each"):
            ingest(sources, tmp_path / out)
    assert FrameStore.open(copied).num_episodes == 3


def test_minari_too(tmp_path: Path) -> None:
    root = minari(tmp_path / "game")
    [file] = root.rglob("main_data.hdf5")
    with h5py.File(file, "r+") as opened:
        for episode in opened.values():
            count = len(episode["actions"])
            del episode["actions"]
            episode["actions"] = np.linspace(-1, 1, count, dtype=np.float32)[:, None]
    summary = ingest([str(root)], tmp_path / "left", size_hw=SMALL)
    assert any("--action-codes" in text for _, text in summary.warnings)
    ingest([str(root)], tmp_path / "out", size_hw=SMALL, action_codes=2)
    names = FrameStore.open(tmp_path / "out").action_names
    assert set(names or ()) == {"value 0 -", "value 0 +"}
    for actions in actions_in(tmp_path / "out"):
        assert actions is not None
        assert actions[-1] == -1
        assert sum(a != b for a, b in pairwise(actions[:-1])) == 1


@pytest.mark.parametrize(
    ("count", "told"), [(1, "from 2 to 256"), (257, "from 2 to 256"), (200, "fewer than 200")]
)
def test_a_count_that_cannot_be_is_a_sentence(tmp_path: Path, count: int, told: str) -> None:
    with pytest.raises(JinnError, match=told):
        ingest([str(robot(tmp_path / "robot"))], tmp_path / "out", action_codes=count)
    assert not (tmp_path / "out" / "store.json").exists()


def test_without_continuous_actions_there_is_nothing_to_code(tmp_path: Path) -> None:
    with pytest.raises(JinnError, match="there are none: leave it out"):
        ingest([str(lerobot3(tmp_path / "robot", is_discrete=True))], tmp_path / "out", action_codes=4)


def test_codes_are_the_nearest_centres() -> None:
    values_XD = np.random.default_rng(0).normal(size=(500, 3)) * [1, 10, 0]
    codes = learn_codes(values_XD, 5, None)
    assert isinstance(codes, ActionCodes)
    scaled_XD = (values_XD - codes.mean) / codes.deviation
    apart_XK = np.linalg.norm(scaled_XD[:, None] - np.array(codes.centres), axis=-1)
    assert (codes.of(values_XD) == apart_XK.argmin(1)).all()
    assert not any("value 2" in name for name in codes.names)  # it never changes
