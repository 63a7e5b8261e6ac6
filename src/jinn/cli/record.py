"""``jinn record``"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from jinn.cli.console import progress, say
from jinn.cli.data import parse_levels, with_options
from jinn.errors import JinnError


def record(
    env: tyro.conf.Positional[str | None] = None,
    /,
    *,
    out: Path,
    size: tuple[int, int] = (64, 64),
    screen: str | None = None,
    fps: float = 10.0,
    minutes: float | None = None,
    seed: int = 0,
    levels: str | None = None,
    options: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    port: int | None = None,
    browser: bool = True,
) -> None:
    """Record your own play, or the screen, as a store.

    Args:
        env: Environment to play in the browser by keys, such as envpool:CoinrunHard-v0 or gymnasium:ALE/Pong-v5.
        out: Folder of the store. What is recorded is added to it.
        size: Height and width of the stored frames. The page shows the environment's own.
        screen: Part of the screen to film instead, as X,Y,WIDTH,HEIGHT in pixels. Its keys are not seen.
        fps: Frames per second of the screen. An environment runs at its own rate.
        minutes: Minutes after which the film of the screen ends. Ctrl-C ends it, too.
        seed: Seed of the first episode. Each one has the next.
        levels: Level seeds of an environment, as START:COUNT.
        options: Option of the environment, as KEY=VALUE. May be given several times.
        port: Port to listen on. The default is JINN_PORT, else the usual port, or a free one if that is taken.
        browser: Whether the page is opened in a browser.
    """
    if (env is None) == (screen is None):
        raise JinnError(
            "name what to record: an environment such as envpool:CoinrunHard-v0, or --screen X,Y,W,H"
        )
    if min(size) < 1 or not 0 < fps < math.inf or (minutes is not None and minutes <= 0):
        raise JinnError("--size, --fps and --minutes are above zero")
    if screen is not None:
        return film_screen(parse_area(screen), out, size, fps, math.inf if minutes is None else 60 * minutes)
    from jinn.player.record import Recorder, create_recorder_app
    from jinn.player.server import serve_app

    assert env is not None
    recorder = Recorder(with_options(env, options), out, size, seed, parse_levels(levels))
    try:
        serve_app(create_recorder_app(recorder), f"recording {env}", "127.0.0.1", port, browser)
    finally:
        recorder.close()
    say(f"{out}: {recorder.attempts} episodes, {recorder.kept:,} frames added")


def film_screen(
    area: tuple[int, int, int, int], out: Path, size_hw: tuple[int, int], fps: float, seconds: float
) -> None:
    """Film a part of the screen until Ctrl-C."""
    from jinn.data.screen import film, open_screen

    with open_screen(area) as grab, progress() as show:
        frames = film(grab, out, size_hw, fps, seconds, shown(show, fps * seconds))
    say(f"{out}: {frames:,} frames of the screen added")


def shown(show: Callable[..., Any], total: float) -> Callable[[int], None]:
    """Shows how many frames there are."""
    began = time.monotonic()

    def tell(frames: int) -> None:
        note = f"{time.monotonic() - began:.0f} s"
        show("frames", frames, math.ceil(total) if total < math.inf else None, note=note)

    return tell


def parse_area(text: str) -> tuple[int, int, int, int]:
    """``"X,Y,W,H"`` to four numbers."""
    parts = text.split(",")
    try:
        x, y, width, height = map(int, parts)
    except ValueError:
        x = y = width = height = 0
    if width < 1 or height < 1:
        raise JinnError(f"--screen is X,Y,WIDTH,HEIGHT in pixels, such as 0,0,640,480, and not {text!r}")
    return x, y, width, height
