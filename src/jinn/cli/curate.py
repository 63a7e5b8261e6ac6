"""``jinn curate``"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from jinn.cli.console import progress, say
from jinn.errors import JinnError

if TYPE_CHECKING:
    from jinn.curation.pipeline import Summary

MAX_SENTENCES = 20


def curate(
    sources: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path,
    clip_seconds: float = 16.0,
    fps: float = 10.0,
    keywords: bool = False,
    game_words: tuple[str, ...] = (),
    action_words: tuple[str, ...] = (),
    negating_words: tuple[str, ...] = (),
    motion: float = 0.5,
    black: float = 0.1,
    letterbox: float = 0.1,
    overlay: float = 0.4,
    classifier: Path | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
) -> None:
    """Find the clips of videos that are worth training on; jinn data reads them from the folder.

    Args:
        sources: Video files, folders of them, or .txt files with a path in each line.
        out: Folder of the table of clips. An interrupted command goes on in it, and more videos are added to it.
        clip_seconds: Length of a clip. Cuts are in none.
        fps: Frames per second that are looked at.
        keywords: Whether to leave out videos whose titles do not speak of playing a 2D platformer. The title is that
            in NAME.info.json beside a video, or the video's name.
        game_words: Words that titles must have one of, in the place of those for platformers; with --keywords.
        action_words: Words of the second list, such as speedrun and playthrough.
        negating_words: Words that no title may have, such as movie and unboxing.
        motion: Grey levels of 255 that must change from frame to frame in a clip that is kept.
        black: Fraction of the frames that may be black.
        letterbox: Fraction of the picture that black bars may take.
        overlay: Fraction of the picture that a still frame around the game may take.
        classifier: Folder of a classifier that jinn rate --train has made. What it finds bad is left out.
        workers: Processes on this machine. The default is one for each CPU.
        ray_address: A Ray cluster to work on, such as HEAD:6379 or auto; its machines see the videos at the same paths.
    """
    from jinn.curation.classifier import Classifier
    from jinn.curation.pipeline import curate as run
    from jinn.curation.probe import Keywords
    from jinn.curation.rules import Rules
    from jinn.curation.scan import ScanConfig

    lists = {"games": game_words, "actions": action_words, "negating": negating_words}
    given = {name: words for name, words in lists.items() if words}
    if given and not keywords:
        raise JinnError("lists of words are for --keywords: give it too, or leave them out")
    config = ScanConfig(clip_seconds, fps, Keywords(**given) if keywords else None)
    judge = Classifier.load(classifier) if classifier else None
    rules = Rules(motion, black, letterbox, overlay, judge.config.confidence if judge else 0.5)
    score = judge.score if judge else None
    with progress() as show:
        summary = run(sources, out, config, rules, score, ray_address, workers, partial(show, "looking"))
    tell(out, summary)


def tell(out: Path, summary: Summary) -> None:
    """Say what became of the videos."""
    from jinn.data.ingest import by_reason

    sentences = by_reason(summary.skipped)
    for sentence in sentences[:MAX_SENTENCES]:
        say(f"note: {sentence}")
    if len(sentences) > MAX_SENTENCES:
        say(f"note: and {len(sentences) - MAX_SENTENCES:,} more of other kinds")
    total = sum(summary.spent.values())
    for stage, seconds in summary.spent.items():
        if seconds > 0:
            rate = summary.seconds / seconds
            say(
                f"{stage}: {rate:,.1f} seconds of video a second of one core, {seconds / total:.0%} of the time"
            )
    for reason, count in summary.left_out.items():
        say(f"left out: {count:,}, {reason}")
    resumed = f", {summary.resumed:,} were done already" if summary.resumed else ""
    say(f"{out}: {summary.kept:,} clips are kept; {summary.films:,} videos were looked at{resumed}")
