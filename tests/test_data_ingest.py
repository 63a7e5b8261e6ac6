"""`ingest`: from sources of all kinds to one store, with any number of interruptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jinn.contracts import JinnError
from jinn.data import ingest as module
from jinn.data.film import read_film
from jinn.data.ingest import Summary, ingest
from jinn.data.store import FrameStore
from jinn.data.store_format import read_index
from jinn.data.synthetic import game_rollout
from jinn.data.video import VideoError
from jinn.recipes import tiny
from jinn.training.run import new_world

try:
    import envpool
except ImportError:
    envpool = None
needs_envpool = pytest.mark.skipif(
    envpool is None, reason="EnvPool IS MISSING: Procgen ingestion is not tested"
)
GAME, COINRUN = "synthetic:game", "envpool:CoinrunHard-v0"


def film(path: Path, seed: int, frames: int = 60) -> Path:
    """A clip of the game as a video at 30 frames a second."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv420p"
        for picture in game_rollout(seed, frames)[0]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Five videos, and other files that are common in folders."""
    folder = tmp_path / "videos"
    for i, name in enumerate(["b.mp4", "a.mp4", "sub/c.mp4", "sub/deep/d.mp4", "z.mkv"]):
        film(folder / name, i)
    (folder / "notes.txt").write_text("hello\n" * 99)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / ".hidden.mp4").write_bytes(b"junk")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.mp4").write_bytes(b"junk")
    return folder


def everything(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def sources_of(store: FrameStore) -> list[str]:
    index = read_index(store.path)
    return [index.sources[source].partition("#")[0] for source in index.columns["source"]]


def test_a_folder_of_videos(videos: Path, tmp_path: Path) -> None:
    summary = ingest([str(videos)], tmp_path / "out")
    store = FrameStore.open(tmp_path / "out")
    assert (store.size_hw, store.fps, store.num_actions) == ((64, 64), 10, None)
    assert sources_of(store) == ["a.mp4", "b.mp4", "sub/c.mp4", "sub/deep/d.mp4", "z.mkv"]
    assert summary == Summary(
        episodes=5,
        frames=100,
        hours=100 / 10 / 3600,
        resumed=0,
        heldout=1,
        skipped=(
            ("empty.mp4", "it is empty"),
            ("notes.txt", "it is a picture or a text, not a video"),
        ),
        warnings=(),
    )
    assert 1 <= store.heldout.sum() < 5
    frames = store.frames(1, 0, 20)  # b.mp4 was filmed from level 0
    want = game_rollout(0, 60)[0][::3].repeat(2, 1).repeat(2, 2)
    assert np.abs(frames.astype(int) - want).mean() < 12


def test_the_same_command_adds_nothing(videos: Path, tmp_path: Path) -> None:
    ingest([str(videos)], tmp_path / "out")
    before = everything(tmp_path / "out")
    videos = videos.rename(tmp_path / "moved")
    again = ingest([str(videos)], tmp_path / "out")
    assert (again.episodes, again.frames, again.resumed, len(again.skipped)) == (0, 0, 5, 2)
    assert everything(tmp_path / "out") == before
    film(videos / "new.mp4", 77)
    more = ingest([str(videos)], tmp_path / "out")
    assert (more.episodes, more.frames, more.resumed) == (1, 20, 5)


def stop_after(limit: int) -> Callable[[int, int, str], None]:
    """A progress callback that interrupts at the report after the first `limit` ones."""
    reports = 0

    def progress(done: int, total: int, text: str) -> None:
        nonlocal reports
        reports += 1
        if reports > limit:
            raise KeyboardInterrupt

    return progress


def interrupted(call: Callable[..., Summary], whole: Path, out: Path) -> int:
    """Interrupt a call later each time, continue it, and compare with an uninterrupted call."""
    call(whole)
    for stops in range(1000):
        try:
            call(out, progress=stop_after(1 + 2 * stops))
        except KeyboardInterrupt:
            continue
        break
    assert everything(out) == everything(whole)
    return stops


def test_interrupted_videos_continue(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinn.data.film.CHUNK", 7)

    def call(out: Path, **options: object) -> Summary:
        return ingest([str(videos)], out, size_hw=(16, 16), **options)  # type: ignore[arg-type]

    assert interrupted(call, tmp_path / "whole", tmp_path / "out") >= 3


@pytest.mark.parametrize("source", [GAME, pytest.param(COINRUN, marks=needs_envpool)])
def test_interrupted_play_continues(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_FRAMES", {"synthetic": 300, "envpool": 300})

    def call(out: Path, **options: object) -> Summary:
        return ingest([source], out, frames=1000, seed=3, **options)  # type: ignore[arg-type]

    assert interrupted(call, tmp_path / "whole", tmp_path / "out") >= 3
    store = FrameStore.open(tmp_path / "whole")
    assert store.num_frames == 1000
    firsts = {store.frames(i, 0, 1).tobytes() for i in range(store.num_episodes)}
    assert len(firsts) == store.num_episodes  # each block plays other levels


def test_more_frames_continue_where_play_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_FRAMES", {"synthetic": 300})
    ingest([GAME], tmp_path / "out", frames=500, size_hw=(16, 16))
    before = FrameStore.open(tmp_path / "out").frames(0, 0, 100)
    more = ingest([GAME], tmp_path / "out", frames=1200)
    assert (more.frames, more.resumed) == (700, 2)
    again = ingest([GAME], tmp_path / "out", frames=700)
    assert (again.frames, again.resumed) == (0, 3)
    store = FrameStore.open(tmp_path / "out")
    assert store.num_frames == 1200
    assert np.array_equal(store.frames(0, 0, 100), before)
    seeds = [store.level_seed(i) for i in range(store.num_episodes)]
    assert len(set(seeds)) == len(seeds)
    other = ingest([GAME], tmp_path / "out", frames=100, seed=1)
    assert (other.frames, other.resumed) == (100, 0)


@needs_envpool
def test_coinrun_is_ingested(tmp_path: Path) -> None:
    summary = ingest([COINRUN], tmp_path / "out", frames=3000, levels=(50, 30), policy="sticky")
    store = FrameStore.open(tmp_path / "out")
    assert (store.size_hw, store.fps, store.num_actions, store.num_frames) == ((64, 64), 15, 15, 3000)
    assert store.action_names is not None
    assert store.action_names[:9:4] == ("down-left", "stay", "up-right")
    assert (summary.frames, summary.hours) == (3000, 3000 / 15 / 3600)
    levels = [store.level_seed(i) for i in range(store.num_episodes)]
    assert set(levels) <= set(range(50, 80))
    held = {level for level, held in zip(levels, store.heldout, strict=True) if held}
    assert held
    assert not held & {level for level, held in zip(levels, store.heldout, strict=True) if not held}
    assert store.done_sources == {f"{COINRUN}#seed=0,levels=50:30,policy=sticky,block=0,frames=3000"}
    slow = ingest([COINRUN], tmp_path / "slow", frames=100, fps=5)
    assert slow.hours == 100 / 5 / 3600


def test_videos_and_play_in_one_store(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", 0)
    ingest([str(tmp_path / "a.mp4"), GAME], tmp_path / "out", frames=200, size_hw=(32, 32))
    store = FrameStore.open(tmp_path / "out")
    assert (store.num_actions, store.fps, store.num_episodes) == (5, 10, 3)
    assert store.action_names == ("stay", "left", "right", "up", "down")
    assert store.actions(0, 0, 20) is None
    frames, actions = game_rollout(store.level_seed(1) or 0, 100)
    assert np.array_equal(store.frames(1, 0, 100), frames)
    assert np.array_equal(store.actions(1, 0, 100), actions)  # type: ignore[arg-type]


def test_copies_of_a_video_are_stored_once(tmp_path: Path) -> None:
    path = film(tmp_path / "videos" / "a.mp4", 0)
    (tmp_path / "videos" / "copy.mp4").write_bytes(path.read_bytes())
    (tmp_path / "elsewhere.mp4").write_bytes(path.read_bytes())
    summary = ingest([str(tmp_path / "videos"), str(tmp_path / "elsewhere.mp4")], tmp_path / "out")
    assert summary.episodes == 1
    same = "it is the same film as a.mp4"
    assert set(summary.skipped) == {("copy.mp4", same), ("elsewhere.mp4", same)}


def encoded_anew(path: Path, out: Path) -> Path:
    """The same pictures at the same times, in another size and quality."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as old, av.open(str(out), "w") as new:
        stream = new.add_stream("libx264", rate=30, options={"crf": "20"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in old.decode(video=0):
            new.mux(stream.encode(frame.reformat(64, 64, "yuv420p")))
        new.mux(stream.encode())
    return out


def test_a_film_that_was_encoded_anew_shares_the_split(tmp_path: Path) -> None:
    """And films of one game, which differ in what moves, do not."""
    for number in range(6):
        film(tmp_path / "v" / f"{number}.mp4", number)
    encoded_anew(tmp_path / "v" / "3.mp4", tmp_path / "v" / "copy.mkv")
    summary = ingest([str(tmp_path / "v")], tmp_path / "out", size_hw=(32, 32))
    assert summary.warnings == (("copy.mkv", "it shows the same as 3.mp4, and shares its split"),)
    store = FrameStore.open(tmp_path / "out")
    groups = dict(zip(sources_of(store), store.groups.tolist(), strict=True))
    assert groups["copy.mkv"] == groups["3.mp4"]
    assert len(set(groups.values())) == 6
    encoded_anew(tmp_path / "v" / "5.mp4", tmp_path / "v" / "later.mkv")
    ingest([str(tmp_path / "v")], tmp_path / "out")
    store = FrameStore.open(tmp_path / "out")
    groups = dict(zip(sources_of(store), store.groups.tolist(), strict=True))
    assert groups["later.mkv"] == groups["5.mp4"]
    assert len(set(zip(store.groups.tolist(), store.heldout.tolist(), strict=True))) == 6


def test_films_that_belong_together_share_the_split(tmp_path: Path) -> None:
    for number in range(12):
        film(tmp_path / "v" / f"{'left' if number % 2 else 'right'}" / f"episode_{number // 2}.mp4", number)
    ingest([str(tmp_path / "v")], tmp_path / "out", size_hw=(32, 32), group=r"(episode)_(\d+)")
    store = FrameStore.open(tmp_path / "out")
    groups = dict(zip(sources_of(store), store.groups.tolist(), strict=True))
    assert len(set(groups.values())) == 6
    assert all(groups[f"left/episode_{n}.mp4"] == groups[f"right/episode_{n}.mp4"] for n in range(6))
    assert len(set(zip(store.groups.tolist(), store.heldout.tolist(), strict=True))) == 6
    with pytest.raises(JinnError, match="is no regular expression"):
        ingest([str(tmp_path / "v")], tmp_path / "out", group="(")


def test_a_film_that_changed_replaces_the_old_one(tmp_path: Path) -> None:
    """It grew, was encoded anew, or a damaged copy of the same size was repaired; it stays in its split."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    for number in range(5):
        film(videos / f"{number}.mp4", number)
    ingest([str(videos)], out, size_hw=(16, 16))
    before = FrameStore.open(out)
    film(videos / "2.mp4", 2, frames=90)
    content = (videos / "4.mp4").read_bytes()
    (videos / "4.mp4").write_bytes(content.replace(b"x264 - core", b"x264 . core"))  # the encoder's comment
    summary = ingest([str(videos)], out)
    assert (summary.episodes, summary.frames, summary.resumed) == (2, 50, 3)
    after = FrameStore.open(out)
    assert sources_of(after) == ["0.mp4", "1.mp4", "3.mp4", "2.mp4", "4.mp4"]
    assert after.lengths.tolist() == [20, 20, 20, 30, 20]
    assert np.array_equal(after.frames(2, 0, 20), before.frames(3, 0, 20))
    assert set(after.groups.tolist()) == set(before.groups.tolist())
    assert ingest([str(videos)], out).resumed == 5


def test_a_long_video_is_one_episode_for_any_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "long.mp4", 0, 300)
    ingest([str(path)], tmp_path / "one", size_hw=(16, 16))
    assert FrameStore.open(tmp_path / "one").lengths.tolist() == [100]
    monkeypatch.setattr("jinn.data.film.CHUNK", 7)
    ingest([str(path)], tmp_path / "many", size_hw=(16, 16))
    assert everything(tmp_path / "many") == everything(tmp_path / "one")


def test_a_truncated_video_is_kept_up_to_the_damage(tmp_path: Path) -> None:
    film(tmp_path / "v" / "a.mkv", 0, 300)
    whole = (tmp_path / "v" / "a.mkv").read_bytes()
    (tmp_path / "v" / "a.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "v" / "b.mkv").write_bytes(whole[: len(whole) // 5])
    begun: list[np.ndarray] = []
    with pytest.raises(VideoError):
        begun.extend(chunk for _, chunk in read_film(tmp_path / "v" / "b.mkv", 10, (32, 32)))
    assert 0 < len(begun[0]) < 16
    film(tmp_path / "v" / "c.mkv", 1)
    summary = ingest([str(tmp_path / "v")], tmp_path / "out")
    assert [(name, "breaks off" in why) for name, why in summary.warnings] == [("a.mkv", True)]
    assert [name for name, _ in summary.skipped] == ["b.mkv"]
    store = FrameStore.open(tmp_path / "out")
    assert sources_of(store) == ["a.mkv", "c.mkv"]
    assert 40 < store.lengths[0] < 90


def test_the_store_may_lie_among_the_videos(videos: Path) -> None:
    ingest([str(videos)], videos / "store", size_hw=(16, 16))
    again = ingest([str(videos)], videos / "store")
    assert (again.resumed, len(again.skipped)) == (5, 2)


def test_sources_without_frames_leave_no_store(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    with pytest.raises(JinnError, match="nothing could be read"):
        ingest([str(tmp_path / "v")], tmp_path / "out")
    (tmp_path / "v" / "a.txt").write_text("hello\n" * 99)
    with pytest.raises(JinnError, match=r"no videos in .*, only a.txt: it is a picture or a text"):
        ingest([str(tmp_path / "v")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        ([], {}, "name at least one source"),
        (["/nowhere/at/all"], {}, "there is no file or folder"),
        (["synthetic:chess"], {}, "there is no synthetic:chess"),
        ([GAME], {"frames": 0}, "above zero"),
        ([GAME], {"fps": -1}, "above zero"),
        ([GAME], {"fps": float("nan")}, "above zero"),
        ([GAME], {"fps": float("inf")}, "above zero"),
        ([GAME], {"size_hw": (30, 30)}, "multiples of 4"),
        ([GAME], {"policy": "sticky"}, "leave levels and policy out"),
        ([GAME], {"levels": (5, 0)}, "a number >= 1"),
        ([str(Path(__file__).parent)], {"frames": 9}, "videos are read whole"),
        pytest.param([COINRUN], {"fps": 10}, "use 15, 7.5 or 5 fps", marks=needs_envpool),
        pytest.param([COINRUN], {"policy": "clever"}, '"random", "sticky", "runner" or', marks=needs_envpool),
    ],
)
def test_mistakes_are_reported(
    sources: list[str], options: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(JinnError, match=said):
        ingest(sources, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@needs_envpool
def test_a_changed_policy_function_plays_new_frames(tmp_path: Path) -> None:
    file, out = tmp_path / "mine.py", tmp_path / "out"
    file.write_text("import numpy as np\n\ndef act(obs):\n    return np.full(len(obs), 7)\n")
    for _ in range(2):
        ingest([COINRUN], out, frames=400, policy=f"{file}:act")
    store = FrameStore.open(out)
    assert store.num_frames == 400
    assert {int(a) for e in range(store.num_episodes) for a in store.actions(e, 0, 2)[:1]} == {7}  # type: ignore[index]
    file.write_text("import numpy as np\n\ndef act(obs):\n    return np.full(len(obs), 1)\n")
    ingest([COINRUN], out, frames=400, policy=f"{file}:act")
    assert FrameStore.open(out).num_frames == 800


def test_a_store_keeps_its_size_and_rate(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", 0)
    ingest([str(tmp_path / "a.mp4")], tmp_path / "out", fps=6, size_hw=(16, 24))
    film(tmp_path / "b.mp4", 1)
    ingest([str(tmp_path / "b.mp4")], tmp_path / "out")
    assert FrameStore.open(tmp_path / "out").lengths.tolist() == [12, 12]
    with pytest.raises(JinnError, match="16x24 frames at 6 fps, not 16x24 at 10"):
        ingest([str(tmp_path / "b.mp4")], tmp_path / "out", fps=10)


def test_a_store_keeps_how_pictures_are_fitted_in(tmp_path: Path) -> None:
    """And a world that is trained on it does too."""
    for number, width in enumerate((64, 32)):
        np.save(tmp_path / f"{number}.npy", np.full((20, 32, width, 3), 200, np.uint8))
    ingest([str(tmp_path / "0.npy")], tmp_path / "out", size_hw=(32, 32), fit="pad")
    ingest([str(tmp_path / "1.npy")], tmp_path / "out")
    store = FrameStore.open(tmp_path / "out")
    assert store.fit == "pad"
    assert [int((store.frames(episode, 0, 1) > 0).sum()) for episode in range(2)] == [
        32 * 16 * 3,
        32 * 32 * 3,
    ]
    with pytest.raises(JinnError, match="made with --fit pad, not stretch"):
        ingest([str(tmp_path / "1.npy")], tmp_path / "out", fit="stretch")
    assert new_world(tiny(), store, "test", 0).config.fit == "pad"


def test_progress_is_reported(videos: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int, str]] = []
    ingest([str(videos), GAME], tmp_path / "out", frames=300, progress=lambda *report: reports.append(report))
    assert all(0 <= done <= total for done, total, _ in reports)
    files = [done for done, total, _ in reports if total == 6]
    assert files == sorted(files)
    assert files[-1] == 6
    assert any("sub/c.mp4" in text for _, _, text in reports)
    assert reports[-1] == (300, 300, GAME)
