"""Which films lie in a folder: videos, arrays, and numbered pictures, told by suffixes and first bytes."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from jinn.contracts import JinnError
from jinn.data.pictures import ARRAYS

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


@dataclass(frozen=True)
class Film:
    """One source of clips."""

    name: str  # to show
    files: tuple[Path, ...]  # one video or array, or several pictures in their order

    @property
    def place(self) -> str:
        """A hash of where the film lies: a file that changed, or grew, is still the same film."""
        return _hash(os.fsencode(self.files[0].resolve()))

    def content_hash(self) -> str:
        """A hash of all bytes: the same wherever the film lies and whatever its name is."""
        digests = []
        for path in self.files:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "blake2b").digest())
        return _hash(b"".join(digests))


def find_films(path: Path, out: Path) -> tuple[list[Film], list[tuple[str, str]]]:
    """The films of a file or folder, by name, and (name, reason) of all that is no film.

    Hidden files and the store at `out` are left out; links are followed, and each folder is read once.

    Raises:
        JinnError: There is no such file or folder.
    """
    if path.is_file():
        return [Film(_printable(path.name), (path,))], []
    if not path.is_dir():
        raise JinnError(f"there is no file or folder {path}: check the name (environments are envpool:NAME)")
    films: list[Film] = []
    pictures: dict[tuple[Path, str, str], dict[int, Path]] = defaultdict(dict)
    files, skipped = _walk(path, out.resolve())
    for file in files:
        name = _printable(file.relative_to(path).as_posix())
        suffix = file.suffix.lower()
        try:
            is_film = suffix in VIDEOS or suffix in ARRAYS or _begins_as_film(file, suffix)
        except OSError as error:
            skipped.append((name, f"it cannot be read ({error.strerror})"))
            continue
        numbered = re.fullmatch(r"(.*?)(\d+)", file.stem)
        if is_film:
            films.append(Film(name, (file,)))
        elif suffix in PICTURES and numbered:
            pictures[file.parent, numbered[1], file.suffix][int(numbered[2])] = file
        else:
            skipped.append((name, NO_FILM))
    for run in (run for numbers in pictures.values() for run in _runs(numbers)):
        name = _printable(run[0].relative_to(path).as_posix())
        if len(run) < MIN_FRAMES:
            names = [_printable(file.relative_to(path).as_posix()) for file in run]
            skipped += [
                (name, f"it is a picture, of fewer than {MIN_FRAMES} with successive numbers")
                for name in names
            ]
        else:
            films.append(Film(f"{name} to {_printable(run[-1].name)}", tuple(run)))
    return sorted(films, key=lambda film: film.files[0]), sorted(skipped)


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
        name = _printable(current.relative_to(folder).as_posix())
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
                skipped.append((_printable(entry.relative_to(folder).as_posix()), "its link leads nowhere"))
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


def _printable(name: str) -> str:
    """A name as it can be shown and stored, also where it is not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
