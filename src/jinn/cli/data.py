"""``jinn data``"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import tyro

from jinn.cli.console import progress, say
from jinn.data.images import Fit
from jinn.errors import JinnError

MAX_SENTENCES = 20  # about files of one heading


def data(
    sources: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    group: str | None = None,
    frames: int | None = None,
    seed: int = 0,
    levels: str | None = None,
    policy: str = "random",
    env: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    camera: str | None = None,
    source_fps: float | None = None,
) -> None:
    """Turn videos or environments into a frame store.

    Args:
        sources: Video files (also arrays, .npy and .npz, and animated WebP), folders of these and of numbered
            pictures, data sets of LeRobot (a folder) and of Minari (a folder or minari:NAME), a .txt file with
            the path of a source in each line, or environments such as envpool:CoinrunHard-v0,
            envpool:Boxing-v5, gymnasium:CartPole-v1 and synthetic:game.
        out: Folder of the store. An interrupted command goes on in it, and other sources are added to it.
        fps: Frames per second to keep. The default is 10 for videos, and the own rate of environments and of data
            sets with discrete actions.
        size: Height and width of the frames. The default is 64 64.
        fit: What becomes of pictures of another shape: crop keeps their middle, pad keeps all of them between
            black bars, and stretch distorts them. The default is crop.
        group: Regular expression, such as episode_[0-9]+, for films that belong together, as several cameras of
            one scene do: those in whose names it finds the same text are held out together or not at all.
        frames: Number of frames to record of an environment. The default is 100000.
        seed: Seed of the recording.
        levels: Level seeds of an environment, as START:COUNT.
        policy: The policy that plays an environment. random presses a random button each frame, sticky holds
            one for a while, runner makes for the right end of a Procgen platformer's level, and
            FILE.py:FUNCTION is your own function from pictures (uint8, BHWC) to one action for each.
        env: Option of the environments, as KEY=VALUE, such as use_backgrounds=false; may be given several times.
        camera: Which camera of a data set to read. The default is the first.
        source_fps: Pictures a second of numbered pictures, arrays and Minari's data sets, which do not say. By default
            each picture is one frame.
    """
    from jinn.data.ingest import by_reason, ingest

    with progress() as show:
        summary = ingest(
            [with_options(source, env) for source in sources],
            out,
            fps=fps,
            size_hw=size,
            fit=fit,
            group=group,
            frames=frames,
            seed=seed,
            levels=parse_levels(levels),
            policy=policy,
            camera=camera,
            source_fps=source_fps,
            progress=partial(show, "reading"),
        )
    for heading, files in (("skipped", summary.skipped), ("note", summary.warnings)):
        sentences = by_reason(files)
        for sentence in sentences[:MAX_SENTENCES]:
            say(f"{heading}: {sentence}")
        if len(sentences) > MAX_SENTENCES:
            say(f"{heading}: and {len(sentences) - MAX_SENTENCES:,} more of other kinds")
    kept = f", {summary.resumed} sources were there already" if summary.resumed else ""
    say(
        f"{out}: {summary.episodes} clips, {summary.frames:,} frames, {summary.hours:.2f} hours added; "
        f"{len(summary.skipped)} files skipped{kept}"
    )
    if not summary.heldout:
        say(
            "Nothing is held out, so a world that is trained on this store cannot be measured on it. From four videos "
            "or levels on, one is held out: add some, or make a second store of others for jinn eval."
        )


def with_options(source: str, options: Sequence[str]) -> str:
    """A source with the options of environments, which are part of the environment's name."""
    library, _, name = source.partition(":")
    if not options or library not in ("envpool", "gymnasium"):
        return source
    return f"{library}:{name}{'&' if '?' in name else '?'}{'&'.join(sorted(options))}"


def parse_levels(text: str | None) -> tuple[int, int] | None:
    """``"START:COUNT"`` to two numbers."""
    if text is None:
        return None
    start, _, count = text.partition(":")
    if not (start.isdecimal() and count.isdecimal() and int(count) > 0):
        raise JinnError(f"--levels is START:COUNT, such as 0:10000, and not {text!r}")
    return int(start), int(count)
