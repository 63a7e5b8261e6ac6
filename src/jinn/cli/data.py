"""``jinn data``"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import tyro

from jinn.cli.console import progress, say
from jinn.errors import JinnError

MAX_SENTENCES = 20  # about files of one heading


def data(
    sources: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    seed: int = 0,
    levels: str | None = None,
    policy: str = "random",
    env: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
) -> None:
    """Turn videos, environments or other stores into a frame store.

    Args:
        sources: Video files (also arrays, .npy and .npz, and animated WebP), folders of these and of numbered
            pictures, environments such as envpool:CoinrunHard-v0, envpool:Boxing-v5, gymnasium:CartPole-v1 and
            synthetic:game, or other stores, which are brought to the size and the rate.
        out: Folder of the store. An interrupted command goes on in it, and other sources are added to it.
        fps: Frames per second to keep. The default is 10 for videos, and the own rate of environments and stores.
        size: Height and width to crop and resize to. The default is 64 64, and the own size of stores.
        frames: Number of frames to record of an environment. The default is 100000.
        seed: Seed of the recording.
        levels: Level seeds of an environment, as START:COUNT.
        policy: The policy that plays an environment. random presses a random button each frame, sticky holds
            one for a while, runner makes for the right end of a Procgen platformer's level, and
            FILE.py:FUNCTION is your own function from pictures (uint8, BHWC) to one action for each.
        env: Option of the environments, as KEY=VALUE, such as use_backgrounds=false; may be given several times.
    """
    from jinn.data.ingest import by_reason, ingest

    with progress() as show:
        summary = ingest(
            [with_options(source, env) for source in sources],
            out,
            fps=fps,
            size_hw=size,
            frames=frames,
            seed=seed,
            levels=parse_levels(levels),
            policy=policy,
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
