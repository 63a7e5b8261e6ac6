"""The writer of a frame store: nothing else changes one."""

from __future__ import annotations

import os
import shutil
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import compress
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.images import Fit
from jinn.data.store_format import (
    COLUMNS,
    NO_SEED,
    Index,
    Layout,
    count_frames,
    create,
    group_hash,
    is_heldout,
    lock_store,
    read_store,
    shard_path,
    write_index,
)
from jinn.files import TEMPORARY, named

SHARD_BYTES = 2**30
FILES = (
    "frames-*.bin",
    "actions.bin",
    "rewards.bin",
    "index.npz",
    "store.json",
    "writer.lock",
    f"*{TEMPORARY}",
)  # of a store


class StoreWriter(AbstractContextManager["StoreWriter"]):
    """Creates a store or continues one; a context manager.

    An episode is written chunk by chunk with `append`, and exists once `end_episode` was called. Nothing is durable
    before `commit`, `finish_source` (which commits now and then) or `close`. Leaving the ``with`` block by an exception
    drops everything after the last finished source. A store that is still empty at the end is removed again.

    Args:
        path: Directory of the store, which is made if it is missing.
        size_hw: Height and width of the frames, pixels.
        fps: Frames per second.
        num_actions: Number of different true actions, None for video. Raise the attribute of the same name before you
            end an episode with more.
        action_names: A name for each true action. A store keeps them as long as all that is added to it agrees.
        shard_bytes: Size of a full shard of a new store.
        fit: How pictures of another shape have been fitted in; None is the store's own way, or "crop" for a new one.

    Raises:
        JinnError: The store has another size, rate or fit, is damaged or is being written by another process, or the
            directory holds other files.
    """

    def __init__(
        self,
        path: str | Path,
        size_hw: tuple[int, int],
        fps: float,
        num_actions: int | None = None,
        shard_bytes: int = SHARD_BYTES,
        action_names: Sequence[str] | None = None,
        fit: Fit | None = None,
    ) -> None:
        self.path, self.size_hw, self.fps = Path(path).expanduser(), size_hw, fps
        height, width = size_hw
        layout = Layout(height, width, float(fps), max(1, shard_bytes // (height * width * 3)), fit or "crop")
        self._lock = lock_store(self.path)
        try:
            if not (self.path / "store.json").exists():
                create(self.path, layout)
            old, index = read_store(self.path)
            if (old.frame_shape, old.fps) != (layout.frame_shape, layout.fps):
                raise JinnError(
                    f"{path} holds {old.height}x{old.width} frames at {old.fps:g} fps, not "
                    f"{height}x{width} at {fps:g}: use another directory or the same size and rate"
                )
            if fit not in (None, old.fit):
                raise JinnError(
                    f"{path} was made with --fit {old.fit}, not {fit}: use another directory or the same fit"
                )
        except BaseException:
            self._lock.close()
            raise
        self._layout, self.fit = old, old.fit
        self.num_actions = max(num_actions or 0, index.num_actions or 0) or None
        # Whoever adds no actions (videos) has no say in their names.
        given = (tuple(action_names) if action_names else None) if num_actions else index.action_names
        self._action_names = given if index.num_actions is None or given == index.action_names else None
        self.done_sources = set(index.done)  # names of the sources that are complete
        self._columns = {name: column.tolist() for name, column in index.columns.items()}
        self.num_frames = count_frames(self._columns)  # written, those of the open episode included
        self._sources = {name: number for number, name in enumerate(index.sources)}
        heldout = index.columns["heldout"]
        # A group stays in its split when more is added, also where the choice was made by `close`.
        self._splits: dict[int, bool] = dict(zip(self._columns["group"], heldout.tolist(), strict=True))
        self._safe = (self.num_episodes, len(self._sources))  # episodes and sources that a rollback keeps
        self._unsynced: set[Path] = set()  # files that may not be on the disk yet
        self._committed_at, self._commit_seconds = time.monotonic(), 0.0

    @property
    def num_episodes(self) -> int:
        """Number of episodes that have ended, committed or not."""
        return len(self._columns["start"])

    @property
    def open_frames(self) -> int:
        """Number of frames of the episode that has not ended."""
        return self.num_frames - count_frames(self._columns)

    @property
    def num_heldout(self) -> int:
        """Number of episodes that are held out from training."""
        return sum(self._columns["heldout"])

    def added_since(self, frame: int) -> tuple[int, int]:
        """Number of episodes from this frame of the store on, and of their frames."""
        lengths = [length for spans in self.episodes_since(frame).values() for _, length in spans]
        return len(lengths), sum(lengths)

    def episodes_since(self, frame: int) -> dict[str, list[tuple[int, int]]]:
        """First frame and length of each episode from this frame of the store on, by source."""
        names, found = list(self._sources), defaultdict[str, list[tuple[int, int]]](list)
        row = bisect_left(self._columns["start"], frame)
        columns = (self._columns[name][row:] for name in ("source", "start", "length"))
        for source, start, length in zip(*columns, strict=True):
            found[names[source]].append((start, length))
        return dict(found)

    def read(self, frames: Sequence[int]) -> np.ndarray:
        """Some frames of the store, uint8 ``THWC``, by their numbers."""
        found = np.empty((len(frames), *self._layout.frame_shape), np.uint8)
        for frame_HWC, number in zip(found, frames, strict=True):
            shard, offset = divmod(number, self._layout.shard_frames)
            with shard_path(self.path, shard).open("rb") as file:
                file.seek(offset * self._layout.frame_bytes)
                file.readinto(frame_HWC.data)
        return found

    def join_groups(self, group: int, other: int) -> None:
        """Make the episodes of a group part of another one, and of its split."""
        self._splits[group] = self._splits[other]
        for row, number in enumerate(self._columns["group"]):
            if number == group:
                self._columns["group"][row], self._columns["heldout"][row] = other, self._splits[other]

    def group_of(self, source: str) -> int:
        """Number of the group of a source's first episode."""
        group: int = self._columns["group"][self._columns["source"].index(self._sources[source])]
        return group

    def append(self, frames_THWC: np.ndarray) -> None:
        """Write the next chunk (uint8, T > 0) of the episode that has not ended, or the first one of a new episode."""
        shape = self._layout.frame_shape
        if frames_THWC.dtype != np.uint8 or frames_THWC.shape[1:] != shape or not len(frames_THWC):
            raise ValueError(
                f"a chunk is uint8 (T > 0, *{shape}), got {frames_THWC.dtype} {frames_THWC.shape}"
            )
        while len(frames_THWC):
            shard, offset = divmod(self.num_frames, self._layout.shard_frames)
            part_THWC = frames_THWC[: self._layout.shard_frames - offset]
            self._write(shard_path(self.path, shard), offset * self._layout.frame_bytes, part_THWC)
            self.num_frames += len(part_THWC)
            frames_THWC = frames_THWC[len(part_THWC) :]

    def end_episode(
        self,
        source: str,
        actions_T: np.ndarray | None = None,
        level_seed: int | None = None,
        group: str | int | None = None,
        heldout: bool | None = None,
        rewards_T: np.ndarray | None = None,
    ) -> None:
        """Make one episode of all frames that were appended since the last one.

        Args:
            source: Name of the video or environment.
            actions_T: True actions, int; entry t leads from frame t to t + 1, the last entry is ignored.
            level_seed: Seed of the level that was played.
            group: Name or number of the group; episodes of one share a split. By default the level, or else the source.
            heldout: The split of a new group, as another store has it. By default the group's hash decides.
            rewards_T: float; entry t is the reward of the step from t to t + 1, the last entry is ignored.
        """
        start = count_frames(self._columns)
        frames = self.num_frames - start
        if not frames:
            raise ValueError("an episode has at least one frame: append some first")
        stored = np.full(frames, -1, "<i2")
        if actions_T is not None:
            if len(actions_T) != frames:
                raise ValueError(f"{frames} frames need as many actions, got {len(actions_T)}")
            stored[:-1] = actions_T[:-1]
            if frames > 1 and not 0 <= stored[:-1].min() <= stored[:-1].max() < (self.num_actions or 0):
                raise ValueError(f"true actions lie in [0, num_actions), num_actions is {self.num_actions}")
        self._write(self.path / "actions.bin", 2 * start, stored)
        self._write_rewards(start, frames, rewards_T)
        if group is None:
            group = source if level_seed is None else f"level {level_seed}"
        number = group_hash(group) if isinstance(group, str) else group
        row = {
            "start": start,
            "length": frames,
            "source": self._sources.setdefault(source, len(self._sources)),
            "group": number,
            "level_seed": NO_SEED if level_seed is None else level_seed,
            "has_actions": actions_T is not None,
            "heldout": self._splits.setdefault(number, is_heldout(number) if heldout is None else heldout),
        }
        for name, value in row.items():
            self._columns[name].append(value)

    def finish_source(self, source: str) -> None:
        """Record that a source is complete, so that it is not ingested again.

        Commits when the last commit cost less than a twentieth of the time since: an index of a million
        episodes is then not rewritten for each of them, and a kill costs seconds of work.
        """
        self._sources.setdefault(source, len(self._sources))
        self.done_sources.add(source)
        self._safe = (self.num_episodes, len(self._sources))
        if time.monotonic() - self._committed_at > max(2.0, 20 * self._commit_seconds):
            self.commit()

    def drop_open(self) -> None:
        """Drop the frames of the episode that has not ended."""
        self.num_frames = count_frames(self._columns)

    def remove_source(self, source: str) -> None:
        """Remove the episodes of a source, which a newer version of it replaces; call `finish_source` with that next.

        Their bytes stay where they are, and are no longer listed.
        """
        rows = [number != self._sources[source] for number in self._columns["source"]]
        for name, column in self._columns.items():
            self._columns[name] = list(compress(column, rows))
        self.done_sources.discard(source)

    def rollback(self) -> None:
        """Drop all frames and episodes since the last finished source or commit."""
        episodes, sources = self._safe
        for column in self._columns.values():
            del column[episodes:]
        for name in list(self._sources)[sources:]:
            del self._sources[name]
        self.num_frames = count_frames(self._columns)

    def commit(self) -> None:
        """Make all ended episodes durable, and visible to readers that open the store from now on."""
        started = time.monotonic()
        for path in self._unsynced:
            with named(path), path.open("rb+") as file:
                os.fsync(file.fileno())
        self._unsynced.clear()
        columns = {name: np.array(self._columns[name], dtype) for name, dtype in COLUMNS.items()}
        done = frozenset(self.done_sources)
        names = self._action_names if len(self._action_names or ()) == self.num_actions else None
        write_index(self.path, Index(columns, tuple(self._sources), done, self.num_actions, names))
        self._safe = (self.num_episodes, len(self._sources))
        self._committed_at = time.monotonic()
        self._commit_seconds = self._committed_at - started

    def close(self) -> None:
        """Complete the split, commit and release the store; an empty one is removed.

        If no group's hash fell into the held-out split, as is usual for a folder of a few videos, the group
        with the smallest hash is held out, provided that at least three others remain to train on. If all groups
        fell into it, none of them is.
        """
        groups, heldout = set(self._columns["group"]), self._columns["heldout"]
        if all(heldout):
            heldout = [False] * len(heldout)
        if not any(heldout) and len(groups) >= 4:
            smallest = min(groups)
            heldout = [group == smallest for group in self._columns["group"]]
        self._columns["heldout"] = heldout
        self._release()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # The split is completed by the run that completes the store, not by one that was stopped.
            self.rollback()
            self._release()

    def _release(self) -> None:
        try:
            if self.num_episodes:
                self.commit()
        finally:
            self._lock.close()
        if not self.num_episodes:
            for path in [path for pattern in FILES for path in self.path.glob(pattern)]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.path.rmdir()

    def _write_rewards(self, start: int, frames: int, rewards_T: np.ndarray | None) -> None:
        """The rewards of an episode, or NaN; no file before the first that are known."""
        path = self.path / "rewards.bin"
        if rewards_T is None and not path.exists():
            return
        stored = np.full(frames, np.nan, "<f4")
        if rewards_T is not None:
            stored[:-1] = rewards_T[: frames - 1]
        if not path.exists() and start:
            self._write(path, 0, np.full(start, np.nan, "<f4"))
        self._write(path, 4 * start, stored)

    def _write(self, path: Path, offset: int, values: np.ndarray) -> None:
        self._unsynced.add(path)
        with named(path), path.open("rb+" if path.exists() else "wb") as file:
            file.seek(offset)
            file.write(np.ascontiguousarray(values).data)
