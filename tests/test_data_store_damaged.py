"""A damaged frame store: each kind of damage is one sentence, and nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.synthetic import ACTIONS, write_game
from jinn.data.writer import StoreWriter
from test_data_store import SIZE, write


def test_damage_is_reported_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(JinnError, match="not a frame store"):
        FrameStore.open(path)
    write(path, 3)

    def spoilt(name: str, content: bytes) -> str:
        file, kept = path / name, (path / name).read_bytes()
        file.write_bytes(content)
        with pytest.raises(JinnError) as caught:
            FrameStore.open(path)
        with pytest.raises(JinnError):
            StoreWriter(path, SIZE, 10)
        file.write_bytes(kept)
        return str(caught.value)

    index, frames = (path / "index.npz").read_bytes(), (path / "frames-00000.bin").read_bytes()
    assert "damaged" in spoilt("index.npz", index[: len(index) // 2])
    assert "damaged" in spoilt("index.npz", b"")
    assert "damaged" in spoilt("store.json", b"{")
    assert "damaged" in spoilt("store.json", b"[" * 100_000)
    assert "damaged" in spoilt(
        "store.json", b'{"version": 1, "height": "8", "width": 12, "fps": 10, "shard_frames": 9}'
    )
    assert "damaged" in spoilt("store.json", b'{"version": 1, "height": 8, "width": 12, "fps": 10}')
    said = json.loads((path / "store.json").read_text())
    assert "update jinn" in spoilt("store.json", json.dumps({**said, "version": 2}).encode())
    assert "bytes where the index says" in spoilt("frames-00000.bin", frames[:-1])
    assert "bytes where the index says" in spoilt("actions.bin", b"0")
    assert "is missing or empty" in spoilt("actions.bin", b"")
    assert FrameStore.open(path).num_episodes == 3


NESTED = np.frombuffer(b"[" * 100_000, np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {"length": np.array([3, 4])},  # one row less than the others
        {"length": np.array(3)},
        {"start": np.array([[0, 3, 7]])},
        {"start": np.array([0, 3, 2**62])},
        {"start": np.array([2**62 - 1] * 3), "length": np.array([2**62 + 9] * 3)},  # their sum overflows
        {"names": NESTED},
        {"names": {"sources": "abc"}},
        {"names": {"done": [-1]}},
        {"names": {"done": [0.0]}},
        {"names": {"num_actions": "5"}},
        {"names": {"num_actions": -5}},
        {"names": {"num_actions": 2, "action_names": ["stay"]}},
        {"names": {"num_actions": 1, "action_names": [["stay"]]}},
    ],
)
def test_an_index_that_cannot_be_is_damaged(change: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "s", 3)
    with np.load(tmp_path / "s" / "index.npz") as arrays:
        columns = dict(arrays)
    if isinstance(change.get("names"), dict):
        names = json.loads(columns["names"].tobytes()) | change["names"]
        change = {"names": np.frombuffer(json.dumps(names).encode(), np.uint8)}
    np.savez(tmp_path / "s" / "index.npz", **{**columns, **change})
    with pytest.raises(JinnError, match="damaged"):
        FrameStore.open(tmp_path / "s")


def test_a_store_of_endless_episodes_is_refused_at_once(tmp_path: Path) -> None:
    """It would have more shards than there is time to look for."""
    write(tmp_path / "s", 3)
    said = json.loads((tmp_path / "s" / "store.json").read_text())
    (tmp_path / "s" / "store.json").write_text(json.dumps({**said, "shard_frames": 1}))
    with np.load(tmp_path / "s" / "index.npz") as arrays:
        columns = dict(arrays)
    columns["length"][-1] = 2**61
    np.savez(tmp_path / "s" / "index.npz", **columns)
    with (tmp_path / "s" / "actions.bin").open("r+b") as file:
        file.truncate(2**42)  # a hole, which takes no room
    with pytest.raises(JinnError, match="bytes where the index says"):
        FrameStore.open(tmp_path / "s")


def test_actions_that_do_not_exist_are_damaged(tmp_path: Path) -> None:
    store = write_game(tmp_path / "game", episodes=1, length=4)
    (tmp_path / "game" / "actions.bin").write_bytes(np.array([0, 1, len(ACTIONS), -1], "<i2").tobytes())
    for read in (lambda: store.actions(0, 0, 4), lambda: store.pressed_actions):
        with pytest.raises(JinnError, match=r"actions\.bin is damaged"):
            read()


def test_an_index_is_never_unpickled(tmp_path: Path) -> None:
    write(tmp_path / "s", 2)
    with np.load(tmp_path / "s" / "index.npz") as arrays:
        columns = dict(arrays)
    columns["length"] = columns["length"].astype(object)
    np.savez(tmp_path / "s" / "index.npz", allow_pickle=True, **columns)
    with pytest.raises(JinnError, match="damaged"):
        FrameStore.open(tmp_path / "s")
