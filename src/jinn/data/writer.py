"""Writing a frame store: the only place that changes one."""

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

    Nothing is durable before `commit`, `finish_source` (which commits now and then) or `close`. Leaving the
    ``with`` block by an exception drops what came after the last finished source. A store that is still
    empty at the end is removed again.

    Args:
        path: the directory, made if missing.
        size_hw: height and width of the frames, pixels.
        fps: frames a second.
        num_actions: number of different true actions, None for video. Raise the attribute of the same name
            before adding episodes with more.
        shard_bytes: size of a full shard of a new store.

    Raises:
        JinnError: the store has another size or rate, is damaged, is being written by somebody else, or
            the directory holds other things.
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
        """Episodes written so far, committed or not."""
        return len(self._columns["start"])

    def add(
        self,
        frames_THWC: np.ndarray,
        source: str,
        actions: np.ndarray | None = None,
        level_seed: int | None = None,
        group: str | None = None,
    ) -> None:
        """Append one episode.

        Args:
            frames_THWC: uint8, at least one frame, of the store's size.
            source: name of the video or environment.
            actions: int ``(T,)``, entry t leads from frame t to t + 1; the last entry is ignored.
            level_seed: the level that was played.
            group: episodes of one group share a split; by default the level, or else the source.
        """
        frames = len(frames_THWC)
        if frames_THWC.dtype != np.uint8 or frames_THWC.shape[1:] != self._layout.frame_shape or not frames:
            raise ValueError(
                f"an episode is uint8 (T > 0, {', '.join(map(str, self._layout.frame_shape))}), "
                f"got {frames_THWC.dtype} {frames_THWC.shape}"
            )
        stored = np.full(frames, -1, "<i2")
        if actions is not None:
            if len(actions) != frames:
                raise ValueError(
                    f"{frames} frames need as many actions (the last is padding), got {len(actions)}"
                )
            stored[:-1] = actions[:-1]
            if frames > 1 and not 0 <= stored[:-1].min() <= stored[:-1].max() < (self.num_actions or 0):
                raise ValueError(
                    f"true actions must lie in [0, num_actions), num_actions is {self.num_actions}"
                )
        if group is None:
            group = source if level_seed is None else f"level {level_seed}"
        number = group_hash(group)

        self._write_frames(np.ascontiguousarray(frames_THWC))
        self._write(self.path / "actions.bin", 2 * self.num_frames, stored)
        row = {
            "start": self.num_frames,
            "length": frames,
            "source": self._sources.setdefault(source, len(self._sources)),
            "group": number,
            "level_seed": NO_SEED if level_seed is None else level_seed,
            "has_actions": actions is not None,
            "heldout": is_heldout(number) or number in self._heldout_groups,
        }
        for name, value in row.items():
            self._columns[name].append(value)
        self.num_frames += frames
        self._dirty = True

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
        """Drop the episodes added since the last finished source or commit."""
        episodes, sources = self._safe
        for column in self._columns.values():
            del column[episodes:]
        for name in list(self._sources)[sources:]:
            del self._sources[name]
        starts, lengths = self._columns["start"], self._columns["length"]
        self.num_frames = starts[-1] + lengths[-1] if starts else 0

    def commit(self) -> None:
        """Make everything added so far durable and visible to readers that open the store from now on."""
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
        """Settle the split, commit and release the store; an empty one is removed.

        If chance held nothing out, which is the rule for a folder of a few videos, the group with the
        smallest hash is held out as long as at least three others remain to train on.
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
        else:  # The split is settled by the run that completes the store, not by one that was stopped.
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
            piece = frames[written : written + size - offset]
            self._write(shard_path(self.path, shard), offset * self._layout.frame_bytes, piece)
            written += len(piece)

    def _write(self, path: Path, offset: int, values: np.ndarray) -> None:
        if path not in self._open_files:
            self._open_files[path] = path.open("r+b" if path.exists() else "w+b")
        file = self._open_files[path]
        file.seek(offset)
        file.write(values.data)
