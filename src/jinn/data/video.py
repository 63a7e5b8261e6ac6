"""Video files -> frames at a rate and a size.

Frames are picked by their timestamps: output frame k is what a player displays k / fps seconds after the first picture,
also when the file's own rate varies. Pictures are rotated and mirrored as the file asks, and go through `crop_resize`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.data.images import crop_resize

CHUNK = 256  # frames yielded at once
# Seconds. Matroska rounds times to milliseconds: a picture that is due now may be stamped half of one later.
TOLERANCE = 0.001
# Seconds. A picture that claims to be displayed for longer is a jump of the clock, as where recordings are joined.
LONGEST_DISPLAY = 600.0
# Formats that FFmpeg can open but that are no videos: pictures, text as pictures, and lists of other files.
NOT_VIDEO = {"image2", "tty", "bin", "xbin", "adf", "idf", "hls", "dash", "concat", "sdp", "lavfi"}


class VideoError(JinnError):
    """A file cannot be read as video, or only in part; the message says why in plain words."""


def read_video(path: str | Path, fps: float, size_hw: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield a video's frames in chunks, uint8 ``(T, H, W, 3)`` with T from 1 to `CHUNK`.

    Args:
        path: A file in any format that FFmpeg decodes: mp4, webm, mkv, mov, avi, gif, ...
        fps: Frames per second to yield; above the video's own rate, frames repeat.
        size_hw: Height and width of the frames, pixels.

    Raises:
        VideoError: The file is no video, or breaks off, after all frames before that were yielded.
        JinnError: PyAV is not installed.
    """
    chunk: list[np.ndarray] = []
    with _open(Path(path)) as container:
        try:
            for frame_HWC in _resample(container, fps, size_hw):
                chunk.append(frame_HWC)
                if len(chunk) == CHUNK:
                    yield np.stack(chunk)
                    chunk.clear()
        except Exception:
            if chunk:  # what was decoded comes first
                yield np.stack(chunk)
            raise
        if chunk:
            yield np.stack(chunk)


def _resample(container: Any, fps: float, size_hw: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the frame that is displayed at times 0, 1 / fps, 2 / fps, ... after the first picture."""
    from av.video.reformatter import VideoReformatter

    stream = container.streams.video[0]
    usual = 1 / float(stream.average_rate or fps)  # seconds between pictures
    pixel_aspect = float(stream.sample_aspect_ratio or 1)  # width over height of a pixel: television
    converter = VideoReformatter()
    due, pictures, since, end = 0, 0, 0.0, 0.0
    zero = picture = None  # the clock at the first picture; the current picture
    for frame in container.decode(stream):
        before = since
        if frame.time is None:
            since = before + usual * bool(pictures)
        else:
            zero = frame.time if zero is None else zero
            since = frame.time - zero
            end = frame.time
            if not -2 * usual <= since - before <= LONGEST_DISPLAY:
                zero += since - before - usual
                since = before + usual
        while picture is not None and due / fps < since - TOLERANCE:
            yield _to_frame(picture, size_hw, pixel_aspect, converter)
            due += 1
        picture, pictures = frame, pictures + 1
    if picture is None or pictures == 1:
        raise VideoError("it is a single picture, not a video" if pictures else "it holds no pictures")
    known = picture.duration and picture.time_base
    last = float(picture.duration * picture.time_base) if known else usual
    while due / fps < since + last - TOLERANCE:
        yield _to_frame(picture, size_hw, pixel_aspect, converter)
        due += 1

    length = 0.0
    if stream.duration:
        length = float(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:  # else it may be the length of the sound
        length = container.duration / 1e6
    end = max(since, end) + last  # some formats count their length from the first picture, some from zero
    if end < 0.9 * length:
        raise VideoError(f"it breaks off after {end:.1f} of {length:.1f} seconds")


def _to_frame(picture: Any, size_hw: tuple[int, int], pixel_aspect: float, converter: Any) -> np.ndarray:
    """One decoded picture as a frame, uint8 HWC: upright, on white, cropped and resized."""
    has_alpha = any(component.is_alpha for component in picture.format.components)
    pixels_HWC = converter.reformat(picture, format="rgba" if has_alpha else "rgb24").to_ndarray()
    if has_alpha:  # on white, as a browser shows it
        opaque = pixels_HWC[..., 3:].astype(np.uint16)
        pixels_HWC = ((pixels_HWC[..., :3] * opaque + 255 * (255 - opaque) + 127) // 255).astype(np.uint8)
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        # It moves pixel (x, y) to (a x + c y, b x + d y); phones store one of eight orientations in it.
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        if abs(b) > abs(a):
            pixels_HWC, pixel_aspect, a, d = pixels_HWC.swapaxes(0, 1), 1 / pixel_aspect, c, b
        pixels_HWC = pixels_HWC[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return crop_resize(pixels_HWC[None], size_hw, pixel_aspect)[0]


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        raise JinnError("reading video needs PyAV: run pip install 'jinn[video]'") from error
    try:
        if path.stat().st_size == 0:
            raise VideoError("it is empty")
        # "file:" keeps names such as a:b.mp4 from being taken for an address.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as error:
        raise VideoError(f"it is not a video, or damaged ({error.strerror})") from error
    except OSError as error:
        raise VideoError(f"it cannot be read ({error.strerror})") from error
    with container:
        formats = set(container.format.name.split(","))
        if formats & NOT_VIDEO or any(name.endswith("_pipe") for name in formats):
            raise VideoError("it is a picture or a text, not a video")
        streams = container.streams.video
        if not streams or streams[0].disposition & av.stream.Disposition.attached_pic:  # an album's cover
            raise VideoError("it has no video in it")
        large = streams[0].codec_context.width * streams[0].codec_context.height > 640 * 360
        streams[0].thread_type = (
            "AUTO" if large else "NONE"
        )  # small pictures lose more by threads than they gain
        try:
            yield container
        except av.error.FFmpegError as error:
            raise VideoError(f"its pictures cannot be decoded ({error.strerror})") from error
