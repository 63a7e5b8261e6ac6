"""Which films lie in a folder, and films that are no videos: numbered pictures, animated WebP, arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers_video import av, numbered, numbers, save
from jinn.contracts import JinnError
from jinn.data.film import read_film
from jinn.data.folder import find_films
from jinn.data.ingest import by_reason, ingest
from jinn.data.store import FrameStore
from jinn.data.video import VideoError

Image = pytest.importorskip("PIL.Image")


def pictures_in(folder: Path, shown: range, name: str = "frame_{:04d}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in shown:
        Image.fromarray(numbered(number)).save(folder / name.format(number))


def clips_in(path: Path) -> list[list[int]]:
    """The numbers that the clips of a store show."""
    store = FrameStore.open(path)
    return [numbers(store.frames(i, 0, int(store.lengths[i]))) for i in range(store.num_episodes)]


def test_numbered_pictures_are_one_clip(tmp_path: Path) -> None:
    pictures_in(tmp_path / "v" / "a", range(5, 45), "{}.png")  # 10 comes after 9
    pictures_in(tmp_path / "v" / "b", range(0, 80, 2))  # every second number, with a gap
    (tmp_path / "v" / "b" / "frame_0040.png").unlink()
    pictures_in(tmp_path / "v" / "few", range(4))
    (tmp_path / "v" / "a" / "12.png").write_bytes(b"\x89PNG and nothing more")
    summary = ingest([str(tmp_path / "v")], tmp_path / "out", fps=7)
    assert clips_in(tmp_path / "out") == [list(range(13, 45)), list(range(0, 40, 2)), list(range(42, 80, 2))]
    assert [name for name, _ in summary.warnings] == ["a/5.png to 44.png"] * 2
    assert by_reason(summary.skipped) == [
        "few/frame_0000.png and 3 more: it is a picture, of fewer than 16 with successive numbers"
    ]
    again = ingest([str(tmp_path / "v")], tmp_path / "out")
    assert (again.resumed, again.episodes) == (3, 0)


def test_animated_webp_is_a_clip(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(numbered(i)) for i in range(20)]
    (tmp_path / "v").mkdir()
    first.save(tmp_path / "v" / "a.webp", save_all=True, append_images=others, duration=200, lossless=True)
    first.save(tmp_path / "v" / "b.png", save_all=True, append_images=others, duration=200)
    first.save(tmp_path / "v" / "still.webp")
    summary = ingest([str(tmp_path / "v")], tmp_path / "out", fps=5)
    assert clips_in(tmp_path / "out") == [list(range(20))] * 2
    assert [name for name, _ in summary.skipped] == ["still.webp"]
    with pytest.raises(VideoError, match="single picture"):
        next(read_film(tmp_path / "v" / "still.webp", 5, (64, 64)))


def test_arrays_are_clips(tmp_path: Path) -> None:
    clip = np.stack([numbered(i) for i in range(40)])
    (tmp_path / "v").mkdir()
    np.save(tmp_path / "v" / "a.npy", clip)
    np.savez_compressed(tmp_path / "v" / "b.npz", x=clip[:20], y=clip[20:, ..., 0])
    np.save(tmp_path / "v" / "float.npy", clip / 255)
    np.save(tmp_path / "v" / "objects.npy", np.array([{}, print]), allow_pickle=True)
    (tmp_path / "v" / "broken.npz").write_bytes((tmp_path / "v" / "b.npz").read_bytes()[:999])
    summary = ingest([str(tmp_path / "v")], tmp_path / "out")
    assert clips_in(tmp_path / "out") == [list(range(40)), list(range(20)), list(range(20, 40))]
    reasons = dict(summary.skipped)
    assert sorted(reasons) == ["broken.npz", "float.npy", "objects.npy"]
    assert reasons["float.npy"].startswith("it holds float64 of shape (40, 64, 64, 3): a clip is uint8")
    assert reasons["objects.npy"].startswith("it holds object of shape (2,)")
    assert reasons["broken.npz"].startswith("it is no array of pictures")


def test_a_folder_without_videos_is_told_by_first_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        (tmp_path / f"{number}.py").write_text("print()\n")
    monkeypatch.setattr(av, "open", None)  # none is decoded
    with pytest.raises(
        JinnError, match=r"no videos in .*, only 0.py and 299 more: it is a picture or a text"
    ):
        ingest([str(tmp_path)], tmp_path / "out")


def test_a_video_without_a_suffix_is_found(tmp_path: Path) -> None:
    pictures = [numbered(i) for i in range(20)]
    for name, codec in (("a.mkv", "libx264"), ("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "libx264")):
        save(tmp_path / name, pictures, codec=codec).rename(tmp_path / f"{name[2:]} film")
    films, skipped = find_films(tmp_path, tmp_path / "out")
    assert [film.name for film in films] == ["avi film", "mkv film", "mp4 film", "ts film"]
    assert not skipped


def test_links_are_followed_and_folders_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("elsewhere/a.mp4", "v/sub/b.mp4", "v/locked/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "v" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "v" / "again").symlink_to(tmp_path / "v" / "sub")
    (tmp_path / "v" / "sub" / "up").symlink_to(tmp_path / "v")
    (tmp_path / "v" / "gone.mp4").symlink_to(tmp_path / "nothing")
    iterdir = Path.iterdir

    def guarded(folder: Path) -> object:
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", guarded)
    films, skipped = find_films(tmp_path / "v", tmp_path / "out")
    assert [film.name for film in films] == ["linked/a.mp4", "sub/b.mp4"]
    assert skipped == [
        ("gone.mp4", "its link leads nowhere"),
        ("locked", "this folder cannot be read (Permission denied)"),
    ]


@pytest.mark.parametrize("first", ["cover", "still", "film"])
def test_the_film_is_read_and_not_the_still_nor_the_other_film(first: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.mp4" if first == "cover" else "a.mkv")
    with av.open(str(path), "w") as container:
        other = container.add_stream("mjpeg" if first != "film" else "libx264", rate=30)
        film = container.add_stream("libx264", rate=30)
        for stream in (other, film):
            stream.height = stream.width = 64
            stream.pix_fmt = "yuv420p" if stream.codec_context.name != "mjpeg" else "yuvj420p"
        other.disposition = av.stream.Disposition.attached_pic if first == "cover" else 0
        film.disposition = av.stream.Disposition.default
        for number in range(20):
            if number == 0 or first == "film":
                container.mux(other.encode(av.VideoFrame.from_ndarray(numbered(255 - number))))
            container.mux(film.encode(av.VideoFrame.from_ndarray(numbered(number))))
        for stream in (other, film):
            container.mux(stream.encode())
    said: list[str] = []
    frames = np.concatenate([chunk for _, chunk in read_film(path, 30, (64, 64), said.append)])
    assert numbers(frames) == list(range(20))
    assert said == (["it has 2 tracks of video, of which number 2 is read"] if first == "film" else [])
