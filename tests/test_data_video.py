"""Video files: made with PyAV, read back at other rates, sizes and orientations."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from helpers_video import save
from jinn.data.film import CHUNK, read_film
from jinn.data.hdr import HLG, PQ
from jinn.data.video import VideoError

Image = pytest.importorskip("PIL.Image")

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def gray(value: int, size_hw: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.full((*size_hw, 3), value, np.uint8)


def corners(size_hw: tuple[int, int] = (64, 96)) -> np.ndarray:
    """A black picture with a coloured quarter in each corner: red, green / blue, white."""
    height, width = size_hw
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 4, : width // 4], picture[: height // 4, -width // 4 :] = RED, GREEN
    picture[-height // 4 :, : width // 4], picture[-height // 4 :, -width // 4 :] = BLUE, WHITE
    return picture


def load(path: Path, fps: float = 10, size_hw: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.concatenate([chunk for _, chunk in read_film(path, fps, size_hw)])


def levels(frames: np.ndarray) -> list[int]:
    """The gray level of each frame, among 0, 8, 16, ..."""
    return [round(value / 8) for value in frames.mean((1, 2, 3)).tolist()]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv444p"),
        ("a.mkv", "ffv1", "yuv420p10le"),
        ("a.webm", "libvpx", "yuv420p"),
        ("b.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_formats_and_frame_times(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    step = 32 if codec == "gif" else 8  # a GIF has few colours
    rate = 20 if codec == "gif" else 30  # and counts in hundredths of a second
    path = save(
        tmp_path / name, [gray(i * 8 % 256) for i in range(30)], codec=codec, pix_fmt=pix_fmt, rate=rate
    )
    frames = load(path, fps=10)
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == (32, 32, 3)
    if codec == "gif":
        assert len(frames) == 15
        values = frames.mean((1, 2, 3)) - [2 * i * 8 % 256 for i in range(15)]
        assert np.abs(values).max() <= step
    else:
        assert levels(frames) == list(range(0, 30, 3))


@pytest.mark.parametrize(
    ("fps", "want"),
    [
        (30, list(range(30))),
        (15, list(range(0, 30, 2))),
        (60, [i // 2 for i in range(60)]),
        (12, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27]),
        (0.5, [0]),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])  # exact times, and times in whole milliseconds
def test_videos_are_read_at_other_rates(tmp_path: Path, name: str, fps: float, want: list[int]) -> None:
    path = save(tmp_path / name, [gray(i * 8) for i in range(30)])
    assert levels(load(path, fps)) == want


def test_a_variable_rate_keeps_the_frame_times(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.15, 0.18, 0.9, 1.0, 1.35]
    path = save(tmp_path / "a.mp4", [gray(i * 32) for i in range(7)], times)
    frames = load(path, fps=10)
    shown = [value // 4 for value in levels(frames)]
    # From 0.2 to 0.8 seconds picture 3 is shown. Picture 6 ends before 1.4, the next sampled time.
    assert shown == [0, 1, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5]


def test_time_starts_at_the_first_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mkv", [gray(i * 32) for i in range(5)], [7.0, 7.1, 7.2, 7.3, 7.4])
    assert [value // 4 for value in levels(load(path))] == [0, 1, 2, 3, 4]


def colours(frame: np.ndarray) -> list[tuple[int, ...]]:
    """The corners' colours, saturated: top left, top right, bottom left, bottom right."""
    picked = frame[[2, 2, -3, -3], [2, -3, 2, -3]]
    return [tuple(255 * int(value > 127) for value in pixel) for pixel in picked]


@pytest.mark.parametrize(
    ("turn", "hflip", "want"),
    [
        (0, False, [RED, GREEN, BLUE, WHITE]),
        (90, False, [GREEN, WHITE, RED, BLUE]),  # counter-clockwise
        (180, False, [WHITE, BLUE, GREEN, RED]),
        (270, False, [BLUE, RED, WHITE, GREEN]),
        (0, True, [GREEN, RED, WHITE, BLUE]),
    ],
)
def test_rotated_videos_are_turned_upright(
    tmp_path: Path, turn: int, hflip: bool, want: list[tuple[int, ...]]
) -> None:
    path = save(tmp_path / "a.mp4", [corners()] * 9, turn=turn, hflip=hflip)
    upright = (48, 32) if turn in (90, 270) else (32, 48)
    frames = load(path, size_hw=upright)  # the whole picture: nothing is cropped
    assert colours(frames[0]) == colours(frames[-1]) == want


def test_the_middle_is_cropped_without_distortion(tmp_path: Path) -> None:
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :32], wide[:, -32:] = RED, GREEN  # outside the middle square
    wide[16:48, 48:80] = WHITE  # a square in the middle
    for name, picture in (("wide.mp4", wide), ("tall.mp4", wide.swapaxes(0, 1))):
        frame = load(save(tmp_path / name, [picture] * 9), size_hw=(32, 32))[1].astype(int)
        assert (np.abs(frame[9:23, 9:23] - 255) < 30).all()
        frame[7:25, 7:25] = 0
        assert frame.max() < 60  # neither red nor green is left


@pytest.mark.parametrize("size_hw", [(90, 160), (64, 64), (33, 17), (5, 200)])
@pytest.mark.parametrize("shape", [(48, 64), (50, 34)])
def test_frames_have_the_requested_size(
    tmp_path: Path, size_hw: tuple[int, int], shape: tuple[int, int]
) -> None:
    path = save(tmp_path / "a.mp4", [gray(100, shape)] * 9)
    frames = load(path, size_hw=size_hw)
    assert frames.shape == (3, *size_hw, 3)
    assert np.abs(frames.astype(int) - 100).max() < 6


def test_downsampling_averages(tmp_path: Path) -> None:
    checks = ((np.indices((128, 128)).sum(0) // 2 % 2) * 255).astype(np.uint8)
    path = save(tmp_path / "a.mkv", [np.stack([checks] * 3, -1)] * 5, codec="ffv1", pix_fmt="yuv444p")
    assert np.abs(load(path, size_hw=(16, 16)).astype(int) - 128).max() < 25


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    """64 x 64 pixels, each twice as wide as high, are a picture of 2:1: the square middle is half of it."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :16], picture[:, -16:] = RED, GREEN
    frames = load(save(tmp_path / "a.mp4", [picture] * 9, aspect=Fraction(2)), size_hw=(32, 32))
    assert frames[:, :, 2:-2].max() < 60
    whole = load(tmp_path / "a.mp4", size_hw=(32, 64))
    assert whole[0, 16, 4, 0] > 180
    assert whole[0, 16, -4, 1] > 180


@pytest.mark.parametrize(
    ("transfer", "white", "black"), [(HLG, 191, 0), (PQ, 148, 0)]
)  # 75% and 58% of the signal
def test_white_paper_in_a_video_of_high_dynamic_range_is_white(
    transfer: int, white: int, black: int, tmp_path: Path
) -> None:
    for code, want in ((white, 255), (black, 0)):
        path = save(tmp_path / f"{code}.mp4", [gray(code)] * 9, transfer=transfer)
        assert np.abs(load(path, 30).astype(int) - want).max() < 6
    assert load(save(tmp_path / "sdr.mp4", [gray(white)] * 9), 30).max() < white + 3


def test_transparent_pictures_are_shown_on_white(tmp_path: Path) -> None:
    first = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    first.paste((200, 0, 0, 255), (0, 0, 16, 32))
    second = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    second.paste((0, 0, 200, 255), (0, 0, 16, 32))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second], duration=100, disposal=2)
    frames = load(tmp_path / "a.gif")
    assert len(frames) == 2
    assert frames[0, 16, 4].tolist() == [200, 0, 0]
    assert frames[1, 16, 4].tolist() == [0, 0, 200]
    assert frames[0, 16, 28].tolist() == [255, 255, 255]


def test_long_videos_come_in_chunks(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mp4", [gray(i % 256) for i in range(2 * CHUNK + 9)], rate=10)
    assert [len(chunk) for _, chunk in read_film(path, 10, (8, 8))] == [CHUNK, CHUNK, 9]


def test_unusual_file_names_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "a.mp4", [gray(i) for i in range(9)])
    for name in ("http:a%03d b.mp4", "-i.mp4", "ünïcode ☃.mp4"):
        strange = path.rename(tmp_path / name)
        assert len(load(strange, 30)) == len(load(Path(name), 30)) == 9
        path = strange


def test_files_that_are_no_video_are_reported(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "notes.txt").write_text("nor is this\n" * 500)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(10_000))
    for name in ("p.png", "p.jpg", "p.gif"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    good = save(tmp_path / "good.mp4", [gray(i) for i in range(30)])
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile {good.name}\n")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{good.name}\n")
    (tmp_path / "half.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    reasons = {}
    for path in tmp_path.iterdir():
        if path != good:
            with pytest.raises(VideoError) as caught:
                load(path)
            reasons[path.name] = str(caught.value)
    assert reasons["empty.mp4"] == "it is empty"
    assert reasons["p.gif"] == "it is a single picture, not a video"
    assert reasons["p.png"] == reasons["notes.txt"] == "it is a picture or a text, not a video"
    assert reasons["sound.wav"] == "it has no video in it"
    assert reasons["half.mp4"].startswith("it is not a video, or damaged")
    with pytest.raises(VideoError, match=r"cannot be read \(No such file"):
        load(tmp_path / "missing.mp4")


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx")])
def test_a_truncated_video_gives_the_frames_it_has(tmp_path: Path, name: str, codec: str) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(120)]
    options = {"movflags": "faststart"} if codec == "libx264" else {}
    path = save(tmp_path / name, pictures, codec=codec, options=options)
    whole = load(path, 30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    kept: list[np.ndarray] = []
    with pytest.raises(VideoError):
        kept.extend(chunk for _, chunk in read_film(path, 30, (32, 32)))
    frames = np.concatenate(kept)
    assert 30 < len(frames) < 90
    assert np.array_equal(frames[:25], whole[:25])
