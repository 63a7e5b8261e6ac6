"""A frame store -> another one, at another size and rate: stores that are to be trained on together are made alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.images import resize
from jinn.data.store import FrameStore
from jinn.data.store_format import group_hash
from jinn.data.writer import StoreWriter

CHUNK = 256  # frames that are read at once


def is_store(source: str) -> bool:
    """Whether a source is the directory of a frame store."""
    return (Path(source).expanduser() / "store.json").is_file()


def copy_store(writer: StoreWriter, store: FrameStore, progress: Callable[[int, int, str], None]) -> int:
    """Write the episodes of a store's sources that the writer's store lacks; returns how many sources it had.

    A frame becomes what is displayed at its time. Groups and splits stay. True actions and rewards are kept at the same
    rate: at another, one action does not lead from frame to frame.

    Args:
        writer: Of the store to write.
        store: The store to read.
        progress: Called now and then with (frames done, frames in all, the store's path).

    Raises:
        JinnError: It is the same store.
    """
    if store.path.resolve() == writer.path.resolve():
        raise JinnError(f"{store.path} cannot be copied into itself: give another --out")
    source_of, done, resumed = store.index.columns["source"], 0, 0
    for number in np.unique(source_of).tolist():
        name = store.index.sources[number]
        if name not in store.done_sources:  # such a name need not be the only one
            name = f"{name}#{group_hash(str(store.path.resolve())):016x}"
        episodes = np.flatnonzero(source_of == number)
        if name in writer.done_sources:
            resumed, done = resumed + 1, done + int(store.lengths[episodes].sum())
            continue
        for episode in episodes.tolist():
            for read in _copy_episode(writer, store, episode, name):
                progress(done + read, store.num_frames, str(store.path))
            done += int(store.lengths[episode])
        writer.finish_source(name)
    return resumed


def _copy_episode(writer: StoreWriter, store: FrameStore, episode: int, name: str) -> Iterator[int]:
    """Write one episode; yields how many frames of it are read."""
    length, ratio = int(store.lengths[episode]), store.fps / writer.fps
    # What is displayed at k / fps seconds; the sum keeps a frame from being missed by rounding.
    times = np.floor(np.arange(int(np.ceil(length / ratio - 1e-6))) * ratio + 1e-6).astype(np.int64)
    for part in np.array_split(times, -(-len(times) // CHUNK)):
        frames_THWC = store.view(episode, int(part[0]), int(part[-1]) + 1)[part - part[0]]
        writer.append(resize(frames_THWC, writer.size_hw, writer.fit))
        yield int(part[-1]) + 1
    actions_T = store.actions(episode, 0, length) if ratio == 1 else None
    writer.end_episode(
        name,
        actions_T,
        store.level_seed(episode),
        int(store.groups[episode]),
        bool(store.heldout[episode]),
        store.rewards(episode, 0, length) if ratio == 1 else None,
    )
