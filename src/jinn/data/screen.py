"""A part of the screen, filmed into a frame store."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from jinn.data.images import resize
from jinn.data.writer import StoreWriter
from jinn.errors import JinnError

Grab = Callable[[], np.ndarray]  # returns what the screen shows now, uint8 HWC
CLIP_SECONDS = 60.0  # a film is cut into clips of this length, which are safe on the disk; they share a split


@contextmanager
def open_screen(area: tuple[int, int, int, int]) -> Iterator[Grab]:
    """What shows a part of the screen: x and y of its corner, width and height, pixels.

    Raises:
        JinnError: mss is not installed, or the platform shows programs no screen.
    """
    try:
        import mss
    except ImportError as error:
        raise JinnError("filming the screen needs mss: run pip install 'jinn[screen]'") from error
    x, y, width, height = area
    try:
        camera = mss.mss()
    except Exception as error:  # each platform has errors of its own
        raise no_screen(error) from error
    with camera:

        def grab() -> np.ndarray:
            try:
                picture = camera.grab({"left": x, "top": y, "width": width, "height": height})
            except Exception as error:
                raise no_screen(error) from error
            return np.asarray(picture)[..., 2::-1]  # BGRA

        grab()  # now, so that a mistake is told before the store is made
        yield grab


def no_screen(error: Exception) -> JinnError:
    """The sentence for a screen that cannot be filmed."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    return JinnError(
        f"this screen cannot be filmed ({said}): it needs a desktop of X11, Windows or macOS that lets this program "
        "see the screen, and an area within it"
    )


def film(
    grab: Grab,
    out: Path,
    size_hw: tuple[int, int],
    fps: float,
    seconds: float,
    show: Callable[[int], None] = lambda frames: None,
) -> int:
    """Film into a store for some seconds, or until Ctrl-C; returns the number of frames.

    Where the machine is too slow for the rate, the last picture is repeated: the time of a store is true.
    """
    source, frames = f"screen#recorded={secrets.token_hex(8)}", 0
    with StoreWriter(out, size_hw, fps) as writer:
        began = time.monotonic()
        with suppress(KeyboardInterrupt):
            while frames < fps * seconds:
                time.sleep(max(0.0, began + frames / fps - time.monotonic()))
                frame_1HWC = resize(grab()[None], size_hw, writer.fit)
                due = int(min((time.monotonic() - began) * fps + 1, fps * seconds)) - frames
                for _ in range(max(1, due)):
                    writer.append(frame_1HWC)
                frames += max(1, due)
                show(frames)
                if writer.open_frames >= CLIP_SECONDS * fps:
                    writer.end_episode(source)
                    writer.commit()
        if writer.open_frames:
            writer.end_episode(source)
        writer.finish_source(source)
    return frames
