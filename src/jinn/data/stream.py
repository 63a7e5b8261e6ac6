"""Sources of training frames: an environment that is played during training, or a frame store.

An environment is played in chunks, each a small frame store and a pure function of the stream's config, its seed and
the chunk's number: a resumed run plays again what it needs. Only two are on the disk at a time: the one that is trained
on, and the next one, which is played in the background.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jinn.data.ingest import DEFAULT_SIZE_HW, ingest, level_name, native_of
from jinn.data.store import FrameStore
from jinn.data.store_format import group_hash, is_heldout
from jinn.errors import JinnError


@dataclass(frozen=True)
class StreamConfig:
    """How an environment is played for training."""

    frames: int = 2_000_000  # number of frames in total; every phase of the training sees all of them
    levels: tuple[int, int] = (0, 10_000)  # first level seed and number of levels to train on
    test_levels: tuple[int, int] = (20_000, 1_000)  # the same to evaluate on
    test_frames: int = 60_000  # number of frames from the test levels
    # Who plays: random, sticky, runner, FILE.py:FUNCTION; or several, such as sticky+runner, which alternate from chunk
    # to chunk. The first one plays the test levels.
    policy: str = "sticky"
    chunk: int = 256_000  # number of frames that are played at a time

    def __post_init__(self) -> None:
        if min(self.frames, self.test_frames, self.chunk, self.levels[1], self.test_levels[1]) < 1:
            raise JinnError("frames, chunks and numbers of levels are at least 1")
        apart = self.levels[0] + self.levels[1] <= self.test_levels[0]
        if not apart and self.test_levels[0] + self.test_levels[1] > self.levels[0]:
            raise JinnError("the test levels overlap the training levels: choose others")


class FrameStream:
    """Frames of an environment that is played during training, chunk by chunk.

    Args:
        source: The environment, such as ``envpool:CoinrunHard-v0``.
        config: How it is played.
        folder: Where chunks are written; it is made when the first one is played.
        seed: Seed of the levels' order and of the policy.
    """

    size_hw = DEFAULT_SIZE_HW

    def __init__(self, source: str, config: StreamConfig, folder: Path, seed: int = 0) -> None:
        self.source, self.config, self.folder, self._seed = source, config, folder, seed
        self.name = source  # for messages
        self.num_chunks = -(-config.frames // config.chunk)
        self.evaluation_paths = (self._path(-1),)  # of the store to evaluate on, which need not exist yet
        self.stream_config: dict[str, Any] = {"source": source, **asdict(config)}  # for the JSON of a run
        self._next: Future[FrameStore] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="jinn-play")

    @cached_property
    def previews(self) -> tuple[FrameStore, str]:
        """The store of the test levels, which is kept, and the split that previews and prompts are taken from.

        Raises:
            JinnError: There is no such environment or policy.
        """
        return self._play(-1), "all"

    @cached_property
    def num_actions(self) -> int | None:
        """Number of true actions, None if they are not discrete; raises `JinnError` as `previews`."""
        return native_of(self.source).num_actions or None

    @property
    def trained_on(self) -> np.ndarray:
        """`FrameStore.groups` of all levels that training may see, uint64."""
        first, count = self.config.levels
        groups = (group_hash(level_name(self.source, level)) for level in range(first, first + count))
        return np.unique(np.array([group for group in groups if not is_heldout(group)], np.uint64))

    def chunk(self, number: int) -> FrameStore:
        """The frames of a chunk. Starts to play the next one, and removes those before."""
        if self._next:
            self._next.result()  # wait: only one chunk is played at a time
        store = self._play(number)
        for other in self.folder.glob("chunk-*"):
            if other not in (store.path, self._path(number + 1)):
                _remove(other)
        more = number + 1 < self.num_chunks
        self._next = self._pool.submit(self._play, number + 1) if more else None
        return store

    def close(self) -> None:
        """Stop playing and remove the chunks. The frames of the test levels are kept."""
        self._pool.shutdown()
        for path in self.folder.glob("chunk-*"):
            _remove(path)

    def _path(self, number: int) -> Path:
        return self.folder / ("test" if number < 0 else f"chunk-{number:05d}")

    def _play(self, number: int) -> FrameStore:
        """A chunk, or the test levels for -1. `ingest` goes on where it was stopped and plays nothing twice."""
        config, path, policies = self.config, self._path(number), self.config.policy.split("+")
        frames, levels = min(config.chunk, config.frames - number * config.chunk), config.levels
        if number < 0:
            frames, levels = config.test_frames, config.test_levels
        seed, policy = self._seed * 1_000_003 + number + 1, policies[max(number, 0) % len(policies)]
        ingest([self.source], path, frames=frames, seed=seed, levels=levels, policy=policy)
        return FrameStore.open(path)


def _remove(chunk: Path) -> None:
    """Remove a chunk under another name, for half of one must not be taken for a store if this is interrupted."""
    half = chunk.with_suffix(".tmp")
    if half != chunk:
        shutil.rmtree(half, ignore_errors=True)
        chunk.rename(half)
    shutil.rmtree(half, ignore_errors=True)


class StoreSource:
    """A frame store behind the interface of `FrameStream`: its "train" split is one chunk."""

    num_chunks = 1
    stream_config = None  # nothing is played

    def __init__(self, store: FrameStore) -> None:
        self._store, self.size_hw, self.name = store, store.size_hw, str(store.path)
        self.previews = store, "heldout" if len(store.select("heldout")) else "train"
        self.trained_on = np.unique(store.groups[store.select("train")])
        self.evaluation_paths = store.paths

    @cached_property
    def num_actions(self) -> int | None:
        """Number of true actions, None if there are none; raises `JinnError` if joined stores name them differently."""
        store = self._store
        if not store.agree_on_actions:
            raise JinnError(
                f"the same action has other names in {self.name}: train on their frames alone (--actions latent), or "
                "on stores of one game"
            )
        # Actions that nobody ever took cannot be learned: they get no key.
        return (store.pressed_actions or None) if store.has_actions[store.select("train")].any() else None

    def chunk(self, _: int) -> FrameStore:
        """The store."""
        return self._store

    def close(self) -> None:
        """Nothing: the store is kept."""


Source = FrameStream | StoreSource
