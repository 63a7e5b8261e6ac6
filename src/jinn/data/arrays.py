"""Arrays of NumPy -> films: the clips in a .npy or .npz file, with their actions where it holds some.

Nothing is unpickled, and only the pictures that are needed are read, unless an .npz file is compressed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jinn.data.film import LEFT_OUT, Film, Recording
from jinn.data.video import VideoError

ARRAYS = (".npy", ".npz")
ACTIONS = ("actions", "action")  # names of the array of actions in an .npz


class Header(NamedTuple):
    """What an array is, before it is read."""

    shape: tuple[int, ...]
    is_fortran: bool  # whether the first axis is the one that changes fastest
    dtype: np.dtype

    @property
    def clip_axes(self) -> int:
        """Number of axes before height and width: 1 of a clip, 2 of a batch of clips, 0 of what is no clip."""
        if self.dtype != np.uint8 or len(self.shape) < 3 or 0 in self.shape:
            return 0
        if len(self.shape) == 3:
            return 1
        return len(self.shape) - 3 if self.shape[-1] in (1, 3, 4) and len(self.shape) < 6 else 0


@dataclass(frozen=True, eq=False)
class ArrayClip(Recording):
    """A clip in a file of arrays."""

    array: str = ""  # its name in an .npz, empty in a .npy
    index: int | None = None  # of the clip, where the array holds several
    actions_T: np.ndarray | None = None
    values_TD: np.ndarray | None = None

    @property
    def part(self) -> str:
        return self.array if self.index is None else f"{self.array}[{self.index}]"

    def stored(self) -> Iterator[np.ndarray | bytes]:
        array = _read(self.files[0], self.array)
        yield from array if self.index is None else array[self.index]

    def actions(self) -> np.ndarray | None:
        return self.actions_T

    def values(self) -> np.ndarray | None:
        return self.values_TD


def find_clips(file: Path, name: str, fps: float | None) -> list[Film]:
    """The clips of a file, arrays in the order of their names.

    An array is a clip if it is uint8 ``(T, H, W, C)`` or ``(T, H, W)``, C is 1, 3 or 4, and several if it is
    ``(B, T, H, W, C)``. If the file holds one such array, an array ``actions`` of whole numbers ``(T,)``, ``(T - 1,)``,
    or with B in front, belongs to it; or one of floating-point numbers, continuous actions, of D values also with D
    behind.

    Args:
        file: ``.npz``, or else ``.npy``.
        name: To show.
        fps: As of `Film`.

    Raises:
        VideoError: It holds no array of pictures, or is damaged.
    """
    try:
        headers = _headers(file)
        arrays = sorted(array for array, header in headers.items() if header.clip_axes)
        if not arrays:
            found = " and ".join(f"{header.dtype} of shape {header.shape}" for header in headers.values())
            raise VideoError(f"it holds {found or 'nothing'}: a clip is uint8 (frames, height, width, 3)")
        actions, left_out = None, sorted(headers.keys() - set(arrays))
        for array in set(ACTIONS) & set(left_out):
            actions = _actions(file, array, headers, arrays)
            left_out.remove(array) if actions is not None else None
    except VideoError:
        raise
    except Exception as error:  # a damaged file raises errors of all kinds
        raise VideoError(f"it is no array of pictures ({error})") from error
    is_continuous = actions is not None and actions.dtype.kind == "f"
    notes: tuple[str, ...] = (LEFT_OUT,) if is_continuous else ()
    if left_out:
        notes += (f"its arrays that are no pictures are left out: {', '.join(left_out)}",)
    films: list[Film] = []
    for array in arrays:
        is_batch = headers[array].clip_axes == 2
        for index in range(headers[array].shape[0]) if is_batch else [None]:
            label = f"{array}[{index}]" if is_batch else array if len(arrays) > 1 else ""
            taken = actions if actions is None or index is None else actions[index]
            discrete, continuous = (None, taken) if is_continuous else (taken, None)
            num_actions = 0 if actions is None or is_continuous else int(actions.max()) + 1
            title = f"{name} {label}".strip()
            films.append(
                ArrayClip(title, (file,), fps, num_actions, notes, array, index, discrete, continuous)
            )
    return films


def _actions(file: Path, array: str, headers: dict[str, Header], clips: list[str]) -> np.ndarray | None:
    """Actions of the one array of pictures, padded to its T or B x T; None where they are something else.

    Whole numbers are discrete actions, int64 ``(T,)`` or ``(B, T)``; others are continuous ones, float64 with the
    D values of an action behind that.
    """
    header, axes = headers[array], headers[clips[0]].clip_axes
    want = headers[clips[0]].shape[:axes]
    is_continuous = header.dtype.kind == "f"
    count, values = header.shape[:axes], header.shape[axes:]
    fits = count in (want, (*want[:-1], want[-1] - 1)) and (
        len(values) < 2 if is_continuous else values in ((), (1,))
    )
    if len(clips) > 1 or header.dtype.kind not in "iuf" or not fits or 0 in header.shape:
        return None
    missing = [(0, 0)] * (axes - 1) + [(0, want[-1] - count[-1])]  # the action at the last picture
    if is_continuous:
        continuous = _read(file, array).astype(np.float64).reshape(*count, values[0] if values else 1)
        return np.pad(continuous, [*missing, (0, 0)], mode="edge")
    actions = _read(file, array).astype(np.int64).reshape(count)
    if actions.min() < 0 or actions.max() > np.iinfo(np.int16).max:
        return None
    return np.pad(actions, missing)


def _headers(file: Path) -> dict[str, Header]:
    if file.suffix.lower() == ".npy":
        with file.open("rb") as opened:
            return {"": _header(opened)}
    headers = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as opened:
                    headers[member.removesuffix(".npy")] = _header(opened)
    return headers


def _header(file: IO[bytes]) -> Header:
    """Read the header of a .npy file, up to the first byte of the values."""
    version = np.lib.format.read_magic(file)
    old = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    return Header(*read(file))


def _read(file: Path, array: str) -> np.ndarray:
    """An array, mapped where it is not compressed."""
    if not array:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(f"{array}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        return _unpacked(file, array, file.stat().st_mtime_ns)
    with file.open("rb") as opened:
        # The file's own header of 30 bytes ends in the lengths of two fields that follow it.
        opened.seek(member.header_offset + 26)
        lengths = np.frombuffer(opened.read(4), "<u2")
        opened.seek(int(lengths.sum()), 1)
        header = _header(opened)
        values = np.memmap(file, header.dtype, "r", opened.tell(), header.shape)
    # The first axis changes fastest in files of Fortran, as it does in the transpose of an array of the reversed shape.
    return values.reshape(header.shape[::-1]).T if header.is_fortran else values


@lru_cache(maxsize=1)
def _unpacked(file: Path, array: str, changed: int) -> np.ndarray:
    """A compressed array, kept while its clips are read."""
    with np.load(file, allow_pickle=False) as arrays:
        content: np.ndarray = arrays[array]
        return content
