"""Pictures and films, valid ones of many formats."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzzing.files import Files, check
from jinn.player.pictures import read_pictures
from jinn.web.film import encode_film

SIZE_HW = (32, 32)  # of the frames that pictures become
FRAMES = 24  # of a film


def picture(number: int, size_hw: tuple[int, int] = (40, 50)) -> Image.Image:
    """A picture with shapes and noise."""
    rng = np.random.default_rng(number)
    pixels_HWC = rng.integers(0, 40, (*size_hw, 3), dtype=np.uint8)
    pixels_HWC[8:20, 3 * number % 30 : 3 * number % 30 + 9] = 200
    return Image.fromarray(pixels_HWC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animation() -> dict[str, Any]:
    """Options of Pillow that make an animation of eight pictures."""
    return {"save_all": True, "append_images": [picture(i) for i in range(1, 8)], "duration": 90}


def valid_pictures() -> list[Files]:
    plain, clear = picture(0), picture(0).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    turned = Image.Exif()
    turned[0x0112] = 6
    return [
        {"a.png": encoded(plain, "PNG")},
        {"a.png": encoded(clear, "PNG")},
        {"a.png": encoded(plain.quantize(16), "PNG", transparency=3)},
        {"a.png": encoded(Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40)), "PNG")},
        {"a.png": encoded(plain, "PNG", **animation())},
        {"a.jpg": encoded(plain, "JPEG", exif=turned, progressive=True)},
        {"a.jpg": encoded(plain.convert("CMYK"), "JPEG")},
        {"a.webp": encoded(clear, "WEBP", lossless=True)},
        {"a.webp": encoded(plain, "WEBP", **animation())},
        {"a.gif": encoded(plain, "GIF", **animation())},
        {"a.bmp": encoded(plain, "BMP")},
    ]  # fmt: skip


def read_picture_file(folder: Path) -> None:
    """As an upload is read; the server does it in a process of its own."""
    for path in folder.iterdir():
        frames_THWC = read_pictures(path.read_bytes(), SIZE_HW, 4, 10.0)
        check(frames_THWC.dtype == np.uint8 and frames_THWC.shape[1:] == (*SIZE_HW, 3), "other frames")
        check(1 <= len(frames_THWC) <= 4, "another number of frames")


def valid_films() -> list[Files]:
    frames_THWC = np.stack([np.asarray(picture(i, (32, 48))) for i in range(FRAMES)])
    numbered = {f"{i:03}.png": encoded(picture(i), "PNG") for i in range(16)}
    arrays = [io.BytesIO(), io.BytesIO()]
    np.save(arrays[0], frames_THWC)
    np.savez(arrays[1], a=frames_THWC, b=frames_THWC[..., 0])
    return [
        {"a.mp4": encode_film(frames_THWC[..., ::4, ::4, :], 10.0, "mp4")},
        *({f"a.{ending}": video(frames_THWC, *how)} for ending, *how in (
            ("mkv", "matroska", "libx264"), ("webm", "webm", "libvpx"), ("avi", "avi", "mpeg4"),
            ("ts", "mpegts", "mpeg2video"), ("mov", "mov", "mjpeg"), ("nut", "nut", "ffv1"),
        )),
        {"a.gif": encoded(picture(0), "GIF", **animation())},
        {"a.webp": encoded(picture(0), "WEBP", **animation())},
        numbered,
        {"a.npy": arrays[0].getvalue()},
        {"a.npz": arrays[1].getvalue()},
    ]  # fmt: skip


def video(frames_THWC: np.ndarray, container: str, codec: str) -> bytes:
    """Frames as a video."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as film:
        stream: Any = film.add_stream(codec, rate=25 if codec == "mpeg2video" else 10)
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame_HWC in frames_THWC:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC)))
        film.mux(stream.encode())
    return file.getvalue()
