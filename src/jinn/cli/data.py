"""``jinn data``"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from jinn.cli.console import progress, say
from jinn.data.images import Fit
from jinn.errors import JinnError
from jinn.files import replacing

if TYPE_CHECKING:
    from jinn.data.ingest import Summary

MAX_SENTENCES = 20  # about files of one heading


def data(
    sources: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path | None = None,
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
    action_codes: int | None = None,
    preview: bool = False,
) -> None:
    """Turn videos, environments or other stores into a frame store.

    Args:
        sources: Video files (also arrays, .npy and .npz, and animated WebP), folders of these and of numbered
            pictures, data sets of LeRobot (a folder) and of Minari (a folder or minari:NAME), folders of jinn curate,
            a .txt file with the path of a source in each line, environments such as envpool:CoinrunHard-v0,
            envpool:Boxing-v5, gymnasium:CartPole-v1 and synthetic:game, or other stores, which are brought to the size
            and the rate.
        out: Folder of the store, or picture of a preview. An interrupted command goes on; other sources are added.
        fps: Frames per second to keep. The default is 10 for videos, else the own rate; so for data sets with actions.
        size: Height and width of the frames. The default is 64 64, and the own size of stores.
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
        source_fps: Rate of numbered pictures, arrays and Minari's data, which say none; by default each is a frame.
        action_codes: How many discrete actions the continuous ones of data sets and arrays become, such as 16: the
            centres of so many clusters, with names such as "dx+ gripper-". By default they are left out.
        preview: Whether to look at some clips of each source instead, which may be a store: a picture of them, and
            how much moves, repeats, is cut or black.
    """
    from jinn.data.ingest import ingest

    named = [with_options(source, env) for source in sources]
    if preview:
        return show_previews(named, out, fps, size)
    if out is None:
        raise JinnError("name the folder of the store with --out STORE, or look first with --preview")
    with progress() as show:
        summary = ingest(
            named, out, fps, size, frames, seed, parse_levels(levels), policy, fit, group,
            partial(show, "reading"), camera, source_fps, action_codes,
        )  # fmt: skip
    tell(out, summary)


def tell(out: Path, summary: Summary) -> None:
    """Say what became of the sources."""
    from jinn.data.ingest import by_reason

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


def show_previews(
    sources: Sequence[str], out: Path | None, fps: float | None, size_hw: tuple[int, int] | None
) -> None:
    """Print what each source is like, and write a picture of its clips."""
    from jinn.data.preview import preview

    try:
        from PIL import Image
    except ImportError as error:
        raise JinnError("a preview is written by Pillow: run pip install 'jinn[video]'") from error
    if not sources:
        raise JinnError("name a source to look at: a video, a folder of videos, a store or an environment")
    if out is not None and (len(sources) > 1 or out.suffix != ".png"):
        raise JinnError("--out of a preview is one picture, such as look.png, of one source")
    for source in sources:
        found = preview(source, fps, size_hw)
        stem = re.sub(r"[^\w.-]+", "-", Path(source).name) or "source"
        picture = out or Path(f"{stem}-preview.png")
        with replacing(picture) as temporary:
            Image.fromarray(found.sheet_HWC).save(temporary, format="png")
        low, middle, high = found.brightness
        say(
            f"{source}: {found.frames:,} frames of {found.clips} clips, of which {found.repeated:.0%} repeat the one "
            f"before, {found.black:.0%} are black and {found.cuts:.1%} come after a cut; from frame to frame "
            f"{found.motion:.1f} of 255 grey levels change; the brightness is {low:.0f} to {high:.0f}, mostly "
            f"{middle:.0f}. Some frames are in {picture}"
        )
        for sentence in found.advice():
            say(sentence)


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
