"""The two small files that describe a frame store, and the check that they agree with the large ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, get_args

import numpy as np

from jinn.contracts import JinnError
from jinn.data.images import Fit
from jinn.files import from_dict, locked, replacing, write_json

VERSION = 1
NO_SEED = np.iinfo(np.int64).min  # stands for "no level seed" in the column
HELDOUT_FRACTION = 0.05

# The columns of the index, one row per episode. `group` is the hash that decides the split.
COLUMNS: dict[str, type[np.generic]] = {
    "start": np.int64,
    "length": np.int64,
    "source": np.int32,
    "group": np.uint64,
    "level_seed": np.int64,
    "has_actions": np.bool_,
    "heldout": np.bool_,
}


@dataclass(frozen=True)
class Layout:
    """The content of store.json: frame size, frames per second, frames in a full shard, and how pictures fit in."""

    height: int
    width: int
    fps: float
    shard_frames: int
    fit: Fit = "crop"

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3

    @property
    def frame_bytes(self) -> int:
        return self.height * self.width * 3


@dataclass(frozen=True)
class Names:
    """The JSON in index.npz: the sources' names, the numbers of those that are complete, and the true actions."""

    sources: tuple[str, ...]
    done: tuple[int, ...]
    num_actions: int | None
    action_names: tuple[str, ...] | None


@dataclass(frozen=True)
class Index:
    """The content of index.npz: the columns of `COLUMNS`, the sources' names, and which are complete.

    `action_names` holds a name for each true action, None where nobody gave any or sources disagree.
    """

    columns: dict[str, np.ndarray]
    sources: tuple[str, ...]
    done: frozenset[str]
    num_actions: int | None
    action_names: tuple[str, ...] | None = None


def count_frames(columns: Mapping[str, Sequence[int] | np.ndarray]) -> int:
    """Number of frames of all episodes, of which there may be none."""
    starts, lengths = columns["start"], columns["length"]
    return int(starts[-1] + lengths[-1]) if len(starts) else 0


def shard_path(path: Path, shard: int) -> Path:
    """File of one shard of frames."""
    return path / f"frames-{shard:05d}.bin"


def group_hash(group: str) -> int:
    """A 64-bit hash of a group's name that never changes between runs, machines and versions."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "little")


def is_heldout(group: int) -> bool:
    """Whether a group with this hash is held out of training; the same in every store."""
    return group < HELDOUT_FRACTION * 2**64


def read_store(path: Path) -> tuple[Layout, Index]:
    """Read both files; `JinnError` if the store is missing, damaged or too new."""
    layout, index = read_layout(path), read_index(path)
    frames, size = count_frames(index.columns), layout.shard_frames
    if frames:
        _check_length(path / "actions.bin", 2 * frames)
    for first in range(0, frames, size):
        _check_length(shard_path(path, first // size), min(size, frames - first) * layout.frame_bytes)
    return layout, index


def _check_length(file: Path, wanted: int) -> None:
    found = file.stat().st_size if file.is_file() else 0
    if found < wanted:
        state = f"has {found} bytes where the index says {wanted}" if found else "is missing or empty"
        raise JinnError(f"{file} {state}: copy or make the store again")


def read_layout(path: Path) -> Layout:
    """Read store.json; `JinnError` if it is missing, damaged or too new."""
    file = path / "store.json"
    if not file.is_file():
        raise JinnError(f"{path} is not a frame store (it has no store.json): make one with `jinn data`")
    try:
        content = json.loads(file.read_text())
        version = content["version"]
        if version == VERSION:
            content = {"fit": "crop", **content}  # stores that were made before do not say so
            layout = from_dict(Layout, {field.name: content[field.name] for field in fields(Layout)})
            if layout.fit not in get_args(Fit):
                raise ValueError("there is no such way to fit pictures in")
            if min(layout.height, layout.width, layout.fps, layout.shard_frames) <= 0:
                raise ValueError("sizes and rates are above zero")
            return layout
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(file) from error
    raise JinnError(f"{path} is a frame store of version {version}, this jinn reads {VERSION}: update jinn")


def read_index(path: Path) -> Index:
    """Read index.npz; `JinnError` if it is missing or damaged."""
    file = path / "index.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            columns = {name: arrays[name].astype(dtype, casting="safe") for name, dtype in COLUMNS.items()}
            content = json.loads(arrays["names"].tobytes())
        # Stores that were made before have no names of actions.
        names = from_dict(Names, {"action_names": None, **content})
        done = frozenset(names.sources[number] for number in names.done)
        _check_columns(columns, names)
    except Exception as error:  # zip, NumPy and JSON raise errors of all kinds for a damaged file
        raise _damaged(file) from error
    return Index(columns, names.sources, done, names.num_actions, names.action_names)


def _check_columns(columns: dict[str, np.ndarray], names: Names) -> None:
    """Raise ValueError unless the columns are as long as each other, and their episodes follow one another."""
    starts, lengths, sources = columns["start"], columns["length"], columns["source"]
    if {column.shape for column in columns.values()} != {(len(starts),)}:
        raise ValueError("the columns are not alike")
    # Between two episodes there may be frames of one that was replaced. No sum of such numbers overflows.
    if not ((starts >= 0) & (starts < 2**62) & (lengths > 0) & (lengths < 2**62)).all():
        raise ValueError("an episode has an impossible place")
    if not (starts[1:] >= (starts + lengths)[:-1]).all():
        raise ValueError("two episodes overlap")
    if not ((sources >= 0) & (sources < len(names.sources))).all() or min(names.done, default=0) < 0:
        raise ValueError("there is no such source")
    if (names.num_actions or 0) < 0:
        raise ValueError("there is no such number of actions")
    if names.action_names is not None and len(names.action_names) != names.num_actions:
        raise ValueError("there are not as many names as actions")


def write_index(path: Path, index: Index) -> None:
    """Replace index.npz atomically; the new one is on the disk when this returns."""
    done = [number for number, name in enumerate(index.sources) if name in index.done]
    names = asdict(Names(index.sources, tuple(done), index.num_actions, index.action_names))
    # np.savez stores the plain columns uncompressed and never pickles them.
    arrays = {**index.columns, "names": np.frombuffer(json.dumps(names).encode(), np.uint8)}
    with replacing(path / "index.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def create(path: Path, layout: Layout) -> None:
    """Write an empty store. store.json is written last: where it exists, the rest does too."""
    ours = ("writer.lock", "index.npz")
    for file in path.iterdir():
        if file.name not in ours and file.suffix != ".tmp":
            raise JinnError(f"{path} holds other files ({file.name}): name an empty or new directory")
    columns = {name: np.empty(0, dtype) for name, dtype in COLUMNS.items()}
    write_index(path, Index(columns, (), frozenset(), None))
    write_json(path / "store.json", {"format": "jinn frame store", "version": VERSION, **asdict(layout)})


def lock_store(path: Path) -> IO[bytes]:
    """Lock the store for one writer, until the returned file is closed; `JinnError` if it is locked."""
    path.mkdir(parents=True, exist_ok=True)
    return locked(path / "writer.lock", f"{path} is being written by another process: wait for it to end")


def _damaged(file: Path) -> JinnError:
    return JinnError(f"{file} is damaged or missing: copy the store again or make a new one with `jinn data`")
