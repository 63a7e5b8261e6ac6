"""Which clips a world is measured on: held-out ones, whose levels and videos are not in its training data."""

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
    """Clips of T ``frames`` of a store, read on demand; int64 ``episodes`` and ``starts`` say where each begins."""

    store: FrameStore
    episodes: np.ndarray
    starts: np.ndarray
    frames: int

    @classmethod
    def spread(cls, store: FrameStore, episodes: np.ndarray, frames: int, count: int) -> Clips:
        """At most ``count`` clips, which do not overlap, evenly spaced over these episodes."""
        return cls(store, *evenly_spaced_clips(store, frames, episodes, count), frames)

    def __len__(self) -> int:
        return len(self.episodes)

    def rows(self, rows: slice | np.ndarray) -> Clips:
        """Some of the clips."""
        return Clips(self.store, self.episodes[rows], self.starts[rows], self.frames)

    def evenly_spaced(self, count: int) -> np.ndarray:
        """Numbers of so many of the clips, some of them repeated if there are fewer."""
        return np.linspace(0, len(self) - 1, count).round().astype(int)

    def read(self) -> Tensor:
        """uint8 ``frames_BTHWC``."""
        return read_clips(self.store, self.episodes, self.starts, self.frames)

    def actions(self) -> Tensor | None:
        """True actions, int64 ``BTm1``, None if they are unknown in a clip."""
        actions_BTm1 = read_actions(self.store, self.episodes, self.starts, self.frames)
        return None if bool((actions_BTm1 < 0).any()) else actions_BTm1


@dataclass(frozen=True)
class HeldOut:
    """The clips of an evaluation. No two of these three share a level or a video.

    Attributes:
        measured: the clips that worlds are measured on.
        reference: as many clips of other levels. Their distance from the measured ones is the floor of every
            distance, and the map between latent and true actions is fitted on them.
        other: as many clips of a single level, which may overlap: the distance of a world that shows only
            one level. None if there are not enough levels.
    """

    measured: Clips
    reference: Clips | None
    other: Clips | None


def held_out_episodes(store: FrameStore, worlds: list[World]) -> np.ndarray:
    """Ids of the episodes that none of the worlds was trained on; raises `JinnError` if there are none.

    If a world knows what it was trained on, all other levels and videos are held out, in whatever store
    they are. Otherwise the store's own held-out split is used.
    """
    allowed = np.ones(store.num_episodes, bool)
    for world in worlds:
        allowed &= store.heldout if world.trained_on is None else ~np.isin(store.groups, world.trained_on)
    if not allowed.any():
        raise JinnError(
            f"{store.path} holds no episode that is held out from {' and '.join(w.name for w in worlds)}: "
            "record other levels or videos into a store of their own (jinn data ... --out), or add more to "
            "this one (of four levels or videos on, one is always held out)"
        )
    return np.flatnonzero(allowed)


def choose(store: FrameStore, worlds: list[World], frames: int, count: int, seed: int) -> HeldOut:
    """Choose clips to measure worlds on: random levels for each set, and evenly spaced clips of them.

    A clip has ``frames`` frames, each of the three sets has ``count`` clips at most, and levels are chosen by ``seed``.
    Raises `JinnError` if nothing is held out from all of the worlds, or too little for an interval.
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

    def episodes_of(chosen: np.ndarray) -> np.ndarray:
        return long_enough[np.isin(store.groups[long_enough], chosen)]

    # One level in nine for `other`, and at least one if there are three; the rest in halves.
    single = groups[: max(len(groups) // 9, 1)] if len(groups) >= 3 else groups[:0]
    rest = groups[len(single) :]
    parts = [episodes_of(half) for half in (rest[::2], rest[1::2]) if len(half)]
    count = min(count, *(int((store.lengths[part] // frames).sum()) for part in parts))
    if count < 2:
        raise JinnError(
            f"the held-out videos of {store.path} give {count} clip of {frames} frames, and an interval needs at "
            "least two: add videos or levels, or measure fewer frames (--frames)"
        )

    other = None
    if len(single):  # evenly spaced clips of its longest episode, which overlap if that is short
        longest = max(episodes_of(single), key=lambda episode: store.lengths[episode])
        starts = np.linspace(0, store.lengths[longest] - frames, count).astype(np.int64)
        other = Clips(store, np.full(count, longest), starts, frames)
    own, *others = (Clips.spread(store, part, frames, count) for part in parts)
    return HeldOut(own, others[0] if others else None, other)


def check(name: str, world: World, store: FrameStore) -> None:
    """Raise `JinnError` if this world cannot be measured on this store."""
    if world.size_hw != store.size_hw:
        have, want = ("x".join(map(str, size)) for size in (store.size_hw, world.size_hw))
        raise JinnError(
            f"the frames of {store.path} are {have} but {name} was trained on {want}: make a store of that "
            f"size (jinn data ... --size {want.replace('x', ' ')})"
        )
    if min(store.size_hw) < 16:
        raise JinnError(
            f"an evaluation needs frames of at least 16 pixels a side, those of {store.path} are smaller"
        )
    for key, values in world.state_dict().items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise JinnError(
                f"the weights of {name} are not all finite numbers ({key}): its training has diverged; lower "
                "the learning rate and train again"
            )


def check_motion(clips: Clips) -> None:
    """Raise `JinnError` if no clip has any motion."""
    for first in range(0, len(clips), 64):
        frames_BTHWC = clips.rows(slice(first, first + 64)).read()
        if bool((frames_BTHWC != frames_BTHWC[:, :1]).any()):
            return
    flat = bool((frames_BTHWC == frames_BTHWC.flatten()[0]).all())
    what = "is one flat colour" if flat else "is static"
    raise JinnError(
        f"every held-out clip of {clips.store.path} {what}: there is nothing to predict; look at the videos, "
        "and record or choose others"
    )
