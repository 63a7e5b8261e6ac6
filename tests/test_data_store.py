"""The frame store: committed frames are read back, and a kill at any moment loses none of them."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers_game import sprite_is_whole
from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.store_format import HELDOUT_FRACTION, Index, group_hash, read_index, write_index
from jinn.data.synthetic import ACTIONS, game_rollout, write_game
from jinn.data.writer import StoreWriter

SIZE = (8, 12)
FRAME_BYTES = 8 * 12 * 3


def pictures(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def add(writer: StoreWriter, frames_THWC: np.ndarray, source: str, **options: Any) -> None:
    """Write an episode in chunks of different lengths."""
    for first, last in ((0, 1), (1, 3), (3, None)):
        if len(frames_THWC) > first:
            writer.append(frames_THWC[first:last])
    writer.end_episode(source, **options)


def write(path: Path, episodes: int, **options: object) -> None:
    with StoreWriter(path, SIZE, 10, **options) as writer:  # type: ignore[arg-type]
        for i in range(episodes):
            add(writer, pictures(i, 3 + i), f"video {i}")
            writer.finish_source(f"video {i}")


def test_frames_are_read_across_shards(tmp_path: Path) -> None:
    write(tmp_path / "s", 6, shard_bytes=7 * FRAME_BYTES)  # 33 frames, 7 a shard
    assert len(list((tmp_path / "s").glob("frames-*.bin"))) == 5
    store = FrameStore.open(tmp_path / "s")
    assert (store.num_episodes, store.num_frames, store.size_hw, store.fps) == (6, 33, SIZE, 10)
    for i in range(6):
        assert np.array_equal(store.frames(i, 0, 3 + i), pictures(i, 3 + i))
        assert np.array_equal(store.frames(i, 1, 3), pictures(i, 3 + i)[1:3])
        assert np.array_equal(store.view(i, 1, 3), pictures(i, 3 + i)[1:3])
        assert store.frames(i, 2, 2).shape == (0, *SIZE, 3)
        assert store.actions(i, 0, 2) is None
    assert store.num_actions is None
    assert store.frames(0, 0, 1).flags.writeable
    assert not store.view(0, 0, 1).flags.writeable
    assert (store.starts[2], store.lengths[2], store.level_seed(2)) == (7, 5, None)
    index = read_index(tmp_path / "s")
    assert index.sources[index.columns["source"][2]] == "video 2"


@pytest.mark.parametrize("place", [(0, -1, 1), (0, 0, 4), (0, 2, 1), (6, 0, 1), (-1, 0, 1)])
def test_reads_stay_within_the_episode(tmp_path: Path, place: tuple[int, int, int]) -> None:
    write(tmp_path / "s", 6)
    with pytest.raises(IndexError):
        FrameStore.open(tmp_path / "s").frames(*place)


def test_actions_and_levels_are_stored(tmp_path: Path) -> None:
    store = write_game(tmp_path / "s", episodes=3, length=20, seed=40)
    assert store.num_actions == len(ACTIONS)
    for i in range(3):
        frames, actions = game_rollout(40 + i, 20)
        kept = store.actions(i, 0, 20)
        assert kept is not None
        assert kept.dtype == np.int64
        assert np.array_equal(kept, actions)
        assert kept[-1] == -1
        assert np.array_equal(store.frames(i, 0, 20), frames)
        assert store.level_seed(i) == 40 + i


def names_after(path: Path, *given: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The names of a store's actions after games of three actions with these names, and a video, were added."""
    for number, names in enumerate(given):
        with StoreWriter(path, SIZE, 10, num_actions=3, action_names=names) as writer:
            writer.append(pictures(number, 4))
            writer.end_episode("game", np.array([0, 1, 2, 0]), level_seed=number)
        with StoreWriter(path, SIZE, 10) as writer:
            add(writer, pictures(number, 4), f"video {number}")
    return FrameStore.open(path).action_names


def test_the_names_of_actions_are_kept_as_long_as_sources_agree(tmp_path: Path) -> None:
    names, others = ("left", "stay", "right"), ("up", "stay", "down")
    assert names_after(tmp_path / "one", names) == names
    assert names_after(tmp_path / "same", names, names) == names
    assert names_after(tmp_path / "two", names, others, names) is None
    assert names_after(tmp_path / "late", None, names) is None
    assert names_after(tmp_path / "few", names[:2]) is None
    assert write_game(tmp_path / "game", episodes=1, length=4).action_names == ACTIONS


def test_a_store_mixes_video_and_play(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        add(writer, pictures(0, 4), "video")
        writer.append(pictures(1, 4))
        with pytest.raises(ValueError, match="num_actions"):
            writer.end_episode("game", np.array([0, 1, 2, 0]))
        writer.num_actions = 3
        with pytest.raises(ValueError, match="num_actions"):
            writer.end_episode("game", np.array([0, 3, 2, 0]))
        with pytest.raises(ValueError, match="4 frames need as many actions"):
            writer.end_episode("game", np.array([0, 1, 0]))
        writer.end_episode("game", np.array([0, 1, 2, 0]), level_seed=-7)
    store = FrameStore.open(tmp_path / "s")
    assert store.num_actions == 3
    assert store.actions(0, 0, 4) is None
    assert store.actions(1, 0, 4).tolist() == [0, 1, 2, -1]  # type: ignore[union-attr]
    assert (store.level_seed(0), store.level_seed(1)) == (None, -7)


def test_the_game_moves_as_its_actions_say_and_stops_at_walls() -> None:
    frames, actions = game_rollout(5, 300, (16, 24))
    sprite = (frames == 0).all(-1)  # its one black pixel
    places = np.argwhere(sprite)[:, 1:]
    assert len(places) == 300
    moves = np.array(
        [
            {"stay": (0, 0), "left": (0, -4), "right": (0, 4), "up": (-4, 0), "down": (4, 0)}[a]
            for a in ACTIONS
        ]
    )
    wanted = places[:-1] + moves[actions[:-1]]
    inside = (wanted >= 0).all(1) & (wanted < (16, 24)).all(1)
    assert 0.1 < (~inside).mean() < 0.5
    assert np.array_equal(places[1:], np.where(inside[:, None], wanted, places[:-1]))
    assert set(actions[:-1].tolist()) == set(range(5))


def test_a_sprite_that_is_missing_doubled_or_in_pieces_is_not_whole() -> None:
    frames, _ = game_rollout(5, 40)
    assert sprite_is_whole(frames).all()
    rolled = np.roll(frames, 16, axis=2)
    sprite = (np.abs(frames.astype(int) - np.median(frames, 0)) > 0).any(-1, keepdims=True)
    assert not sprite_is_whole(np.median(frames, 0)[None]).any()
    assert not sprite_is_whole(np.where(np.roll(sprite, 16, axis=2), rolled, frames)).any()
    assert not sprite_is_whole(np.roll(frames, 2, axis=2)).any()
    assert not sprite_is_whole(frames // 2).any()


def test_frames_must_fit_the_store(tmp_path: Path) -> None:
    write(tmp_path / "s", 1)
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        for wrong in (pictures(0, 2)[:, :4], pictures(0, 2).astype(np.float32), pictures(0, 2)[:0]):
            with pytest.raises(ValueError, match="a chunk is uint8"):
                writer.append(wrong)
        with pytest.raises(ValueError, match="at least one frame"):
            writer.end_episode("x")
    with pytest.raises(JinnError, match="8x12 frames at 10 fps, not 8x12 at 15"):
        StoreWriter(tmp_path / "s", SIZE, 15)
    with pytest.raises(JinnError, match="not 12x8"):
        StoreWriter(tmp_path / "s", (12, 8), 10)


def test_the_split_is_by_group(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        for i in range(2000):
            add(writer, pictures(0, 1), "game", level_seed=i % 1000)
    store = FrameStore.open(tmp_path / "s")
    assert np.array_equal(store.heldout[:1000], store.heldout[1000:])
    fraction = store.heldout.mean()
    assert HELDOUT_FRACTION / 2 < fraction < HELDOUT_FRACTION * 2
    assert sorted([*store.select("train"), *store.select("heldout")]) == list(store.select("all"))
    assert len(store.select("heldout")) == store.heldout.sum()
    # The hash is part of the format: changing it would move levels between the splits of old stores.
    assert group_hash("level 0") == 13946395118744143537


@pytest.mark.parametrize(("videos", "held"), [(3, 0), (4, 1), (5, 1)])
def test_with_few_videos_one_is_held_out(tmp_path: Path, videos: int, held: int) -> None:
    names = [name for name in map(str, range(99)) if group_hash(name) >= HELDOUT_FRACTION * 2**64][:videos]
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        for name in names * 2:
            add(writer, pictures(0, 1), name)
    store = FrameStore.open(tmp_path / "s")
    assert store.heldout.sum() == 2 * held
    if held:
        with StoreWriter(tmp_path / "s", SIZE, 10) as writer:  # the choice remains when more is added
            add(writer, pictures(0, 1), min(names, key=group_hash))
        assert FrameStore.open(tmp_path / "s").heldout[2 * videos]


def test_an_exception_drops_the_unfinished_source(tmp_path: Path) -> None:
    def stopped() -> None:
        with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
            add(writer, pictures(0, 3), "whole")
            writer.finish_source("whole")
            add(writer, pictures(1, 3), "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    store = FrameStore.open(tmp_path / "s")
    assert store.num_episodes == 1
    assert store.done_sources == {"whole"}
    assert read_index(tmp_path / "s").sources == ("whole",)
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        assert writer.done_sources == {"whole"}
        add(writer, pictures(2, 2), "next")
    assert np.array_equal(FrameStore.open(tmp_path / "s").frames(1, 0, 2), pictures(2, 2))


def test_an_episode_is_readable_once_it_has_ended(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", SIZE, 10, shard_bytes=7 * FRAME_BYTES) as writer:
        add(writer, pictures(0, 5), "a")
        writer.append(pictures(1, 20))
        assert (writer.num_episodes, writer.num_frames) == (1, 25)
        writer.commit()
        assert FrameStore.open(tmp_path / "s").num_frames == 5
        writer.append(pictures(2, 3))
        writer.end_episode("b")
        writer.append(pictures(3, 9))  # never ended
    store = FrameStore.open(tmp_path / "s")
    assert store.lengths.tolist() == [5, 23]
    assert np.array_equal(store.frames(1, 0, 20), pictures(1, 20))
    assert np.array_equal(store.frames(1, 20, 23), pictures(2, 3))
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        add(writer, pictures(4, 4), "c")
    assert np.array_equal(FrameStore.open(tmp_path / "s").frames(2, 0, 4), pictures(4, 4))


def test_an_empty_store_is_not_left_behind(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        add(writer, pictures(0, 3), "half")
        writer.rollback()
    assert not (tmp_path / "s").exists()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        add(writer, pictures(0, 3), "a")
        with pytest.raises(JinnError, match="another process"):
            StoreWriter(tmp_path / "s", SIZE, 10)
    StoreWriter(tmp_path / "s", SIZE, 10).close()


def test_readers_see_the_last_commit(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        add(writer, pictures(0, 3), "a")
        writer.commit()
        add(writer, pictures(1, 4), "b")
        store = FrameStore.open(tmp_path / "s")
        assert store.num_frames == 3
        writer.commit()
        assert np.array_equal(store.frames(0, 0, 3), pictures(0, 3))
        assert FrameStore.open(tmp_path / "s").num_frames == 7


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(JinnError, match=r"other files \(holiday.txt\)"):
        StoreWriter(tmp_path, SIZE, 10)
    assert (tmp_path / "holiday.txt").read_text() == "mine"


def test_commits_take_little_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a simulated clock: a source takes 10 ms, and a commit takes longer with the number of frames."""
    clock, seconds = 0.0, []

    def slow_write_index(path: Path, index: Index) -> None:
        nonlocal clock
        seconds.append(0.1 + 1e-4 * len(index.sources))
        clock += seconds[-1]
        write_index(path, index)

    monkeypatch.setattr("jinn.data.writer.time", SimpleNamespace(monotonic=lambda: clock))
    monkeypatch.setattr("jinn.data.writer.write_index", slow_write_index)
    frame = pictures(0, 1)
    with StoreWriter(tmp_path / "s", SIZE, 10) as writer:
        for i in range(20_000):
            add(writer, frame, "game", group=str(i % 7))
            clock += 0.01
            writer.finish_source(f"chunk {i}")
    assert len(seconds) >= 5
    assert sum(seconds[:-1]) < 200 / 15  # of 200 seconds; the last commit is that of `close`
    assert len(FrameStore.open(tmp_path / "s").done_sources) == 20_000


EPISODES = 75


def write_slowly(path: Path, begun: Event | None = None) -> None:
    """Continue the same store from its present state, with many commits."""
    if begun:
        begun.set()
    with StoreWriter(path, SIZE, 10, shard_bytes=11 * FRAME_BYTES) as writer:
        for i in range(EPISODES):
            if f"video {i}" in writer.done_sources:
                continue
            for episode in range(3):
                add(writer, pictures(100 * i + episode, 5), f"video {i}")
            writer.finish_source(f"video {i}")
            writer.commit()


def everything(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.suffix != ".tmp"}


def sources_done(path: Path) -> int:
    """The number that a reader sees while another process writes; 0 before there is a store."""
    try:
        return len(FrameStore.open(path).done_sources)
    except JinnError:
        return 0


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX systems")
@pytest.mark.slow
def test_a_store_can_be_continued_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    write_slowly(tmp_path / "whole")
    wanted = everything(tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jinn.data.synthetic", "pytest"])
    rng = random.Random(0)
    path, opened = tmp_path / "killed", 0
    for _ in range(100):
        begun = context.Event()
        process = context.Process(target=write_slowly, args=(path, begun))
        process.start()
        begun.wait(30)
        enough = sources_done(path) + rng.randint(0, EPISODES // 5)  # however fast the machine is
        while process.is_alive() and sources_done(path) < enough:
            time.sleep(0.001)
        process.join(rng.uniform(0.0, 0.01))
        os.kill(process.pid or 0, signal.SIGKILL) if process.is_alive() else None
        process.join()
        if (path / "store.json").exists():
            store = FrameStore.open(path)
            opened += 0 < store.num_episodes < 3 * EPISODES
            assert store.num_episodes == 3 * len(store.done_sources)
            if store.num_episodes:
                last = store.num_episodes - 1
                assert np.array_equal(store.frames(last, 0, 5), pictures(100 * (last // 3) + last % 3, 5))
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert opened >= 3  # it was killed in the middle, and more than once
    assert everything(path) == wanted
