"""Sources for training: an environment that is played while it is learned from, or a store of frames.

A stream is played and forgotten again: it is cut into blocks, each a small frame store of its own. What a
block holds is a pure function of the stream's config and the block's number, so a run that goes on plays
again what it needs. Only the blocks in use lie on the disk: the one that is learned from, and the next, which
is played meanwhile.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.data.ingest import DEFAULT_SIZE_HW, ingest, level_name
from jinn.data.store import FrameStore
from jinn.data.store_format import group_hash, is_heldout


@dataclass(frozen=True)
class StreamConfig:
    """How an environment is played for training.

    Attributes:
        frames: how many in all; every phase of the training sees all of them.
        levels: first level seed and number of levels to learn from.
        test_levels: the same of the levels that the world is measured on.
        test_frames: how many frames of those.
        policy: who plays: random, sticky, runner, FILE.py:FUNCTION; or several, as sticky+runner, which take
            turns from block to block. On the test levels the first one plays.
        block: frames that are played at a time.
    """

    frames: int = 2_000_000
    levels: tuple[int, int] = (0, 10_000)
    test_levels: tuple[int, int] = (20_000, 1_000)
    test_frames: int = 60_000
    policy: str = "sticky"
    block: int = 256_000

    def __post_init__(self) -> None:
        if min(self.frames, self.test_frames, self.block, self.levels[1], self.test_levels[1]) < 1:
            raise JinnError("frames, blocks and numbers of levels are at least 1")
        apart = self.levels[0] + self.levels[1] <= self.test_levels[0]
        if not apart and self.test_levels[0] + self.test_levels[1] > self.levels[0]:
            raise JinnError("the levels to test on overlap those to learn from: choose others")


class FrameStream:
    """Blocks of play, as frame stores.

    Attributes:
        source: the environment, such as ``envpool:CoinrunHard-v0``.
        config: how it is played.
        num_blocks: how many there are.
        size_hw: height and width of the frames, pixels.

    Args:
        source, config: as above.
        folder: where blocks are kept; it is made when the first is played.
        seed: of the play.
    """

    size_hw = DEFAULT_SIZE_HW

    def __init__(self, source: str, config: StreamConfig, folder: Path, seed: int = 0) -> None:
        self.source, self.config, self.folder, self._seed = source, config, folder, seed
        self.num_blocks = -(-config.frames // config.block)
        self._ahead: Future[FrameStore] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="jinn-play")

    @cached_property
    def test(self) -> FrameStore:
        """Frames of the test levels; this store stays.

        Raises:
            JinnError: there is no such environment or policy.
        """
        return self._play("test", self.config.test_frames, self.config.test_levels, -1)

    @property
    def trained_on(self) -> np.ndarray:
        """`FrameStore.groups` of all levels that it may learn from, uint64."""
        first, count = self.config.levels
        groups = (group_hash(level_name(self.source, level)) for level in range(first, first + count))
        return np.unique(np.array([group for group in groups if not is_heldout(group)], np.uint64))

    @property
    def shown(self) -> tuple[FrameStore, str]:
        """Frames for previews and prompts, and which split of them."""
        return self.test, "all"

    @property
    def measured_in(self) -> Path:
        """Where the frames to measure on lie, or will."""
        return self.folder / "test"

    @property
    def play(self) -> dict[str, Any]:
        """How it is played, as JSON has it."""
        return {"source": self.source, **asdict(self.config)}

    def block(self, number: int) -> FrameStore:
        """A block; the next one is played in the meantime, and those before are removed."""
        ahead = self._ahead.result() if self._ahead else None  # whichever it is: nothing plays two at a time
        place = self._place(number)
        store = ahead if ahead is not None and ahead.path == place else self._block(number)
        keep = {place, self._place(number + 1)}
        for other in self.folder.glob("block-*"):
            if other not in keep:
                shutil.rmtree(other, ignore_errors=True)
        self._ahead = None
        if number + 1 < self.num_blocks:
            self._ahead = self._pool.submit(self._block, number + 1)
        return store

    def close(self) -> None:
        """Stop playing, and remove the blocks. The test levels' frames stay."""
        self._pool.shutdown()
        for place in self.folder.glob("block-*"):
            shutil.rmtree(place, ignore_errors=True)

    def _place(self, number: int) -> Path:
        return self.folder / f"block-{number:05d}"

    def _block(self, number: int) -> FrameStore:
        frames = min(self.config.block, self.config.frames - number * self.config.block)
        return self._play(self._place(number).name, frames, self.config.levels, number)

    def _play(self, name: str, frames: int, levels: tuple[int, int], number: int) -> FrameStore:
        # `ingest` goes on where it was killed, so a block that stands is found complete at once.
        seed, policies = self._seed * 1_000_003 + number + 1, self.config.policy.split("+")
        policy, place = policies[max(number, 0) % len(policies)], self.folder / name
        ingest([self.source], place, frames=frames, seed=seed, levels=levels, policy=policy)
        return FrameStore.open(place)


class Recorded:
    """A store as a stream of one block, so that training need not ask which it learns from.

    Attributes:
        shown, trained_on, measured_in: as of a `FrameStream`, by the store's own splits.
        play: None, for nothing is played.
    """

    num_blocks = 1
    play = None

    def __init__(self, store: FrameStore) -> None:
        self._store, self.size_hw = store, store.size_hw
        self.shown = store, "heldout" if len(store.select("heldout")) else "train"
        self.trained_on = np.unique(store.groups[store.select("train")])
        self.measured_in = store.path

    def block(self, _: int) -> FrameStore:
        """The store."""
        return self._store

    def close(self) -> None:
        """It stays."""


Source = FrameStream | Recorded
