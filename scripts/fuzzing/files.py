"""Inputs as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# An input: the bytes of each file by its path in the input's folder.
Files = dict[str, bytes]


def files_in(folder: Path, *patterns: str) -> Files:
    """The files of a folder that match, by their paths in it."""
    found = sorted(path for pattern in patterns for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def write(files: Files, folder: Path) -> Path:
    """Write files into a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@contextmanager
def opened(files: Files) -> Iterator[Path]:
    """A folder with these files, for a while."""
    with TemporaryDirectory() as folder:
        yield write(files, Path(folder))


def check(holds: object, what: str) -> None:
    """Raise AssertionError unless something holds; python -O leaves no assertion out here."""
    if not holds:
        raise AssertionError(what)
