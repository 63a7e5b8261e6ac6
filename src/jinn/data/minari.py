"""Data sets of Minari -> films, an episode each, where they hold pictures and are stored as HDF5.

A data set is ``data/main_data.hdf5`` with a group for each episode. Pictures are among its observations or infos, as
arrays or, where Minari has packed them, as JPEG.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.data.film import LEFT_OUT, Film, Recording, choose_camera
from jinn.data.video import VideoError

FILE = "main_data.hdf5"
READ = 64  # pictures read at once
SMALLEST = 32  # side of a picture, pixels: smaller ones are grids of numbers, by Minari's rule too
JPEG = b"\xff\xd8"  # its first bytes


@dataclass(frozen=True, eq=False, kw_only=True)
class MinariEpisode(Recording):
    """One camera's view of an episode."""

    episode: str  # such as episode_0
    camera: str  # path of the pictures within it
    cameras: tuple[str, ...]

    @property
    def part(self) -> str:
        return f"{self.episode}/{self.camera}"

    def group(self, content: str) -> str:
        first = self.cameras[0]
        return content if self.camera == first else replace(self, camera=first).content_hash()

    def stored(self) -> Iterator[np.ndarray | bytes]:
        with _h5py().File(self.files[0]) as file:
            pictures = file[self.part]
            for begin in range(0, len(pictures), READ):
                for picture in pictures[begin : begin + READ]:
                    yield picture if picture.ndim > 1 else picture.tobytes()

    def actions(self) -> np.ndarray | None:
        if not self.num_actions:
            return None
        with _h5py().File(self.files[0]) as file:
            taken, pictures = file[self.episode]["actions"][:], len(file[self.part])
        return np.append(
            taken.astype(np.int64), [-1] * (pictures - len(taken))
        )  # the last observation has none

    def values(self) -> np.ndarray | None:
        if self.num_actions and self.codes is None:
            return None
        with _h5py().File(self.files[0]) as file:
            taken, pictures = file[self.episode]["actions"], len(file[self.part])
            if getattr(taken, "ndim", 0) != 2 or taken.dtype.kind != "f" or not len(taken):
                return None
            return np.pad(taken[:].astype(np.float64), [(0, pictures - len(taken)), (0, 0)], mode="edge")


def local_folder(name: str) -> Path:
    """The folder in which Minari keeps the data set of this name.

    Raises:
        JinnError: There is none, or it is not stored as HDF5.
    """
    local = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    root = local / name
    if not root.is_dir():
        raise JinnError(f"there is no data set {name} in {local}: run minari download {name}")
    if not (root / "data" / FILE).is_file():
        raise JinnError(f"{root} has no data/{FILE}: of Minari's formats jinn reads hdf5")
    return root


def find_episodes(file: Path, name: str, camera: str | None, fps: float | None) -> list[Film]:
    """The episodes of a data set.

    Args:
        file: Its ``main_data.hdf5``.
        name: To show.
        camera: As of `choose_camera`.
        fps: As of `Film`; Minari does not say.

    Raises:
        VideoError: It is damaged, or holds no pictures.
        JinnError: There is no such camera, or h5py is not installed.
    """
    try:
        with _h5py().File(file) as opened:
            numbers = (re.fullmatch(r"episode_(\d+)", key) for key in opened)
            episodes = [f"episode_{number}" for number in sorted(int(match[1]) for match in numbers if match)]
            cameras = _cameras(opened[episodes[0]]) if episodes else ()
            num_actions = _count_actions([opened[episode] for episode in episodes])
    except JinnError:
        raise
    except Exception as error:  # h5py raises errors of all kinds for damaged files
        raise VideoError(f"it is no data set of Minari, or damaged ({error})") from error
    if not cameras:
        raise VideoError(
            f"it holds no pictures of {SMALLEST} pixels or more, uint8 (frames, height, width, 3)"
        )
    camera, notes = choose_camera(cameras, camera, name)
    if not num_actions:
        notes += (LEFT_OUT,)
    view = f" ({camera})" if len(cameras) > 1 else ""
    return [
        MinariEpisode(
            f"{name} {episode}{view}",
            (file,),
            fps,
            num_actions,
            notes,
            episode=episode,
            camera=camera,
            cameras=cameras,
        )
        for episode in episodes
    ]


def _cameras(episode: Any) -> tuple[str, ...]:
    """Paths of all pictures in an episode, those of observations first."""
    found: list[str] = []
    episode.visititems(lambda path, item: found.append(path) if _is_pictures(item) else None)
    return tuple(sorted(found, key=lambda path: (not path.startswith("observations"), path)))


def _is_pictures(item: Any) -> bool:
    h5py = _h5py()
    if not isinstance(item, h5py.Dataset) or not len(item.shape or ()) or not item.shape[0]:
        return False
    if h5py.check_vlen_dtype(item.dtype) == np.uint8 or (item.dtype == np.uint8 and item.ndim == 2):
        return item[0][:2].tobytes() == JPEG
    is_large = item.ndim in (3, 4) and min(item.shape[1:3]) >= SMALLEST
    return item.dtype == np.uint8 and is_large and item.shape[3:] in ((), (1,), (3,), (4,))


def _count_actions(episodes: list[Any]) -> int:
    """The number of discrete actions up to the last that was taken; 0 where they are none."""
    most = -1
    for episode in episodes:
        taken = episode["actions"]
        if getattr(taken, "ndim", 0) != 1 or taken.dtype.kind not in "iu":
            return 0
        values = taken[:]
        if len(values) and not 0 <= values.min() <= values.max() <= np.iinfo(np.int16).max:
            return 0
        most = max(most, int(values.max(initial=-1)))
    return most + 1


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise JinnError("reading data sets of Minari needs h5py: run pip install 'jinn[datasets]'") from error
    return h5py
