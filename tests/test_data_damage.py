"""Films with wrong times, holes and damage: what is right in them is read exactly, and no file ends the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_video import numbered, numbers, places, remux, save
from jinn.contracts import JinnError
from jinn.data import film as module
from jinn.data.film import read_film
from jinn.data.ingest import ingest
from jinn.data.video import VideoError


def clips_of(path: Path, fps: float = 30) -> tuple[list[list[int]], list[str]]:
    """The numbers that the frames of each clip show, and what was said."""
    said: list[str] = []
    clips: dict[int, list[int]] = {}
    for clip, chunk in read_film(path, fps, (64, 64), said.append):
        clips.setdefault(clip, []).extend(numbers(chunk))
    return list(clips.values()), said


def decoding_time(shift: int) -> Any:
    """A change of packets: the time of decoding becomes that of display, as careless programs write it."""

    def change(packet: Any) -> None:
        packet.dts = packet.dts + shift * packet.duration
        packet.pts = packet.dts

    return change


# Without a shift, MP4 begins before time zero, which an edit list leaves out.
@pytest.mark.parametrize(("name", "shift"), [("a.avi", 2), ("a.mkv", 2), ("a.mp4", 2), ("a.mp4", 0)])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_pictures_come_in_order_where_times_are_those_of_decoding(
    name: str, codec: str, shift: int, tmp_path: Path
) -> None:
    pictures = [numbered(i) for i in range(100)]
    options = {"bf": "2", "g": "24"}
    path = save(tmp_path / "right.mp4", pictures, codec=codec, codec_options=options)
    assert clips_of(path) == ([list(range(100))], [])
    if name == "a.avi":  # which has no other times
        save(tmp_path / name, pictures, codec=codec, codec_options=options)
    else:
        remux(path, tmp_path / name, decoding_time(shift))
    assert clips_of(tmp_path / name) == ([list(range(100))], [])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("gap", [300.0, 90_000.0])
def test_a_gap_or_a_jump_of_the_clock_begins_a_new_clip(name: str, gap: float, tmp_path: Path) -> None:
    times = [i / 25 + gap * (i >= 30) for i in range(60)]
    path = save(tmp_path / name, [numbered(i) for i in range(60)], times, rate=25)
    clips, said = clips_of(path, 25)
    assert clips == [list(range(30)), list(range(30, 60))]
    assert ["in one place" in text for text in said] == [True]


def test_pictures_that_follow_each_other_after_minutes_are_no_film(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mkv", [numbered(i) for i in range(8)], [100 * i for i in range(8)], rate=1)
    clips, _ = clips_of(path, 4)
    assert clips == [[i] * 4 for i in range(8)]
    with pytest.raises(JinnError, match="none of its pieces has 16 frames"):
        ingest([str(path)], tmp_path / "out", fps=4)


def test_a_last_picture_that_stays_for_an_hour_is_one_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mp4", [numbered(i) for i in range(60)], codec_options={"bf": "0"})

    def stay(packet: Any) -> None:
        if packet.pts == 59 * packet.duration:
            packet.duration = 3600 * packet.time_base.denominator

    clips, said = clips_of(remux(path, tmp_path / "b.mp4", stay))
    assert clips == [list(range(60))]
    assert ["stands still" in text for text in said] == [True]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mkv", "libx264", {}),
        ("b.mp4", "libx265", {"x265-params": "log-level=none:keyint=25"}),
        ("c.mp4", "libsvtav1", {"preset": "12", "svtav1-params": "keyint=25"}),
    ],
)
@pytest.mark.parametrize("lost", [3, 8])
def test_a_film_goes_on_behind_damage(
    name: str, codec: str, options: dict[str, str], lost: int, tmp_path: Path
) -> None:
    path = save(
        tmp_path / name, [numbered(i) for i in range(200)], codec=codec, codec_options={**options, "g": "25"}
    )
    if sys.platform == "linux":
        assert os.sched_getscheduler(0) == os.SCHED_OTHER, "an encoder made the tests real-time processes"
    packets = places(path)
    content = bytearray(path.read_bytes())
    begin, end = packets[60][0] + 4, sum(packets[59 + lost]) - 2
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)
    clips, said = clips_of(path)
    assert len(clips) == 2
    for clip in clips:
        assert clip == list(range(clip[0], clip[-1] + 1))
    assert clips[0][0] == 0
    assert 40 < clips[0][-1] < clips[1][0] <= 125
    assert clips[1][-1] == 199
    assert ["seconds are missing" in text for text in said] == [True]


def lost(path: Path, out: Path) -> None:
    """A packet that others need is missing."""
    packets = places(path)
    largest = max(packets[55:65], key=lambda place: place[1])
    remux(path, out, lambda packet: (packet.pos, packet.size) != largest)


def holed(path: Path, out: Path) -> None:
    """Some packets of MPEG-TS, of 188 bytes, are missing."""
    content = path.read_bytes()
    middle = len(content) // 2 // 188 * 188
    out.write_bytes(content[:middle] + content[middle + 3 * 188 :])


def flipped(path: Path, out: Path) -> None:
    """Bits within a picture are wrong, which any decoder takes for another picture."""
    content = bytearray(path.read_bytes())
    place, size = max(places(path)[55:65], key=lambda place: place[1])
    for byte in range(place + size // 3, place + size // 3 + 10):
        content[byte] ^= 1
    out.write_bytes(content)


def zeroed(path: Path, out: Path) -> None:
    """Half of a picture is zeros, as where a disk could not be read."""
    content = bytearray(path.read_bytes())
    all_places = places(path)
    place = max(range(55, 65), key=lambda number: all_places[number][1])
    begin, end = all_places[place][0] + all_places[place][1] // 2, sum(all_places[place])
    content[begin:end] = bytes(end - begin)
    out.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx265", {"x265-params": "log-level=none:keyint=25"}),
        ("a.webm", "libvpx-vp9", {"g": "25", "deadline": "realtime", "cpu-used": "8", "b": "2M"}),
        ("a.webm", "libvpx", {"g": "25", "deadline": "realtime", "cpu-used": "8", "b": "2M"}),
        ("a.avi", "mpeg4", {"g": "25", "b": "2M"}),
    ],
)
def test_a_hole_of_zeros_is_found(name: str, codec: str, options: dict[str, str], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    pictures = [np.concatenate([numbered(i, 128)[:64], np.roll(noise, i, 1)]) for i in range(120)]
    whole = save(tmp_path / name, pictures, codec=codec, codec_options=options)
    zeroed(whole, tmp_path / f"damaged-{name}")
    check_two_pieces(tmp_path / f"damaged-{name}")


def check_two_pieces(path: Path) -> None:
    """Of 120 pictures those before the damage are one clip, those behind it another, and what is missing was said."""
    said: list[str] = []
    clips: dict[int, list[int]] = {}
    for clip, chunk in read_film(path, 30, (128, 128), said.append):
        clips.setdefault(clip, []).extend(numbers(chunk[:, :64]))
    first, second = clips.values()
    assert first == list(range(first[-1] + 1))
    assert second == list(range(second[0], 120))
    assert 40 < first[-1] < second[0] <= 100
    assert ["seconds are missing" in text for text in said] == [True]


@pytest.mark.parametrize(
    ("name", "damage", "params"), [("a.mp4", lost, ""), ("a.ts", holed, ""), ("a.mp4", flipped, ":hash=1")]
)
def test_damage_that_ffmpeg_keeps_to_itself_is_found(
    name: str, damage: Any, params: str, tmp_path: Path
) -> None:
    """Of HEVC: pictures that lack others, marks of the container, and checksums that came with the pictures."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    pictures = [np.concatenate([numbered(i, 128)[:64], np.roll(noise, i, 1)]) for i in range(120)]
    options = {"x265-params": f"log-level=none:keyint=25{params}"}
    whole = save(tmp_path / name, pictures, codec="libx265", codec_options=options)
    damage(whole, tmp_path / f"damaged-{name}")
    check_two_pieces(tmp_path / f"damaged-{name}")


def test_nothing_that_a_file_raises_ends_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        save(tmp_path / "v" / name, [numbered(i + ord(name[0])) for i in range(20)])
    whole = module.video_frames

    def frames(path: Path, *arguments: Any) -> Any:
        for number, frame in enumerate(whole(path, *arguments)):
            if path.name == "a.mp4" or (path.name == "b.mp4" and number == 17):
                raise RuntimeError("what nobody thought of")
            yield frame

    monkeypatch.setattr(module, "video_frames", frames)
    summary = ingest([str(tmp_path / "v")], tmp_path / "out", fps=30)
    reason = "its pictures cannot be decoded (what nobody thought of)"
    assert summary.skipped == (("a.mp4", reason),)
    assert summary.warnings == (("b.mp4", reason),)
    assert (summary.episodes, summary.frames) == (2, 17 + 20)


def test_files_that_ffmpeg_cannot_handle_are_named(tmp_path: Path) -> None:
    pictures = [numbered(i) for i in range(20)]
    title = save(
        tmp_path / "title.avi", pictures, codec="mjpeg", pix_fmt="yuvj420p", metadata={"title": "Caf+ film"}
    )
    title.write_bytes(title.read_bytes().replace(b"Caf+", b"Caf\xe9"))  # Latin-1
    assert clips_of(title) == ([list(range(20))], [])
    unknown = tmp_path / "unknown.avi"
    unknown.write_bytes(title.read_bytes().replace(b"MJPG", b"ZZ9X"))
    with pytest.raises(VideoError, match="does not know how its pictures are encoded"):
        clips_of(unknown)
    odd = save(tmp_path / "odd.nut", pictures, codec="rawvideo", pix_fmt="rgb4")
    with pytest.raises(VideoError, match="cannot be decoded"):
        clips_of(odd)


def test_few_pictures_a_second_are_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mp4", [numbered(i) for i in range(20)], rate=5)
    said: list[str] = []
    frames: list[np.ndarray] = [chunk for _, chunk in read_film(path, 10, (64, 64), said.append)]
    assert numbers(frames[0]) == [i // 2 for i in range(40)]
    assert said == ["it shows 5 pictures a second and is read at 10, so pictures repeat"]
