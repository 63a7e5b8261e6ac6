"""A look at a source before it becomes a store or a world: some clips as a picture, and what they are like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.changes import CUT, DARK, DIFFERENT, STILL, brightness, changes
from jinn.data.collect import collect
from jinn.data.copied import is_store
from jinn.data.film import Film, read_film
from jinn.data.folder import find_films
from jinn.data.images import crop_resize
from jinn.data.store import FrameStore
from jinn.data.synthetic import game_rollout
from jinn.data.video import VideoError

CLIPS, SECONDS = 12, 20.0  # clips that are looked at, and how much of each
COLUMNS = 8  # frames of each clip in the picture


@dataclass(frozen=True)
class Preview:
    """What a source is like, measured on some of its clips.

    Attributes:
        sheet_HWC: uint8, a row of evenly spaced frames for each clip.
        clips, frames: how many were looked at.
        motion: mean difference of neighbouring frames, grey levels of 255.
        repeated, cuts, black: fractions of the neighbouring frames that are the same, of those between which everything
            changes at once, and of the frames that are black.
        brightness: 5th, 50th and 95th percentile of the frames' mean brightness, 0 to 255.
    """

    sheet_HWC: np.ndarray
    clips: int
    frames: int
    motion: float
    repeated: float
    cuts: float
    black: float
    brightness: tuple[float, float, float]

    def advice(self) -> list[str]:
        """A sentence for each thing that a world would learn and nobody wants."""
        found = {
            "Many frames repeat the one before: the world would learn to stand still. Give a lower --fps.": (
                self.repeated > 0.3
            ),
            "There are many cuts: a world cannot learn what follows them. Cut the videos there, or leave some out.": (
                self.cuts > 0.01
            ),
            "Many frames are black: leave out what is no play.": self.black > 0.05,
            "Almost nothing moves: actions are found by what they move, so show more play.": self.motion
            < STILL,
        }
        return [sentence for sentence, holds in found.items() if holds]


def preview(source: str, fps: float | None = None, size_hw: tuple[int, int] | None = None) -> Preview:
    """Look at some clips of a source.

    Args:
        source: A store, a video, a folder of films or an environment, as of `jinn.data.ingest.ingest`.
        fps: Frames per second, by default a store's own or 10. Environments are shown at their own.
        size_hw: Height and width, pixels, by default a store's own or 64 x 64.

    Raises:
        JinnError: There is no such source, or none of its films can be read.
    """
    clips = [clip_THWC for clip_THWC in islice(_clips(source, fps, size_hw), CLIPS) if len(clip_THWC) > 1]
    if not clips:
        raise JinnError(
            f"there is nothing to look at in {source}: name a store, a video or a folder of videos"
        )
    found = [changes(clip_THWC) for clip_THWC in clips]
    change = np.concatenate(found)
    # What moves fast is no cut: everything must change, and far more than the clip usually does.
    cuts = sum(int(((x > CUT) & (x > 4 * np.median(x))).sum()) for x in found)
    means = np.concatenate([brightness(clip_THWC) for clip_THWC in clips])
    low, middle, high = np.percentile(means, [5, 50, 95]).tolist()
    return Preview(
        sheet_HWC=_sheet(clips),
        clips=len(clips),
        frames=sum(map(len, clips)),
        motion=float(change.mean()),
        repeated=float((change < DIFFERENT).mean()),
        cuts=cuts / len(change),
        black=float((means < DARK).mean()),
        brightness=(low, middle, high),
    )


def _clips(source: str, fps: float | None, size_hw: tuple[int, int] | None) -> Iterator[np.ndarray]:
    """The begin of evenly spaced clips, uint8 ``THWC``."""
    if is_store(source):
        store = FrameStore.open(source)
        length = round(SECONDS * store.fps)
        for episode in np.unique(np.linspace(0, store.num_episodes - 1, CLIPS).round().astype(int)):
            clip_THWC = store.frames(episode, 0, min(length, int(store.lengths[episode])))
            yield crop_resize(clip_THWC, size_hw or store.size_hw)
        return
    fps, size_hw = fps or 10.0, size_hw or (64, 64)
    length = round(SECONDS * fps)
    if source == "synthetic:game":
        yield from (game_rollout(level, 100, size_hw)[0] for level in range(CLIPS))
    elif source.partition(":")[0] in ("envpool", "gymnasium"):
        for episode in collect(source, CLIPS * length, 0, num_envs=1, size_hw=size_hw):
            yield episode.frames_THWC
    else:
        films, _ = find_films(Path(source), Path())
        chosen = np.unique(np.linspace(0, len(films) - 1, CLIPS).round().astype(int)) if films else ()
        for film in (films[number] for number in chosen):
            yield from _begin_of(film, fps, size_hw, length)


def _begin_of(film: Film, fps: float, size_hw: tuple[int, int], length: int) -> Iterator[np.ndarray]:
    """The first frames of a film's first clip; nothing of one that cannot be read."""
    parts: list[np.ndarray] = []
    try:
        for clip, chunk_THWC in read_film(film, fps, size_hw):
            if clip or sum(map(len, parts)) >= length:
                break
            parts.append(chunk_THWC)
    except VideoError:
        pass  # what was read before is shown; jinn data says what is wrong with it
    if parts:
        yield np.concatenate(parts)[:length]


def _sheet(clips: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """Evenly spaced frames of each clip in a row of its own, with white between them."""
    rows = [clip_THWC[np.linspace(0, len(clip_THWC) - 1, COLUMNS).round().astype(int)] for clip_THWC in clips]
    frames_RTHWC = np.pad(np.stack(rows), ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    sheet_RHTWC = frames_RTHWC.swapaxes(1, 2)
    R, H, T, W, C = sheet_RHTWC.shape
    return sheet_RHTWC.reshape(R * H, T * W, C)[:-gap, :-gap]
