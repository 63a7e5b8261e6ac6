"""Which films a source holds: what is told by suffixes, first bytes and the files of data sets."""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from jinn.contracts import JinnError
from jinn.data import curated, lerobot, minari
from jinn.data.arrays import ARRAYS, find_clips
from jinn.data.film import Film, printable
from jinn.data.video import VideoError

MIN_FRAMES = 16  # fewer numbered pictures are no clip, nor is a piece of a damaged film that is shorter

VIDEOS = {
    ".3g2", ".3gp", ".amv", ".apng", ".asf", ".av1", ".avi", ".bik", ".divx", ".dv", ".f4v", ".flv", ".gif", ".gxf",
    ".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg",
    ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nsv", ".nut", ".obu", ".ogg", ".ogm", ".ogv",
    ".qt", ".rm", ".rmvb", ".roq", ".smk", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
}  # fmt: skip
PICTURES = {".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
# First bytes of videos, wherever their suffix says nothing.
MAGIC = re.compile(
    rb"....ftyp|....moov|....mdat|\x1a\x45\xdf\xa3|RIFF....AVI |GIF8|FLV\x01|OggS|\x30\x26\xb2\x75"
    rb"|\x00\x00\x01[\xb3\xba]|YUV4MPEG2|DKIF|\.RMF|\x06\x0e\x2b\x34|\x47.{187}\x47|.{4}\x47.{191}\x47|\x93NUMPY",
    re.DOTALL,
)
MAGIC_BYTES = 200
NO_FILM = "it is a picture or a text, not a video"


def find_films(
    path: Path, out: Path, camera: str | None = None, fps: float | None = None
) -> tuple[list[Film], list[tuple[str, str]]]:
    """The films of a source, and (name, reason) of all that is no film.

    Hidden files and the store at `out` are left out; links are followed, and each folder is read once.

    Args:
        path: A file, a folder, a list of both (a ``.txt`` with a path or pattern in each line, from the list's own
            folder), the folder of a curation (the clips that ``jinn curate`` kept), or ``minari:NAME``.
        out: Folder of the store.
        camera: Which one to read of data sets, as of their `find_episodes`.
        fps: Rate of pictures that have none, as of `Film`.

    Raises:
        JinnError: There is no such file, folder or camera, or a package that reads it is not installed.
    """
    if str(path).startswith("minari:"):
        path = minari.local_folder(str(path).removeprefix("minari:"))
    if path.is_file():
        if path.suffix.lower() == ".txt":
            return _listed(path, out, camera, fps)
        return _films_of(path, printable(path.name), camera, fps)
    if (path / curated.CLIPS).is_file():
        return curated.find_parts(path, printable(path.resolve().name))
    if not path.is_dir():
        raise JinnError(f"there is no file or folder {path}: check the name (environments are envpool:NAME)")
    films: list[Film] = []
    pictures: dict[tuple[Path, str, str], dict[int, Path]] = defaultdict(dict)
    files, skipped = _walk(path, out.resolve())
    for info in [file for file in files if file.parts[-2:] == ("meta", "info.json")]:
        root = info.parent.parent
        if lerobot.is_data_set(info):
            name = printable(root.relative_to(path).as_posix() if root != path else root.resolve().name)
            found, others = lerobot.find_episodes(root, name, camera)
            films, skipped = films + found, skipped + others
            files = [file for file in files if root not in file.parents]
    described = {file.parent / "metadata.json" for file in files if file.name == minari.FILE}
    files = [file for file in files if file not in described]
    for file in files:
        name = printable(file.relative_to(path).as_posix())
        suffix = file.suffix.lower()
        try:
            is_film = suffix in VIDEOS or _holds_many(file) or _begins_as_film(file, suffix)
        except OSError as error:
            skipped.append((name, f"it cannot be read ({error.strerror})"))
            continue
        numbered = re.fullmatch(r"(.*?)(\d+)", file.stem)
        if is_film:
            found, others = _films_of(file, name, camera, fps)
            films, skipped = films + found, skipped + others
        elif suffix in PICTURES and numbered:
            pictures[file.parent, numbered[1], file.suffix][int(numbered[2])] = file
        else:
            skipped.append((name, NO_FILM))
    found, others = _picture_films(
        path, [run for numbers in pictures.values() for run in _runs(numbers)], fps
    )
    return sorted(films + found, key=lambda film: film.files[0]), sorted(skipped + others)


def _picture_films(
    path: Path, runs: list[list[Path]], fps: float | None
) -> tuple[list[Film], list[tuple[str, str]]]:
    """Films of pictures with successive numbers, and (name, reason) of those that are too few."""
    films, skipped = [], []
    for run in runs:
        names = [printable(file.relative_to(path).as_posix()) for file in run]
        if len(run) < MIN_FRAMES:
            reason = f"it is a picture, of fewer than {MIN_FRAMES} with successive numbers"
            skipped += [(name, reason) for name in names]
        else:
            films.append(Film(f"{names[0]} to {printable(run[-1].name)}", tuple(run), fps))
    return films, skipped


def _films_of(
    file: Path, name: str, camera: str | None, fps: float | None
) -> tuple[list[Film], list[tuple[str, str]]]:
    """The films that one file holds."""
    try:
        if file.suffix.lower() in ARRAYS:
            return find_clips(file, name, fps), []
        if file.name == minari.FILE:
            return minari.find_episodes(file, name, camera, fps), []
    except VideoError as error:
        return [], [(name, str(error))]
    return [Film(name, (file,))], []


def _holds_many(file: Path) -> bool:
    return file.suffix.lower() in ARRAYS or file.name == minari.FILE


def _listed(
    text: Path, out: Path, camera: str | None, fps: float | None
) -> tuple[list[Film], list[tuple[str, str]]]:
    """The films of a list, each once."""
    films: dict[str, Film] = {}
    skipped: list[tuple[str, str]] = []
    lines = (line.strip() for line in os.fsdecode(text.read_bytes()).removeprefix("\ufeff").splitlines())
    for line in (line for line in lines if line and not line.startswith("#")):
        pattern = text.parent / Path(line).expanduser()
        paths = [Path(found) for found in sorted(glob.glob(str(pattern), recursive=True))] or [pattern]
        for path in paths:
            if not path.exists() or path.suffix.lower() == ".txt":
                skipped.append(
                    (printable(line), NO_FILM if path.exists() else "there is no such file or folder")
                )
                continue
            found, others = find_films(path, out, camera, fps)
            skipped += others
            for film in found:
                films.setdefault(film.place, film)
    return list(films.values()), skipped


def _walk(folder: Path, store: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """All files below a folder in their order, and (name, reason) of folders and links that lead nowhere."""
    files: list[Path] = []
    skipped: list[tuple[str, str]] = []
    seen, folders = {store}, [folder]
    links: list[Path] = []
    while folders or links:
        current = (
            folders.pop() if folders else links.pop(0)
        )  # a folder goes by its own name rather than a link's
        real = current.resolve()
        if real in seen:
            continue
        seen.add(real)
        name = printable(current.relative_to(folder).as_posix())
        try:
            entries = sorted(current.iterdir())
        except OSError as error:
            skipped.append((name, f"this folder cannot be read ({error.strerror})"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(entry)
            elif entry.is_file():
                files.append(entry)
            elif entry.is_symlink():
                skipped.append((printable(entry.relative_to(folder).as_posix()), "its link leads nowhere"))
    return sorted(files), skipped


def _begins_as_film(file: Path, suffix: str) -> bool:
    with file.open("rb") as opened:
        begin = opened.read(MAGIC_BYTES)
    if suffix not in PICTURES:
        return bool(MAGIC.match(begin))
    # A picture moves if it is PNG with a chunk "acTL" before its pixels, or WebP with the flag of animation.
    is_webp = begin[8:16] == b"WEBPVP8X"
    return bool(begin[20] & 2) if is_webp else begin[:4] == b"\x89PNG" and b"acTL" in begin


def _runs(numbers: dict[int, Path]) -> list[list[Path]]:
    """Numbered pictures in their order, cut where numbers are missing; every second or tenth number is no gap."""
    order = sorted(numbers)
    steps = [b - a for a, b in pairwise(order)]
    usual = sorted(steps)[len(steps) // 2] if steps else 1
    runs = [[numbers[order[0]]]]
    for step, number in zip(steps, order[1:], strict=True):
        if step > usual:
            runs.append([])
        runs[-1].append(numbers[number])
    return runs
