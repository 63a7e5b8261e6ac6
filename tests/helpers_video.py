"""Videos to read, made with PyAV."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="LOUD: videos cannot be tested without the extra 'video'")


@contextmanager
def same_priority() -> Iterator[None]:
    """The thread's scheduling is afterwards what it was before.

    Where root runs it, SVT-AV1 makes the thread that calls it a real-time one. All that is started later inherits that:
    on two cores, two busy browsers then keep the server that they wait for from ever running.
    """
    if sys.platform != "linux":
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


@same_priority()
def save(
    path: Path,
    pictures: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    rate: int = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    turn: int = 0,
    hflip: bool = False,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    transfer: int | None = None,
) -> Path:
    """Encode pictures, at a constant rate or at the given times in seconds."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if codec == "libx264":
            stream.options = {"crf": "8"}
        if codec_options:
            stream.options = {**stream.options, **codec_options}
        container.metadata.update(metadata or {})
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn or hflip:
            stream.set_display_rotation(turn, hflip=hflip)
        if times is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture)
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbered(number: int, size: int = 64) -> np.ndarray:
    """A picture that shows a number below 256 as eight black or white bars, which survive any encoder."""
    bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8)
    return np.broadcast_to(255 * bits.repeat(size // 8)[None, :, None], (size, size, 3)).copy()


def numbers(frames_THWC: np.ndarray) -> list[int]:
    """The numbers that `numbered` pictures show."""
    bars_TX = frames_THWC.reshape(len(frames_THWC), -1, 8, frames_THWC.shape[2] // 8, 3).mean((1, 3, 4)) > 127
    return [int(number) for number in (bars_TX << np.arange(8)).sum(1)]


def remux(
    path: Path, out: Path, change: Callable[[Any], object], options: dict[str, str] | None = None
) -> Path:
    """Copy the packets of a video, each after a change, unless that returns False."""
    with av.open(str(path)) as old, av.open(str(out), "w", options=options or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size and change(packet) is not False:
                packet.stream = stream
                new.mux(packet)
    return out


def places(path: Path) -> list[tuple[int, int]]:
    """Where the bytes of each packet lie: first byte and length."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
