"""What the exact area average costs when videos are read: ``python -m benchmarks.video``.

The same videos are read once with `crop_resize` and once with FFmpeg's own scaler in its place.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.measure import RESULTS, Row, interleaved, save
from jinn.data import video
from jinn.data.film import read_film
from jinn.data.images import crop_resize

SIZES_HW = {(90, 160): 300, (360, 640): 150, (1080, 1920): 60}  # height, width: frames at 30 a second
FRAME_HW = (64, 64)
NOTE = (
    "Speed of reading an H.264 video of 30 frames a second as frames of 64 x 64 with `crop_resize`, decoding "
    "included, and its time divided by that of FFmpeg's scaler (AREA). Medians of alternating runs."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="Ignored: videos are decoded on the CPU.")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for (height, width), frames in SIZES_HW.items():
            path = make_video(Path(folder) / f"{height}.mp4", (height, width), frames)
            for fps in (10, 30):
                seconds = interleaved(
                    {"area": reader(path, fps), "swscale": reader(path, fps, with_swscale)}, args.turns
                )
                read = frames * fps / 30
                rows.append(
                    {
                        "video": f"{width} x {height}",
                        "frames read from a second of video": fps,
                        "frames read a second": read / seconds["area"],
                        "time over FFmpeg's": seconds["area"] / seconds["swscale"],
                    }
                )
                print(rows[-1], flush=True)
    save("video", rows, note=NOTE, folder=args.out)


def make_video(path: Path, size_hw: tuple[int, int], frames: int) -> Path:
    """A video of a random texture that moves, with a little grain, as a camera has."""
    import av

    height, width = size_hw
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 240, (1, height // 4, width // 4, 3), dtype=np.uint8)
    texture_HWC = crop_resize(coarse, (2 * height, 2 * width))[0]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(30))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for t in range(frames):
            top, left = t % height, 3 * t % width
            part = texture_HWC[top : top + height, left : left + width]
            grainy = part + rng.integers(0, 16, part.shape, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grainy)))
        container.mux(stream.encode())
    return path


def with_swscale(picture: Any, size_hw: tuple[int, int], _: float, converter: Any) -> np.ndarray:
    """A decoded picture, resized by FFmpeg and then cropped."""
    scale = max(size_hw[0] / picture.height, size_hw[1] / picture.width)
    height, width = round(picture.height * scale), round(picture.width * scale)
    scaled = converter.reformat(picture, width, height, "rgb24", interpolation="AREA").to_ndarray()
    top, left = (height - size_hw[0]) // 2, (width - size_hw[1]) // 2
    return np.ascontiguousarray(scaled[top : top + size_hw[0], left : left + size_hw[1]])


def reader(
    path: Path, fps: float, to_frame: Callable[..., np.ndarray] = video._to_frame
) -> Callable[[], int]:
    """A function that reads the video and returns the number of frames."""

    def read() -> int:
        with mock.patch.object(video, "_to_frame", to_frame):
            return sum(len(chunk) for _, chunk in read_film(path, fps, FRAME_HW))

    return read


if __name__ == "__main__":
    main()
