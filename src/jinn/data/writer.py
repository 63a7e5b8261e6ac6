"""The writer of a frame store: nothing else changes one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from jinn.contracts import JinnError
from jinn.data.store_format import (
    COLUMNS,
    NO_SEED,
    Index,
    Layout,
    check_files,
    create,
    group_hash,
    is_heldout,
    lock_store,
    read_index,
    read_layout,
    shard_path,
    write_index,
)

SHARD_BYTES = 2**30


class StoreWriter:
    """Creates a store or continues one; a context manager.

    An episode is written chunk by chunk with `append`, and exists once `end_episode` was called. Nothing is
    durable before `commit`, `finish_source` (which commits now and then) or `close`. Leaving the ``with``
    block by an exception drops everything after the last finished source. A store that is still empty at the
    end is removed again.

    Args:
        path: Directory of the store, which is made if it is missing.
        size_hw: Height and width of the frames, pixels.
        fps: Frames per second.
        num_actions: Number of different true actions, None for video. Raise the attribute of the same name
            before you end an episode with more.
        shard_bytes: Size of a full shard of a new store.

    Raises:
        JinnError: The store has another size or rate, is damaged or is being written by another process, or
            the directory holds other files.
    """

    def __init__(
        self,
        path: str | Path,
        size_hw: tuple[int, int],
        fps: float,
        num_actions: int | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.path = Path(path)
        height, width = size_hw
        layout = Layout((height, width), float(fps), max(1, shard_bytes // (height * width * 3)))
        self._lock = lock_store(self.path)
        try:
            if not (self.path / "store.json").exists():
                create(self.path, layout)
            self._layout, index = read_layout(self.path), read_index(self.path)
            check_files(self.path, self._layout, index)
            old = self._layout
            if (old.size_hw, old.fps) != (layout.size_hw, layout.fps):
                raise JinnError(
                    f"{path} holds {old.size_hw[0]}x{old.size_hw[1]} frames at {old.fps:g} fps, not "
                    f"{height}x{width} at {fps:g}: use another directory or the same size and rate"
                )
        except BaseException:
            self._lock.close()
            raise
        self.num_actions = max(num_actions or 0, index.num_actions or 0) or None
        self.done_sources = set(index.done)
        self.num_frames = index.num_frames
        self._open_frames = 0  # how many of them belong to the episode that has not ended
        self._columns = {name: column.tolist() for name, column in index.columns.items()}
        self._sources = {name: number for number, name in enumerate(index.sources)}
        held = index.columns["group"][index.columns["heldout"]]
        self._heldout_groups = set(np.unique(held).tolist())
        self._safe = (self.num_episodes, len(self._sources))  # episodes and sources that a rollback keeps
        self._open_files: dict[Path, IO[bytes]] = {}
        self._dirty = False
        self._committed_at, self._commit_seconds = time.monotonic(), 0.0

    @property
    def num_episodes(self) -> int:
        """Number of episodes that have ended, committed or not."""
        return len(self._columns["start"])

    def append(self, frames_THWC: np.ndarray) -> None:
        """Write the next chunk of the episode that has not ended, or the first one of a new episode.

        Args:
            frames_THWC: uint8, at least one frame, of the store's size.
        """
        shape = self._layout.frame_shape
        if frames_THWC.dtype != np.uint8 or frames_THWC.shape[1:] != shape or not len(frames_THWC):
            raise ValueError(
                f"a chunk is uint8 (T > 0, {', '.join(map(str, shape))}), "
                f"got {frames_THWC.dtype} {frames_THWC.shape}"
            )
        self._write_frames(np.ascontiguousarray(frames_THWC))
        self.num_frames += len(frames_THWC)
        self._open_frames += len(frames_THWC)

    def end_episode(
        self,
        source: str,
        actions_T: np.ndarray | None = None,
        level_seed: int | None = None,
        group: str | None = None,
    ) -> None:
        """Make one episode of all frames that were appended since the last one.

        Args:
            source: Name of the video or environment.
            actions_T: True actions, int ``(T,)`` for all T frames of the episode. Entry t leads from frame t
                to t + 1; the last entry is ignored.
            level_seed: Seed of the level that was played.
            group: Episodes of one group share a split; by default the level, or else the source.
        """
        frames = self._open_frames
        if not frames:
            raise ValueError("an episode has at least one frame: append some first")
        stored = np.full(frames, -1, "<i2")
        if actions_T is not None:
            if len(actions_T) != frames:
                raise ValueError(
                    f"{frames} frames need as many actions (the last is padding), got {len(actions_T)}"
                )
            stored[:-1] = actions_T[:-1]
            if frames > 1 and not 0 <= stored[:-1].min() <= stored[:-1].max() < (self.num_actions or 0):
                raise ValueError(
                    f"true actions must lie in [0, num_actions), num_actions is {self.num_actions}"
                )
        start = self.num_frames - frames
        self._write(self.path / "actions.bin", 2 * start, stored)
        if group is None:
            group = source if level_seed is None else f"level {level_seed}"
        number = group_hash(group)
        row = {
            "start": start,
            "length": frames,
            "source": self._sources.setdefault(source, len(self._sources)),
            "group": number,
            "level_seed": NO_SEED if level_seed is None else level_seed,
            "has_actions": actions_T is not None,
            "heldout": is_heldout(number) or number in self._heldout_groups,
        }
        for name, value in row.items():
            self._columns[name].append(value)
        self._open_frames, self._dirty = 0, True

    def finish_source(self, source: str) -> None:
        """Record that a source is complete, so that it is not ingested again.

        Commits when the last commit cost less than a twentieth of the time since: an index of a million
        episodes is then not rewritten for each of them, and a kill costs seconds of work.
        """
        self._sources.setdefault(source, len(self._sources))
        self.done_sources.add(source)
        self._safe, self._dirty = (self.num_episodes, len(self._sources)), True
        if time.monotonic() - self._committed_at > max(2.0, 20 * self._commit_seconds):
            self.commit()

    def rollback(self) -> None:
        """Drop all frames and episodes since the last finished source or commit."""
        episodes, sources = self._safe
        for column in self._columns.values():
            del column[episodes:]
        for name in list(self._sources)[sources:]:
            del self._sources[name]
        starts, lengths = self._columns["start"], self._columns["length"]
        self.num_frames, self._open_frames = starts[-1] + lengths[-1] if starts else 0, 0

    def commit(self) -> None:
        """Make all ended episodes durable, and visible to readers that open the store from now on."""
        started = time.monotonic()
        for file in self._open_files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._open_files.clear()  # a long run fills thousands of shards
        write_index(
            self.path,
            Index(
                {name: np.array(self._columns[name], dtype) for name, dtype in COLUMNS.items()},
                tuple(self._sources),
                frozenset(self.done_sources),
                self.num_actions,
            ),
        )
        self._safe, self._dirty = (self.num_episodes, len(self._sources)), False
        self._committed_at = time.monotonic()
        self._commit_seconds = self._committed_at - started

    def close(self) -> None:
        """Complete the split, commit and release the store; an empty one is removed.

        If no group's hash fell into the held-out split, as is usual for a folder of a few videos, the group
        with the smallest hash is held out, provided that at least three others remain to train on.
        """
        groups = set(self._columns["group"])
        if not any(self._columns["heldout"]) and len(groups) >= 4:
            smallest = min(groups)
            self._columns["heldout"] = [group == smallest for group in self._columns["group"]]
            self._dirty = True
        self._release()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # The split is completed by the run that completes the store, not by one that was stopped.
            self.rollback()
            self._release()

    def _release(self) -> None:
        if self._lock.closed:
            return
        try:
            if self._dirty:
                self.commit()
            for file in self._open_files.values():  # what was rolled back
                file.close()
        finally:
            self._lock.close()
        if not self.num_episodes:
            names = ("store.json", "index.npz", "actions.bin", "writer.lock")
            for path in [*self.path.glob("frames-*.bin"), *(self.path / name for name in names)]:
                path.unlink(missing_ok=True)
            self.path.rmdir()

    def _write_frames(self, frames: np.ndarray) -> None:
        written, size = 0, self._layout.shard_frames
        while written < len(frames):
            shard, offset = divmod(self.num_frames + written, size)
            part = frames[written : written + size - offset]
            self._write(shard_path(self.path, shard), offset * self._layout.frame_bytes, part)
            written += len(part)

    def _write(self, path: Path, offset: int, values: np.ndarray) -> None:
        if path not in self._open_files:
            self._open_files[path] = path.open("r+b" if path.exists() else "w+b")
        file = self._open_files[path]
        file.seek(offset)
        file.write(values.data)
