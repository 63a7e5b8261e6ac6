"""Frames to a film that a player keeps, and the address where he asks for it."""

from __future__ import annotations

import asyncio
import io
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from jinn.contracts import JinnError
from jinn.player.sessions import MAX_FPS, MIN_FPS

Kind = Literal["mp4", "gif"]
# Of the longer side: a world of 64 pixels would be a stamp on a screen.
SIDE = {"mp4": 512, "gif": 320}
MEDIA_TYPE = {"mp4": "video/mp4", "gif": "image/gif"}
MAX_BYTES = 48 * 2**20  # of a film's pixels
AT_ONCE = 2
SECONDS = 60.0  # in which its frames must have come


class Films:
    """``POST /api/film.mp4`` and ``.gif``: one at a time for each network address, and `AT_ONCE` in all.

    Args:
        size_hw: of the world's frames, which all films are of.
        fps: of a film that asks for none.
    """

    def __init__(self, size_hw: tuple[int, int], fps: float) -> None:
        self.size_hw, self.fps = size_hw, fps
        self.places = asyncio.Semaphore(AT_ONCE)
        self.addresses: set[str] = set()

    async def make(self, request: Request) -> Response:
        """Frames in, RGB row by row, and the file out; or one sentence that says what was wrong."""
        kind = request.path_params["kind"]
        try:
            fps = float(request.query_params.get("fps", self.fps))
        except ValueError:
            fps = 0.0
        if kind not in get_args(Kind) or not MIN_FPS <= fps <= MAX_FPS:
            return refusal(400, f"films are mp4 or gif, of {MIN_FPS:g} to {MAX_FPS:g} frames a second")
        who = request.client.host if request.client else ""
        if who in self.addresses:
            return refusal(429, "a film of yours is being made: wait for it")
        self.addresses.add(who)
        try:
            async with asyncio.timeout(SECONDS):
                pixels = await read_body(request)
            height, width = self.size_hw
            if not pixels or len(pixels) % (3 * height * width):
                most = most_frames(self.size_hw)
                return refusal(400, f"a film is 1 to {most} frames of {width} x {height} pixels, RGB")
            frames_THWC = np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 3)
            async with self.places:
                data = await asyncio.to_thread(film, frames_THWC, fps, kind)
        except TimeoutError:
            return refusal(408, "the frames came too slowly: keep a shorter film")
        except JinnError as error:
            return refusal(501, str(error))
        finally:
            self.addresses.discard(who)
        return Response(data, media_type=MEDIA_TYPE[kind])


def refusal(status: int, told: str) -> Response:
    """What was wrong, as this server's addresses tell it."""
    return JSONResponse({"error": told}, status)


def most_frames(size_hw: tuple[int, int]) -> int:
    """How long a film may be."""
    return MAX_BYTES // (3 * size_hw[0] * size_hw[1])


async def read_body(request: Request) -> bytearray:
    """What a client sends; nothing if it is too much."""
    body = bytearray()
    async for part in request.stream():
        if len(body) + len(part) > MAX_BYTES:
            return bytearray()
        body += part
    return body


def film(frames_THWC: np.ndarray, fps: float, kind: Kind) -> bytes:
    """A film of a world, each of its pixels a square.

    Args:
        frames_THWC: uint8.
        fps: frames a second; a GIF counts hundredths of a second.
        kind: "mp4" (H.264, plays everywhere) or "gif".

    Returns:
        The bytes of the file.

    Raises:
        JinnError: PyAV is missing and an mp4 is wanted.
    """
    scale = max(1, SIDE[kind] // max(frames_THWC.shape[1:3]))
    if kind == "gif":
        return _gif(frames_THWC, fps, scale)
    try:
        import av
    except ImportError:
        raise JinnError("mp4 needs PyAV: pip install 'jinn[play]', or keep a GIF") from None
    height, width = (scale * side // 2 * 2 for side in frames_THWC.shape[1:3])  # H.264 wants even sides
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16", "preset": "fast"}
        for frame_HWC in frames_THWC:
            large_HWC = frame_HWC.repeat(scale, 0).repeat(scale, 1)[:height, :width]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(large_HWC), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def _gif(frames_THWC: np.ndarray, fps: float, scale: int) -> bytes:
    # One palette for all frames: a palette for each would flicker.
    some_PHWC = frames_THWC[:: max(1, len(frames_THWC) // 32)]
    colours = Image.fromarray(some_PHWC.reshape(-1, *some_PHWC.shape[2:])).quantize(256)
    height, width = frames_THWC.shape[1:3]
    pictures = [
        Image.fromarray(frame_HWC)
        .quantize(palette=colours, dither=Image.Dither.NONE)
        .resize((scale * width, scale * height), Image.Resampling.NEAREST)
        for frame_HWC in frames_THWC
    ]
    # Hundredths of a second are all that the format knows: each frame ends as near to its time as it can.
    ends = [round(100 * (i + 1) / fps) for i in range(len(pictures))]
    durations = [10 * (end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    file = io.BytesIO()
    pictures[0].save(
        file, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, disposal=1
    )
    return file.getvalue()
