"""Data sets of LeRobot -> films, an episode each; formats 2.0, 2.1 and 3.0.

``meta/info.json`` names cameras and paths. In format 2 an episode has files of its own. In format 3 many episodes share
a video and a table, and the tables in ``meta/episodes`` say which part is whose.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.data.clock import Warn
from jinn.data.film import LEFT_OUT, Film, Recording, choose_camera, file_hash, short_hash
from jinn.data.images import Resize
from jinn.data.video import VideoError, video_frames


@dataclass(frozen=True)
class DataSet:
    """What ``meta/info.json`` says."""

    root: Path
    version: int
    fps: float
    cameras: tuple[str, ...]
    videos: frozenset[str]  # the cameras whose pictures lie in videos; those of others lie in the tables
    table_path: str  # with places for numbers
    video_path: str
    episodes_in_folder: int  # of format 2
    numbers: tuple[str, ...]  # columns of states and actions
    has_ids: bool  # whether actions are discrete
    has_vectors: bool  # or continuous
    action_names: tuple[str, ...] | None  # of discrete actions, or of the values of continuous ones


@dataclass(frozen=True, eq=False, kw_only=True)
class LeRobotEpisode(Recording):
    """One camera's view of an episode, whose pictures lie in a video, or else in the table."""

    data: DataSet
    camera: str
    number: int
    length: int  # pictures
    start: float  # second of the video
    table: Path

    @property
    def part(self) -> str:
        return f"{self.camera} {self.number}"

    @property
    def in_video(self) -> bool:
        """Whether its pictures lie in a video, the only one of `files`."""
        return self.camera in self.data.videos

    def content_hash(self) -> str:
        if not self.in_video:
            return super().content_hash()
        if self.data.version == 2:
            return Film.content_hash(self)
        return short_hash(file_hash(self.files[0]) + f"{self.start:.3f} {self.length}".encode())

    def group(self, content: str) -> str:
        """The recorded states and actions: all cameras share them, in whatever files they come to lie."""
        digest = hashlib.blake2b()
        try:
            for column in self.data.numbers:
                digest.update(column.encode() + _numbers(self.table, self.number, column).tobytes())
        except Exception:  # libraries raise errors of all kinds for damaged files
            return content
        return short_hash(digest.digest()) if self.data.numbers else content

    def frames(self, fps: float, to_size: Resize, warn: Warn) -> Iterator[tuple[int, np.ndarray]]:
        if not self.in_video:
            return super().frames(fps, to_size, warn)
        end = self.start + self.length / self.data.fps
        return video_frames(
            self.files[0], fps, to_size, warn, None if self.data.version == 2 else (self.start, end)
        )

    def stored(self) -> Iterator[np.ndarray | bytes]:
        only = [("episode_index", "==", self.number)]
        for picture in _parquet().read_table(self.table, columns=[self.camera], filters=only)[self.camera]:
            found = picture.as_py()
            yield found["bytes"] or (self.data.root / found["path"]).read_bytes()

    def actions(self) -> np.ndarray | None:
        if not self.num_actions:
            return None
        return _numbers(self.table, self.number, "action").reshape(-1).astype(np.int64)

    def values(self) -> np.ndarray | None:
        if not self.data.has_vectors:
            return None
        return _numbers(self.table, self.number, "action").astype(np.float64)


def is_data_set(info: Path) -> bool:
    """Whether a file ``meta/info.json`` is one of LeRobot's."""
    try:
        return "codebase_version" in json.loads(info.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def find_episodes(root: Path, name: str, camera: str | None) -> tuple[list[Film], list[tuple[str, str]]]:
    """The episodes of a data set, and (name, reason) of what cannot be read of it.

    Args:
        root: Folder of the data set.
        name: To show.
        camera: As of `choose_camera`.

    Raises:
        JinnError: There is no such camera, or pyarrow is not installed.
    """
    try:
        data = _read_info(root)
    except VideoError as error:
        return [], [(name, str(error))]
    camera, notes = choose_camera(data.cameras, camera, name)
    if data.has_vectors:
        notes += (LEFT_OUT,)
    parquet = _parquet()
    rows: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    lists = [root / "meta" / "episodes.jsonl"]
    if data.version == 3:
        lists = sorted((root / "meta" / "episodes").rglob("*.parquet"))
    for file in lists:
        try:
            if data.version == 2:
                rows += [json.loads(line) for line in file.read_bytes().splitlines() if line.strip()]
            else:
                known = parquet.read_schema(file).names
                columns = [column for column in known if not column.startswith("stats/")]
                rows += parquet.read_table(file, columns=columns).to_pylist()
        except Exception as error:  # pyarrow raises errors of all kinds for damaged files
            shown = file.relative_to(root).as_posix()
            skipped.append((f"{name} {shown}", f"this list of episodes cannot be read ({error})"))
    if not rows and not skipped:
        skipped.append((name, "it has no list of episodes in its folder meta"))
    return _films(data, rows, name, camera, notes, skipped), skipped


def _films(
    data: DataSet,
    rows: list[dict[str, Any]],
    name: str,
    camera: str,
    notes: tuple[str, ...],
    skipped: list[tuple[str, str]],
) -> list[Film]:
    """An episode for each row of the lists of episodes; adds to `skipped` those that say too little."""
    places: list[tuple[str, dict[str, Any]]] = []
    view = f" ({camera})" if len(data.cameras) > 1 else ""
    for row in rows:
        try:
            number, tasks = int(row["episode_index"]), row.get("tasks") or ()
            task = " ".join(" and ".join(map(str, tasks)).split())
            table, video, start = _paths(data, row, number, camera)
            places.append((f"{name} episode {number}{view}{task and ': '}{task}", {
                "number": number, "length": int(row["length"]), "start": start, "table": table,
                "files": (video if camera in data.videos else table,),
            }))  # fmt: skip
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            number = row.get("episode_index", "?") if isinstance(row, dict) else "?"
            skipped.append((f"{name} episode {number}", f"its entry in the list of episodes lacks {error}"))
    num_actions = _count_actions({place["table"] for _, place in places}) if data.has_ids else 0
    names = data.action_names if 0 < num_actions <= len(data.action_names or ()) else None
    num_actions = len(names or ()) or num_actions  # those that nobody took have names, too
    return [
        LeRobotEpisode(
            name=shown,
            fps=data.fps,
            num_actions=num_actions,
            action_names=names,
            value_names=data.action_names if data.has_vectors else None,
            notes=notes,
            data=data,
            camera=camera,
            **place,
        )
        for shown, place in sorted(places, key=lambda item: item[1]["number"])
    ]


def _paths(data: DataSet, row: dict[str, Any], number: int, camera: str) -> tuple[Path, Path, float]:
    """The table and the video of an episode, and the second of the video at which it begins."""
    if data.version == 2:
        numbers = {"episode_chunk": number // data.episodes_in_folder, "episode_index": number}
        table, video, start = numbers, numbers, 0.0
    else:
        table = {f"{key}_index": row[f"data/{key}_index"] for key in ("chunk", "file")}
        video, start = {}, 0.0
        if camera in data.videos:
            video = {f"{key}_index": row[f"videos/{camera}/{key}_index"] for key in ("chunk", "file")}
            start = float(row[f"videos/{camera}/from_timestamp"])
    video_path = data.video_path.format(video_key=camera, **video) if camera in data.videos else ""
    return data.root / data.table_path.format(**table), data.root / video_path, start


def _read_info(root: Path) -> DataSet:
    try:
        info = json.loads((root / "meta" / "info.json").read_bytes())
        version = int(str(info["codebase_version"]).lstrip("v").split(".")[0])
        if version not in (2, 3):
            raise VideoError(
                f"it is a LeRobot data set of format {info['codebase_version']}, and jinn reads 2 and 3: convert it "
                "with LeRobot's own scripts"
            )
        features = info["features"]
        views = {key: value for key, value in features.items() if value["dtype"] in ("video", "image")}
        depth = {key for key, value in views.items() if "'video.is_depth_map': True" in str(value)}
        numbers = sorted(
            key
            for key, value in features.items()
            if key.split(".")[0] in ("action", "observation") and value["dtype"].startswith(("float", "int"))
        )
        action = features.get("action", {"dtype": "", "shape": ()})
        has_ids = action["dtype"].startswith("int") and math.prod(action["shape"]) == 1
        if not views:
            raise VideoError("it has no camera")
        fps = float(info["fps"])
        if not 0 < fps < math.inf:
            raise ValueError("its rate is not above zero")
        return DataSet(
            root, version, fps, tuple(sorted(views, key=lambda key: key in depth)),
            frozenset(key for key, value in views.items() if value["dtype"] == "video"),
            info["data_path"], info.get("video_path") or "", int(info.get("chunks_size") or 1000), tuple(numbers),
            has_ids, "action" in features and not has_ids, _value_names(action),
        )  # fmt: skip
    except VideoError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VideoError(f"its meta/info.json is damaged or of another kind ({error!r})") from error


def _value_names(action: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of an action's values: one name alone is that of the number itself."""
    names = action.get("names")
    if isinstance(names, dict) and len(names) == 1:  # such as {"motors": [...]}
        [names] = names.values()
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def _count_actions(tables: set[Path]) -> int:
    """The number of discrete actions up to the last that was taken; 0 if some are below zero."""
    most = -1
    for table in sorted(tables):
        try:
            taken = _flat(_parquet().read_table(table, columns=["action"])["action"])
        except Exception:  # whoever reads the episodes says so
            continue
        if len(taken) and (taken.min() < 0 or taken.max() > np.iinfo(np.int16).max):
            return 0
        most = max(most, int(taken.max(initial=-1)))
    return most + 1


def _numbers(table: Path, number: int, column: str) -> np.ndarray:
    """The values of a column in the rows of an episode, (rows, values)."""
    episodes, values = _column(table, column, table.stat().st_mtime_ns)
    return values[episodes == number]


@lru_cache(maxsize=16)
def _column(table: Path, column: str, changed: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of the episode and the values of each row, kept while the episodes of a table are read."""
    content = _parquet().read_table(table, columns=["episode_index", column])
    episodes = _flat(content["episode_index"])
    return episodes, _flat(content[column]).reshape(len(episodes), -1)


def _flat(column: Any) -> np.ndarray:
    """The numbers of a column of pyarrow, lists one after another."""
    array = column.combine_chunks()
    while array.type.num_fields:
        array = array.flatten()
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise JinnError(
            "reading data sets of LeRobot needs pyarrow: run pip install 'jinn[datasets]'"
        ) from error
    return parquet
