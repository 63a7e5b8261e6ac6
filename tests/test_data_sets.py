"""Data sets of LeRobot and Minari, arrays with actions, and lists of sources."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_video import numbered, numbers, save
from jinn.contracts import JinnError
from jinn.data.images import crop_resize
from jinn.data.ingest import Summary, by_reason, ingest
from jinn.data.store import FrameStore
from jinn.data.store_format import read_index
from jinn.data.video import VideoError, video_frames
from test_data_ingest import interrupted

Image = pytest.importorskip("PIL.Image")
SMALL = (32, 32)
LENGTHS = (20, 17, 26)
TOP, WRIST = "observation.images.top", "observation.images.wrist"


def parquet(path: Path, columns: dict[str, Any]) -> None:
    pyarrow = pytest.importorskip(
        "pyarrow", reason="LOUD: LeRobot cannot be tested without the extra 'datasets'"
    )
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)


def rows(episodes: tuple[int, ...], is_discrete: bool = False) -> dict[str, Any]:
    """The table of some episodes; pictures go on counting from one episode to the next, and so do actions."""
    index = np.concatenate([np.arange(sum(LENGTHS[:e]), sum(LENGTHS[: e + 1])) for e in episodes])
    vectors = [[i / 7, -i / 3] for i in index]
    return {
        "index": index,
        "episode_index": np.repeat(episodes, [LENGTHS[e] for e in episodes]),
        "action": index % 5 if is_discrete else vectors,
        "observation.state": vectors,
    }


def write_info(
    root: Path, version: str, is_discrete: bool = False, kind: str = "video", **more: object
) -> None:
    info = {
        "codebase_version": version,
        "fps": 30,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "observation.images.depth": {"dtype": kind, "shape": [1], "info": {"video.is_depth_map": True}},
            TOP: {"dtype": kind, "shape": [64, 64, 3]},
            WRIST: {"dtype": kind, "shape": [64, 64, 3]},
            "action": {"dtype": "int64", "shape": [1]} if is_discrete else {"dtype": "float32", "shape": [2]},
            "observation.state": {"dtype": "float32", "shape": [2]},
        },
        **more,
    }
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def lerobot3(root: Path, is_discrete: bool = False) -> Path:
    """Three episodes in format 3, two of which share a video; the wrist camera shows 128 more than the other."""
    write_info(root, "v3.0", is_discrete)
    parquet(root / "data/chunk-000/file-000.parquet", rows((0, 1, 2), is_discrete))
    places: dict[str, Any] = {}
    for camera, more in ((TOP, 0), (WRIST, 128)):
        for file, span in enumerate((range(37), range(37, 63))):
            (root / f"videos/{camera}/chunk-000").mkdir(parents=True, exist_ok=True)
            save(root / f"videos/{camera}/chunk-000/file-{file:03d}.mp4", [numbered(more + n) for n in span])
        places |= {
            f"videos/{camera}/chunk_index": [0, 0, 0],
            f"videos/{camera}/file_index": [0, 0, 1],
            # The sums of durations that LeRobot writes here are off by some rounding.
            f"videos/{camera}/from_timestamp": [0.0, LENGTHS[0] / 30 + 0.0004, 0.0],
        }
    episodes = {
        "episode_index": [0, 1, 2],
        "length": list(LENGTHS),
        "tasks": [["push\nit"], ["lift it"], ["lift it", "drop it"]],
        "data/chunk_index": [0, 0, 0],
        "data/file_index": [0, 0, 0],
        "stats/action/mean": [[0.0], [0.0], [0.0]],
    }
    parquet(root / "meta/episodes/chunk-000/file-000.parquet", episodes | places)
    return root


def lerobot2(root: Path, kind: str) -> Path:
    """The same in format 2.1, with a video for each episode, or with pictures in the tables."""
    write_info(
        root,
        "v2.1",
        kind=kind,
        chunks_size=2,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )
    lines = [{"episode_index": e, "length": LENGTHS[e], "tasks": ["push"]} for e in range(3)]
    (root / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for episode in range(3):
        table, chunk = rows((episode,)), f"chunk-{episode // 2:03d}"
        for camera, more in ((TOP, 0), (WRIST, 128)):
            pictures = [numbered(more + int(n)) for n in table["index"]]
            if kind == "video":
                (root / f"videos/{chunk}/{camera}").mkdir(parents=True, exist_ok=True)
                save(root / f"videos/{chunk}/{camera}/episode_{episode:06d}.mp4", pictures)
            else:
                table[camera] = [{"bytes": encoded(picture, "PNG"), "path": None} for picture in pictures]
        parquet(root / f"data/{chunk}/episode_{episode:06d}.parquet", table)
    return root


def encoded(picture: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def minari(root: Path) -> Path:
    """Two episodes with actions, seen by one camera as arrays and by another as JPEG."""
    h5py = pytest.importorskip("h5py", reason="LOUD: Minari cannot be tested without the extra 'datasets'")
    (root / "data").mkdir(parents=True)
    with h5py.File(root / "data" / "main_data.hdf5", "w") as file:
        for name, shown in (("episode_10", range(30, 50)), ("episode_2", range(20))):
            episode = file.create_group(name)
            episode["observations/arm"] = np.stack([numbered(n) for n in shown])
            episode["observations/grid"] = np.zeros((20, 7, 7, 3), np.uint8)
            packed = episode.create_dataset("observations/wrist", (20,), h5py.vlen_dtype(np.uint8))
            for row, n in enumerate(shown):
                packed[row] = np.frombuffer(encoded(numbered(128 + n), "JPEG"), np.uint8)
            episode["actions"] = np.arange(19) % 4
            episode["rewards"] = np.zeros(19)
    return root


def clips_in(path: Path) -> list[list[int]]:
    """The numbers that the clips of a store show."""
    store = FrameStore.open(path)
    return [numbers(store.frames(i, 0, int(store.lengths[i]))) for i in range(store.num_episodes)]


def actions_in(path: Path) -> list[list[int] | None]:
    store = FrameStore.open(path)
    found = [store.actions(i, 0, int(store.lengths[i])) for i in range(store.num_episodes)]
    return [None if actions is None else actions.tolist() for actions in found]


def shown(start: int, stop: int, step: int = 1) -> list[int]:
    return list(range(start, stop, step))


def test_lerobot_3_is_read_episode_by_episode(tmp_path: Path) -> None:
    root = lerobot3(tmp_path / "sets" / "robot")
    summary = ingest([str(tmp_path / "sets")], tmp_path / "slow", size_hw=SMALL)
    assert clips_in(tmp_path / "slow") == [shown(0, 20, 3), shown(20, 37, 3), shown(37, 63, 3)]
    assert actions_in(tmp_path / "slow") == [None] * 3
    assert by_reason(summary.warnings) == [
        f"robot episode 0 ({TOP}): push it and 2 more: of its cameras ({TOP}, {WRIST}, observation.images.depth) "
        f"{TOP} is read: --camera NAME chooses another",
        f"robot episode 0 ({TOP}): push it and 2 more: its actions are continuous and are left out: --action-codes 16 "
        "keeps them as sixteen discrete ones",
    ]
    store = FrameStore.open(tmp_path / "slow")
    assert store.source(2) == f"robot episode 2 ({TOP}): lift it and drop it"
    ingest([str(root)], tmp_path / "fast", size_hw=SMALL, fps=30, camera="wrist")
    assert clips_in(tmp_path / "fast") == [shown(128, 148), shown(148, 165), shown(165, 191)]
    # All cameras of an episode are on the same side of the split, in any store.
    assert FrameStore.open(tmp_path / "fast").groups.tolist() == store.groups.tolist()
    assert len(set(store.groups.tolist())) == 3
    both = ingest([str(root)], tmp_path / "slow", camera=WRIST)
    assert (both.episodes, both.resumed) == (3, 0)
    assert FrameStore.open(tmp_path / "slow").groups.tolist() == 2 * store.groups.tolist()
    with pytest.raises(JinnError, match=f"robot has no camera left: choose one of {TOP}, {WRIST}"):
        ingest([str(root)], tmp_path / "other", camera="left")


@pytest.mark.parametrize(
    ("names", "found"),
    [(["motion"], None), (list("abcd"), None), (list("abcde"), tuple("abcde")), (list("abcdef"), tuple("abcdef"))],
)  # fmt: skip
def test_names_of_actions_of_lerobot_are_kept(tmp_path: Path, names: list[str], found: Any) -> None:
    """Several names are those of the action's values, also of those that were never taken."""
    root = lerobot3(tmp_path / "robot", is_discrete=True)
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["action"]["names"] = names
    (root / "meta" / "info.json").write_text(json.dumps(info))
    ingest([str(root)], tmp_path / "out", size_hw=SMALL)
    store = FrameStore.open(tmp_path / "out")
    assert (store.action_names, store.num_actions) == (found, len(found or "abcde"))


def test_discrete_actions_of_lerobot_keep_their_frames(tmp_path: Path) -> None:
    root = lerobot3(tmp_path / "robot", is_discrete=True)
    ingest([str(root)], tmp_path / "out", size_hw=SMALL)
    store = FrameStore.open(tmp_path / "out")
    assert (store.fps, store.num_actions) == (30, 5)
    assert clips_in(tmp_path / "out") == [shown(0, 20), shown(20, 37), shown(37, 63)]
    assert actions_in(tmp_path / "out") == [
        [n % 5 for n in clip[:-1]] + [-1] for clip in clips_in(tmp_path / "out")
    ]
    slow = ingest([str(root)], tmp_path / "slow", fps=10, size_hw=SMALL)
    assert actions_in(tmp_path / "slow") == [None] * 3
    assert any("30 pictures a second and are left out at 10" in text for _, text in slow.warnings)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_lerobot_2_has_the_episodes_of_3(kind: str, tmp_path: Path) -> None:
    root = lerobot2(tmp_path / "robot", kind)
    ingest([str(root)], tmp_path / "two", fps=30, size_hw=SMALL)
    assert clips_in(tmp_path / "two") == [shown(0, 20), shown(20, 37), shown(37, 63)]
    ingest([str(lerobot3(tmp_path / "new"))], tmp_path / "three", fps=10, size_hw=SMALL)
    two, three = (FrameStore.open(tmp_path / name) for name in ("two", "three"))
    assert two.groups.tolist() == three.groups.tolist()


def test_broken_parts_of_lerobot_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    root = lerobot3(tmp_path / "robot")
    (root / f"videos/{TOP}/chunk-000/file-001.mp4").unlink()
    (root / "meta/episodes/chunk-000/file-001.parquet").write_bytes(b"PAR1 and no more")
    write_info(tmp_path / "old", "v1.6")
    write_info(tmp_path / "blind", "v3.0", features={})
    with (root / f"videos/{TOP}/chunk-000/file-000.mp4").open("rb+") as video:
        video.truncate(video.seek(0, 2) - 10)  # which cuts the last picture or a table behind it
    parquet(root / "data/chunk-000/file-000.parquet", {"nothing": [1]})
    summary = ingest([str(tmp_path)], tmp_path / "out", fps=30, size_hw=SMALL)
    reasons = dict(summary.skipped)
    assert sorted(reasons) == ["blind", "old", f"robot episode 2 ({TOP}): lift it and drop it",
                               "robot meta/episodes/chunk-000/file-001.parquet"]  # fmt: skip
    assert reasons["blind"] == "it has no camera"
    assert "format v1.6, and jinn reads 2 and 3" in reasons["old"]
    assert clips_in(tmp_path / "out")[0] == shown(0, 20)


def test_minari_is_read_episode_by_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari(tmp_path / "sets" / "game" / "test-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    ingest(["minari:game/test-v0"], tmp_path / "out", size_hw=SMALL)
    assert clips_in(tmp_path / "out") == [shown(0, 20), shown(30, 50)]
    assert actions_in(tmp_path / "out") == [[*(np.arange(19) % 4).tolist(), -1]] * 2
    store = FrameStore.open(tmp_path / "out")
    assert (store.num_actions, store.fps) == (4, 10)
    ingest([str(tmp_path / "sets")], tmp_path / "wrist", size_hw=SMALL, camera="wrist", source_fps=20)
    assert clips_in(tmp_path / "wrist") == [shown(128, 148), shown(158, 178)]
    wrist = FrameStore.open(tmp_path / "wrist")
    assert (wrist.fps, wrist.groups.tolist()) == (20, store.groups.tolist())
    (tmp_path / "sets" / "game" / "test-v0" / "data" / "main_data.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(JinnError, match="it is no data set of Minari, or damaged"):
        ingest(["minari:game/test-v0"], tmp_path / "broken")
    with pytest.raises(JinnError, match="run minari download game/other-v0"):
        ingest(["minari:game/other-v0"], tmp_path / "broken")


def test_arrays_bring_their_actions(tmp_path: Path) -> None:
    pictures = np.stack([numbered(i) for i in range(60)])
    transparent = np.concatenate([pictures, np.full((60, 64, 64, 1), 255, np.uint8)], -1)
    folder = tmp_path / "v"
    folder.mkdir()
    np.savez(folder / "a.npz", frames=pictures[19::-1], actions=np.arange(19) % 7, rewards=np.zeros(20))
    np.savez_compressed(
        folder / "b.npz",
        image=transparent.reshape(3, 20, 64, 64, 4),
        action=np.arange(60).reshape(3, 20, 1) % 3,
    )
    np.savez(folder / "c.npz", frames=np.asfortranarray(pictures[3:40]), actions=np.zeros((37, 2)))
    summary = ingest([str(folder)], tmp_path / "out", size_hw=SMALL)
    thirds = [shown(0, 20), shown(20, 40), shown(40, 60)]
    assert clips_in(tmp_path / "out") == [shown(19, -1, -1), *thirds, shown(3, 40)]
    assert actions_in(tmp_path / "out") == [
        [*(np.arange(19) % 7).tolist(), -1],
        *[[*(np.array(third[:-1]) % 3).tolist(), -1] for third in thirds],
        None,
    ]
    assert len(set(FrameStore.open(tmp_path / "out").groups.tolist())) == 5  # each clip can be held out
    assert dict(summary.warnings) == {
        "a.npz": "its arrays that are no pictures are left out: rewards",
        "c.npz": "its actions are continuous and are left out: --action-codes 16 keeps them as sixteen discrete ones",
    }


@pytest.mark.parametrize("shape", [(3, 19, 2), (3, 20, 2), (3, 20), (3, 19)])
def test_continuous_actions_of_arrays_become_codes(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Also where the last picture has none, and where an action is one number."""
    pictures = np.stack([numbered(i) for i in range(60)]).reshape(3, 20, 64, 64, 3)
    pushes = np.array([-1.0, 0.5, 3.0])[np.arange(np.prod(shape)).reshape(shape) % 3]
    np.savez(tmp_path / "a.npz", frames=pictures, actions=pushes.astype(np.float32))
    summary = ingest([str(tmp_path / "a.npz")], tmp_path / "out", size_hw=SMALL, action_codes=3)
    assert summary.warnings == ()
    store = FrameStore.open(tmp_path / "out")
    rows = pushes.reshape(3, -1, shape[2] if len(shape) > 2 else 1)[:, :19]
    different = np.unique(rows.reshape(-1, rows.shape[-1]), axis=0)
    codes = np.array(actions_in(tmp_path / "out"))
    assert store.num_actions == len(different) == 3
    for row in different:  # each push is one code, and each code one push
        assert len(set(codes[:, :19][(rows == row).all(-1)].tolist())) == 1
    assert (codes[:, 19] == -1).all()


def test_pictures_without_a_rate_get_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([numbered(i) for i in range(60)]))
    (tmp_path / "p").mkdir()
    for number in range(60):
        Image.fromarray(numbered(number)).save(tmp_path / "p" / f"{number}.png")
    ingest([str(tmp_path)], tmp_path / "out", size_hw=SMALL, source_fps=30, fps=10)
    assert clips_in(tmp_path / "out") == [shown(0, 60, 3)] * 2
    with pytest.raises(JinnError, match=r"0.1 a second or more, not at 0"):
        ingest([str(tmp_path)], tmp_path / "other", source_fps=0)


def test_wide_arrays_are_cropped_and_not_distorted(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(256, size=(20, 32, 64, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", wide)
    ingest([str(tmp_path / "a.npy")], tmp_path / "out", size_hw=SMALL)
    assert np.array_equal(FrameStore.open(tmp_path / "out").frames(0, 0, 20), wide[:, :, 16:48])


@pytest.mark.parametrize("first", [0, 47, 100, 133])
def test_a_part_of_a_video_is_found_without_reading_what_comes_before(first: int, tmp_path: Path) -> None:
    options = {"g": "12", "bf": "3"}
    path = save(tmp_path / "a.mp4", [numbered(i, 32) for i in range(150)], codec_options=options)
    crop = partial(crop_resize, size_hw=SMALL)
    span = (first / 30, (first + 17) / 30)
    found = [frame for _, frame in video_frames(path, 30, crop, print, span)]
    assert numbers(np.stack(found)) == shown(first, first + 17)
    with pytest.raises(VideoError, match=r"breaks off after 0.3 of 0.5 seconds"):
        list(video_frames(path, 30, crop, print, (140 / 30, 155 / 30)))


def test_a_list_names_sources(tmp_path: Path) -> None:
    for folder, first in (("x", 0), ("y", 30), ("y", 60)):
        save(tmp_path / folder / f"{first}.mp4", [numbered(first + i) for i in range(20)])
    text = tmp_path / "list.txt"
    text.write_text(f"# mine\n\ny/*.mp4\n{tmp_path}/x\nx/0.mp4\ngone/*.mp4\nlist.txt\n")
    summary = ingest([str(text)], tmp_path / "out", fps=30, size_hw=SMALL)
    assert clips_in(tmp_path / "out") == [shown(30, 50), shown(60, 80), shown(0, 20)]
    assert summary.skipped == (
        ("gone/*.mp4", "there is no such file or folder"),
        ("list.txt", "it is a picture or a text, not a video"),
    )


def test_interrupted_data_sets_continue(tmp_path: Path) -> None:
    lerobot3(tmp_path / "v" / "robot", is_discrete=True)
    minari(tmp_path / "v" / "game")
    np.savez(tmp_path / "v" / "a.npz", x=np.zeros((2, 20, 32, 32, 1), np.uint8) + np.array([1, 2], np.uint8)[
        :, None, None, None, None], actions=np.zeros((2, 20), int))  # fmt: skip

    def call(out: Path, **options: object) -> Summary:
        return ingest([str(tmp_path / "v")], out, size_hw=SMALL, fps=30, **options)  # type: ignore[arg-type]

    assert interrupted(call, tmp_path / "whole", tmp_path / "out") >= 3
    assert len(read_index(tmp_path / "whole").sources) == 7


@pytest.mark.parametrize(("suffix", "options"), [
    ("gif", {"disposal": 1}), ("gif", {"disposal": 2}),
    ("png", {"disposal": 0, "blend": 1}), ("png", {"disposal": 1, "blend": 0}), ("webp", {"lossless": True}),
])  # fmt: skip
def test_moving_pictures_keep_their_times_and_transparency(
    suffix: str, options: dict[str, object], tmp_path: Path
) -> None:
    pictures = np.zeros((8, 32, 32, 4), np.uint8)
    if options.get("disposal") == 1 or options.get("blend") == 1:  # which can draw but not erase
        pictures[:] = (20, 40, 60, 255)
    for number, picture in enumerate(pictures):
        picture[4:12, 3 * number : 3 * number + 8] = (250, 20 * number, 40, 255)
        picture[20:28, 20 - 2 * number : 26 - 2 * number] = (0, 200, 90, 255)
    first, *others = [Image.fromarray(picture) for picture in pictures]
    durations = [100, 200, 50, 300, 100, 100, 250, 400]
    first.save(
        tmp_path / f"a.{suffix}", save_all=True, append_images=others, duration=durations, loop=0, **options
    )
    ingest([str(tmp_path / f"a.{suffix}")], tmp_path / "out", size_hw=SMALL, fps=20)
    on_white = np.where(pictures[..., 3:] > 0, pictures[..., :3], 255)
    want = on_white.repeat(np.array(durations) // 50, 0)
    assert np.array_equal(FrameStore.open(tmp_path / "out").frames(0, 0, 30), want)
