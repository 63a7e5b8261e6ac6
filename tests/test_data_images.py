"""A picture becomes the same frame from a video file, an environment or an upload."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from jinn.data.collect import collect
from jinn.data.film import read_film
from jinn.data.images import BAND_VALUES, Fit, crop_resize, resize

SIZES = [(150, 150), (120, 211), (97, 131), (33, 17), (64, 64), (640, 360)]  # height and width, pixels


def noise(size_hw: tuple[int, int], frames: int = 1) -> np.ndarray:
    """Random pictures, in which every wrong weight is visible."""
    return np.random.default_rng(0).integers(0, 256, (frames, *size_hw, 3), dtype=np.uint8)


class Screen(gymnasium.Env):
    """An environment that shows one picture."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, size_hw: tuple[int, int], render_mode: str | None = None) -> None:
        self.picture, self.render_mode = noise(size_hw)[0], render_mode

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[int, dict]:
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        return 0, 0.0, False, False, {}

    def render(self) -> np.ndarray:
        return self.picture


def through_a_video(
    picture: np.ndarray, size_hw: tuple[int, int], folder: Path, fit: Fit = "crop"
) -> np.ndarray:
    av = pytest.importorskip("av")
    with av.open(str(folder / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "bgr0"  # not compressed with loss, and no conversion of colours
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    frame: np.ndarray = next(read_film(folder / "a.mkv", 10, size_hw, fit=fit))[1][0]
    return frame


def through_an_environment(
    picture: np.ndarray, size_hw: tuple[int, int], _: Path, fit: Fit = "crop"
) -> np.ndarray:
    height, width = picture.shape[:2]
    name = f"JinnScreen{height}x{width}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, Screen, kwargs={"size_hw": (height, width)})
    episode = next(collect(f"gymnasium:{name}", 2, 0, num_envs=1, size_hw=size_hw, fit=fit))
    frame: np.ndarray = episode.frames_THWC[0]
    return frame


def through_an_upload(
    picture: np.ndarray, size_hw: tuple[int, int], _: Path, fit: Fit = "crop"
) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    from jinn.player.pictures import read_pictures

    file = io.BytesIO()
    image.fromarray(picture).save(file, "PNG")
    return read_pictures(file.getvalue(), size_hw, 1, 1.0, fit)[0]


@pytest.mark.parametrize("way", [through_a_video, through_an_environment, through_an_upload])
@pytest.mark.parametrize("size_hw", [(64, 64), (90, 160)])
@pytest.mark.parametrize("shape", SIZES)
def test_videos_environments_and_uploads_give_the_same_frame(
    way: Callable[[np.ndarray, tuple[int, int], Path], np.ndarray],
    size_hw: tuple[int, int],
    shape: tuple[int, int],
    tmp_path: Path,
) -> None:
    picture = noise(shape)[0]
    assert np.array_equal(way(picture, size_hw, tmp_path), crop_resize(picture[None], size_hw)[0])


@pytest.mark.parametrize("size_hw", [(64, 64), (90, 160), (5, 200), (1, 1)])
@pytest.mark.parametrize("shape", [*SIZES, (1, 1), (1000, 1400)])
@pytest.mark.slow
def test_frames_are_the_exact_mean_of_the_area(shape: tuple[int, int], size_hw: tuple[int, int]) -> None:
    """Enlarge the middle by the wanted size and average by its own, in whole numbers: the area average."""
    pictures = noise(shape, frames=2)
    scale = min(shape[0] / size_hw[0], shape[1] / size_hw[1])
    crop_h, crop_w = (max(1, round(side * scale)) for side in size_hw)
    top, left = (shape[0] - crop_h) // 2, (shape[1] - crop_w) // 2
    crop = pictures[:, top : top + crop_h, left : left + crop_w].astype(np.int64)
    high = np.stack([part.sum(1) for part in np.split(crop.repeat(size_hw[0], 1), size_hw[0], 1)], 1)
    sums = np.stack([part.sum(2) for part in np.split(high.repeat(size_hw[1], 2), size_hw[1], 2)], 2)
    want = (2 * sums + crop_h * crop_w) // (2 * crop_h * crop_w)  # halves are rounded up
    frames = crop_resize(pictures, size_hw)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, want)
    assert np.array_equal(crop_resize(pictures[1:], size_hw), frames[1:])  # alone as in a batch


@pytest.mark.parametrize("factor", [2, 3, 5, 7])
def test_enlarged_pixel_art_is_restored_exactly(factor: int) -> None:
    art = noise((64, 48), frames=3)
    large = crop_resize(art, (64 * factor, 48 * factor))
    assert np.array_equal(large, art.repeat(factor, 1).repeat(factor, 2))
    assert large.size > BAND_VALUES
    assert np.array_equal(crop_resize(large, (64, 48)), art)


def test_a_picture_of_the_right_size_is_unchanged() -> None:
    frames = noise((64, 64))
    assert crop_resize(frames, (64, 64)) is frames


def test_the_middle_is_cropped() -> None:
    wide = np.zeros((2, 64, 128, 3), np.uint8)
    wide[:, :, :32] = wide[:, :, -32:] = 255
    wide[:, 16:48, 48:80] = 200
    square = crop_resize(wide, (16, 16))
    assert (square[:, 4:12, 4:12] == 200).all()
    square[:, 4:12, 4:12] = 0
    assert (square == 0).all()


@pytest.mark.parametrize("pixel_aspect", [1.0, 2.0])
def test_a_wide_picture_is_padded_or_stretched(pixel_aspect: float) -> None:
    """On a screen it is twice as wide as high, by its pixels or by their shape."""
    tall = noise((32, round(64 / pixel_aspect)), frames=2)
    padded = resize(tall, (16, 16), "pad", pixel_aspect)
    assert not padded[:, :4].any()
    assert not padded[:, 12:].any()
    shown = tall.repeat(round(pixel_aspect), 2)
    assert np.array_equal(padded[:, 4:12], crop_resize(shown, (8, 16)))
    stretched = resize(tall, (16, 16), "stretch", pixel_aspect)
    assert np.array_equal(stretched, crop_resize(shown.repeat(2, 1), (16, 16)))
    assert np.array_equal(resize(tall, (16, 16), "crop", pixel_aspect), crop_resize(shown, (16, 16)))


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_every_source_is_fitted_in_alike(fit: Fit, tmp_path: Path) -> None:
    picture, size_hw = noise((120, 211)), (64, 64)
    wanted = resize(picture, size_hw, fit)[0]
    assert not np.array_equal(wanted, crop_resize(picture, size_hw)[0])
    for way in (through_a_video, through_an_environment, through_an_upload):
        assert np.array_equal(way(picture[0], size_hw, tmp_path, fit), wanted)


def test_pixels_need_not_be_square() -> None:
    art = noise((32, 16))
    wide = crop_resize(art, (32, 32), pixel_aspect=2.0)
    assert np.array_equal(wide, art.repeat(2, 2))
    tall = crop_resize(art, (32, 8), pixel_aspect=0.5)
    assert np.array_equal(tall, crop_resize(art.repeat(2, 1), (32, 8)))
