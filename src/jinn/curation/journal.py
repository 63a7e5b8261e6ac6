"""The folder of a curation while it is made: which films are done, so that a command that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from jinn.contracts import JinnError
from jinn.curation.clip import Row, read_clips
from jinn.curation.scan import ScanConfig, size_of
from jinn.data.curated import CLIPS
from jinn.files import from_dict, locked, read_config, read_json, to_dict, write_json

CONFIG, JOURNAL, LOCK = "curation.json", "films.jsonl", "lock"


class Journal:
    """The rows of the films that are done, by film. A line of the journal is a film: one that is torn is read again."""

    def __init__(self, folder: Path, config: ScanConfig) -> None:
        """Read what an earlier call left, or make the folder's config; `JinnError` if that is another one."""
        self.folder = folder
        self.films: dict[str, list[Row]] = {}
        if (folder / CONFIG).exists():
            old = read_config(
                ScanConfig, folder / CONFIG, read_json(folder / CONFIG), "curate the videos again"
            )
            if old != config:
                raise JinnError(
                    f"{folder} was made with other settings ({old.clip_seconds:g} seconds, {old.fps:g} frames a second,"
                    f" {'with' if old.keywords else 'without'} keywords): give the same, or another --out"
                )
        else:
            write_json(folder / CONFIG, to_dict(config))
        if (folder / CLIPS).exists():
            for row in read_clips(folder):
                self.films.setdefault(row.file, []).append(row)
        self.films |= dict(_read_lines(folder / JOURNAL))

    def is_done(self, file: str) -> bool:
        """Whether a film was looked at and has the size that it had then."""
        return file in self.films and self.films[file][0].size == size_of(Path(file))

    def add(self, file: str, rows: list[Row]) -> None:
        """Keep the rows of a film."""
        self.films[file] = rows
        line = json.dumps({"file": file, "rows": [asdict(row) for row in rows]})
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as opened:
            opened.write(f"{line}\n")

    def rows(self) -> list[Row]:
        return [row for rows in self.films.values() for row in rows]

    def finish(self) -> None:
        """Forget the journal: what it holds is in the table of clips now."""
        (self.folder / JOURNAL).unlink(missing_ok=True)


@contextmanager
def opened(folder: Path, config: ScanConfig) -> Iterator[Journal]:
    """The journal of a folder, which is made, and which no other process may write to meanwhile.

    Raises:
        JinnError: Another process curates there, or it was made with another config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, f"another process curates in {folder}: wait for it, or give another --out"):
        yield Journal(folder, config)


def _read_lines(path: Path) -> Iterator[tuple[str, list[Row]]]:
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data[
        : data.rfind(b"\n") + 1
    ]  # a line without its end was being written when the process was killed
    if len(whole) < len(data):
        with path.open("rb+") as opened:
            opened.truncate(len(whole))
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            values = json.loads(line)
            rows = [from_dict(Row, row, f"line {number}") for row in values["rows"]]
            yield values["file"], rows
        except (ValueError, KeyError, TypeError) as error:
            raise JinnError(f"{path} is damaged ({error}): remove it, and curate the videos again") from None
