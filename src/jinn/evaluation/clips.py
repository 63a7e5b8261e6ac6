"""Which clips a world is measured on: held-out ones, from episodes that share nothing with its training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from jinn.contracts import JinnError
from jinn.data.clips import evenly_spaced_clips, read_actions, read_clips
from jinn.data.store import FrameStore
from jinn.world.world import World


@dataclass(frozen=True)
class Clips:
    """Places of clips in a store; their frames are read when they are asked for.

    Attributes:
        store: where they are.
        episodes, starts: int64, one entry a clip.
        frames: T of each.
    """

    store: FrameStore
    episodes: np.ndarray
    starts: np.ndarray
    frames: int

    def __len__(self) -> int:
        return len(self.episodes)

    def rows(self, rows: slice | np.ndarray) -> Clips:
        """Some of the clips."""
        return Clips(self.store, self.episodes[rows], self.starts[rows], self.frames)

    def read(self) -> Tensor:
        """uint8 ``frames_BTHWC``."""
        return read_clips(self.store, self.episodes, self.starts, self.frames)

    def actions(self) -> Tensor | None:
        """True actions, int64 ``BTm1`` (-1 is unknown), None if the store has none; for scoring only."""
        return read_actions(self.store, self.episodes, self.starts, self.frames)


@dataclass(frozen=True)
class HeldOut:
    """The clips of an evaluation. No two of these three share a level or a video.

    Attributes:
        measured: what worlds are measured on.
        reference: as many clips of other levels: real against real is the floor of every distance, and what
            has to be fitted (which key is which action) is fitted here.
        other: as many clips, all of one single level: what a distance says of a world that knows only one.
            May overlap. None if there are not enough levels.
    """

    measured: Clips
    reference: Clips | None
    other: Clips | None


def held_out_episodes(store: FrameStore, worlds: list[World]) -> np.ndarray:
    """Ids of the episodes that none of the worlds was trained on.

    Where a world tells what it was trained on, all other levels and videos are held out, in whatever store
    they are. Where it does not, the store's own held-out split is.

    Raises:
        JinnError: there are none.
    """
    allowed = np.ones(store.num_episodes, bool)
    for world in worlds:
        if world.trained_on is None:
            allowed &= store.heldout
        else:
            allowed &= ~np.isin(store.groups, world.trained_on)
    if not allowed.any():
        raise JinnError(
            f"{store.path} holds no episode that is held out from {' and '.join(w.name for w in worlds)}: "
            "record other levels or videos into a store of their own (jinn data ... --out), or add more to "
            "this one (of four levels or videos on, one is always held out)"
        )
    return np.flatnonzero(allowed)


def choose(store: FrameStore, worlds: list[World], frames: int, count: int, seed: int) -> HeldOut:
    """Clips to measure worlds on: levels are shared out at random, each gives evenly spread clips.

    Args:
        store: with episodes that no world was trained on.
        worlds: all are measured on the same clips.
        frames: T of a clip.
        count: how many clips at most in each of the three sets.
        seed: of the sharing out.

    Raises:
        JinnError: nothing is held out, or it is too little for a figure with an interval.
    """
    episodes = held_out_episodes(store, worlds)
    long_enough = episodes[store.lengths[episodes] >= frames]
    if not len(long_enough):
        longest = int(store.lengths[episodes].max())
        raise JinnError(
            f"a clip is {frames} frames long but the longest held-out episode of {store.path} has {longest}: "
            f"measure fewer frames (--frames {max(longest - 1, 1)}) or add longer videos"
        )
    groups = np.random.default_rng(seed).permutation(np.unique(store.groups[long_enough]))

    def of(chosen: np.ndarray) -> np.ndarray:
        return long_enough[np.isin(store.groups[long_enough], chosen)]

    # One level in nine for `other`, and at least one if there are three; the rest in halves.
    single = groups[: max(len(groups) // 9, 1)] if len(groups) >= 3 else groups[:0]
    rest = groups[len(single) :]
    measured, reference = of(rest[::2]), of(rest[1::2])
    parts = [part for part in (measured, reference) if len(part)]
    count = min(count, *(int((store.lengths[part] // frames).sum()) for part in parts))
    if count < 2:
        raise JinnError(
            f"what {store.path} holds out gives {count} clip of {frames} frames, and an interval needs at "
            "least two: add videos or levels, or measure fewer frames (--frames)"
        )

    def spread(chosen: np.ndarray) -> Clips:
        return Clips(store, *evenly_spaced_clips(store, frames, chosen, count), frames)

    return HeldOut(
        spread(measured),
        spread(reference) if len(reference) else None,
        _one_level(store, of(single), frames, count) if len(single) else None,
    )


def _one_level(store: FrameStore, episodes: np.ndarray, frames: int, count: int) -> Clips:
    """Clips of the longest of the episodes, evenly spread; they overlap if it is short."""
    longest = episodes[np.argmax(store.lengths[episodes])]
    starts = np.linspace(0, store.lengths[longest] - frames, count).astype(np.int64)
    return Clips(store, np.full(count, longest), starts, frames)
