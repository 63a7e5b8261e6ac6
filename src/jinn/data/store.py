"""The frame store: uint8 frames in memory-mapped shards, and an index of the episodes that they form.

A store is a directory:

    store.json          what never changes: format version, frame size, frames per second, frames per shard,
                        how pictures of another shape are fitted in
    frames-00000.bin    raw uint8 HWC frames back to back; frame f is number f % shard_frames of
                        shard f // shard_frames, so an episode may straddle two shards
    actions.bin         one little-endian int16 per frame: the true action taken there, -1 where there is none
    rewards.bin         one little-endian float32 per frame: the reward of the step to the next frame, NaN where none is
                        known; missing where nobody recorded any
    index.npz           the episodes as columns, the names of their sources, and which sources are complete

True actions are read for scoring and by trainings with known actions, level seeds for scoring only.

Whatever the index lists is committed. A commit flushes frames and actions to the disk first and then replaces
the index atomically; bytes behind the last committed frame are ignored by readers and overwritten by the
next writer. So a kill at any moment leaves a valid store.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.store_format import NO_SEED, Index, Layout, count_frames, read_store, shard_path


class FrameStore:
    """A committed store, read only. Cheap to open: frames are memory mapped when first read.

    What reads a part of an episode raises IndexError where the range does not lie within the episode.

    Attributes:
        path: Directory of the store.
        size_hw: Height and width of every frame, pixels.
        fps: Frames per second.
        fit: How pictures of another shape were fitted in, see `jinn.data.images.resize`.
        starts, lengths: int64, one entry per episode; `starts` counts frames of the whole store.
        heldout: bool, True where the episode belongs to the held-out split.
        groups: uint64; episodes of the same level, or of copies of the same video, have the same number in
            every store.
        num_actions: Number of different true actions, None where no source has any.
        action_names: A name for each of them, None where they are unknown.
        has_actions: bool, True where the episode has true actions.
        done_sources: Names of the sources that were ingested completely.
        index: What the store says of its episodes and their sources.
        weights, first_episodes, agree_on_actions: See `JoinedStore`; these are those of one store.
    """

    weights: np.ndarray | None = None
    first_episodes = np.zeros(1, np.int64)
    agree_on_actions = True

    def __init__(self, path: Path, layout: Layout, index: Index) -> None:
        self.path, self.size_hw, self.fps = path, (layout.height, layout.width), layout.fps
        self.fit = layout.fit
        self.starts, self.lengths = index.columns["start"], index.columns["length"]
        self.heldout, self.groups = index.columns["heldout"], index.columns["group"]
        self.num_frames, self.num_episodes = count_frames(index.columns), len(self.starts)
        self.num_actions, self.action_names = index.num_actions, index.action_names
        self.has_actions = index.columns["has_actions"]
        self.done_sources = index.done
        self._layout, self.index = layout, index
        self._shards: dict[int, np.ndarray] = {}

    @classmethod
    def open(cls, path: str | Path) -> FrameStore:
        """Open a store.

        Raises:
            JinnError: The store is missing or damaged, or was written by a newer version of jinn.
        """
        path = Path(path).expanduser()
        return cls(path, *read_store(path))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The directories that hold the frames."""
        return (self.path,)

    def select(self, split: str) -> np.ndarray:
        """Ids (int64, ascending) of the episodes in ``"train"``, ``"heldout"`` or ``"all"``."""
        if split not in ("train", "heldout", "all"):
            raise ValueError(f'a split is "train", "heldout" or "all", not {split!r}')
        if split == "all":
            return np.arange(self.num_episodes)
        return np.flatnonzero(self.heldout == (split == "heldout"))

    def frames(self, episode: int, start: int, stop: int) -> np.ndarray:
        """uint8 ``(stop - start, H, W, 3)``: a copy of frames [start, stop) of one episode."""
        return np.array(self.view(episode, start, stop))

    def view(self, episode: int, start: int, stop: int) -> np.ndarray:
        """The frames of `frames`, read only, and not copied unless they lie in two shards."""
        first, last = self._range(episode, start, stop)
        size = self._layout.shard_frames
        parts = [
            self._shard(shard)[max(first - shard * size, 0) : last - shard * size]
            for shard in range(first // size, max(last - 1, first) // size + 1)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def actions(self, episode: int, start: int, stop: int) -> np.ndarray | None:
        """int64 ``(stop - start,)`` true actions, or None where the episode has none; `JinnError` if they are damaged.

        Entry t leads from frame t to frame t + 1; the last one of an episode is the padding -1.
        """
        first, last = self._range(episode, start, stop)
        if not self.has_actions[episode]:
            return None
        return self._known(self._actions[first:last]).astype(np.int64)

    def rewards(self, episode: int, start: int, stop: int) -> np.ndarray | None:
        """float32 ``(stop - start,)`` rewards of the steps from each frame to the next, None where they are unknown.

        The last one of an episode is the padding NaN.
        """
        first, last = self._range(episode, start, stop)
        file = self.path / "rewards.bin"
        if not file.is_file() or file.stat().st_size < 4 * last:
            return None
        rewards_T = np.fromfile(file, "<f4", last - first, offset=4 * first)
        return None if np.isnan(rewards_T[: int(self.lengths[episode]) - 1 - start]).any() else rewards_T

    @cached_property
    def pressed_actions(self) -> int:
        """Number of true actions up to the last that was ever taken; 0 where there are none.

        An environment may have more: Procgen has 15, and who walks and jumps takes the first nine.
        """
        return int(self._known(self._actions).max()) + 1 if self.has_actions.any() else 0

    @cached_property
    def _actions(self) -> np.ndarray:
        return np.memmap(self.path / "actions.bin", "<i2", "r", shape=(self.num_frames,))

    def _known(self, actions: np.ndarray) -> np.ndarray:
        if not ((actions >= -1) & (actions < (self.num_actions or 0))).all():
            raise JinnError(f"{self.path / 'actions.bin'} is damaged: copy or make the store again")
        return actions

    def level_seed(self, episode: int) -> int | None:
        """Seed of the level that was played, None if unknown."""
        seed = int(self.index.columns["level_seed"][episode])
        return None if seed == NO_SEED else seed

    def source(self, episode: int) -> str:
        """Name of the film or environment that an episode is from; of LeRobot's with the task."""
        return self.index.sources[self.index.columns["source"][episode]].partition("#")[0]

    def _range(self, episode: int, start: int, stop: int) -> tuple[int, int]:
        if not 0 <= episode < self.num_episodes:
            raise IndexError(f"episode {episode} of a store with {self.num_episodes}")
        if not 0 <= start <= stop <= self.lengths[episode]:
            raise IndexError(f"frames {start} to {stop} of an episode with {self.lengths[episode]}")
        offset = int(self.starts[episode])
        return offset + int(start), offset + int(stop)

    def _shard(self, shard: int) -> np.ndarray:
        if shard not in self._shards:
            size = self._layout.shard_frames
            frames = min(size, self.num_frames - shard * size)
            shape = (frames, *self._layout.frame_shape)
            mapped = np.memmap(shard_path(self.path, shard), np.uint8, "r", shape=shape)
            # A plain array over the mapping: slicing a np.memmap costs microseconds more each time.
            self._shards[shard] = np.asarray(mapped)
        return self._shards[shard]
