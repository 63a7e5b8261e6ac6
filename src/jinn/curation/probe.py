"""What a film says of itself, and whether its title promises play of a game; nothing is decoded for it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from jinn.data.video import VideoFacts, video_facts


@dataclass(frozen=True)
class Probe:
    """What is known of a film before it is decoded.

    Attributes:
        size: Bytes of the file.
        title: Of a file beside it that its downloader wrote, or else the film's name.
        facts: Length, rate and size.
    """

    size: int
    title: str
    facts: VideoFacts


@dataclass(frozen=True)
class Keywords:
    """Words of the titles of films that are worth decoding: the paper's rule (appendix B.1), whose lists are our own.

    A title needs one of `games` and one of `actions`, and must have none of `negating`. A word is found at the begin of
    one in the title, in upper or lower case: "speedrun" is in "Speedrunning" too.
    """

    games: tuple[str, ...] = (
        "2d platform", "platformer", "side scroll", "side-scroll", "sidescroll", "metroidvania", "jump and run",
        "jump'n'run", "run and gun", "super mario", "donkey kong", "mega man", "megaman", "sonic", "kirby", "rayman",
        "castlevania", "celeste", "hollow knight", "super meat boy", "cuphead", "shovel knight", "ori and the",
    )  # fmt: skip
    actions: tuple[str, ...] = (
        "speedrun", "speed run", "playthrough", "play through", "gameplay", "longplay", "long play", "let's play",
        "lets play", "walkthrough", "walk through", "no commentary", "full game", "any%", "100%", "world record",
    )  # fmt: skip
    negating: tuple[str, ...] = (
        "movie", "unboxing", "trailer", "review", "reaction", "tutorial", "how to make", "soundtrack", "music", "ost",
        "cover", "podcast", "interview", "news", "toy", "tier list", "explained", "3d",
    )  # fmt: skip

    def accept(self, title: str) -> bool:
        return (
            has_any(title, self.games) and has_any(title, self.actions) and not has_any(title, self.negating)
        )


def has_any(title: str, words: tuple[str, ...]) -> bool:
    """Whether one of the words begins somewhere in a title, not within another word."""
    return any(re.search(rf"(?<!\w){re.escape(word)}", title, re.IGNORECASE) for word in words)


def probe(path: str | Path) -> Probe:
    """What a video says of itself.

    Raises:
        VideoError: It is no video, or cannot be read.
        OSError: There is no such file.
        JinnError: PyAV is not installed.
    """
    path = Path(path)
    return Probe(path.stat().st_size, title_of(path), video_facts(path))


def title_of(path: Path) -> str:
    """The title in ``NAME.info.json`` or ``NAME.json``, as yt-dlp writes them beside a film; else the film's name."""
    for suffix in (".info.json", ".json"):
        try:
            title = json.loads(path.with_suffix(suffix).read_bytes())["title"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # there is none, or it is something else
        if isinstance(title, str) and title.strip():
            return " ".join(title.encode(errors="replace").decode().split())
    return path.stem
