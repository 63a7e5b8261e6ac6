"""A curation that was stopped goes on with the films that are not done, and a folder is of one curation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers_video import numbered, save
from jinn.contracts import JinnError
from jinn.curation.clip import Row, write_clips
from jinn.curation.journal import Journal, opened
from jinn.curation.pipeline import curate
from jinn.curation.probe import Keywords
from jinn.curation.scan import ScanConfig
from jinn.files import TEMPORARY

pytest.importorskip("pyarrow", reason="LOUD: curation cannot be tested without the extra 'curate'")
CONFIG = ScanConfig(clip_seconds=2)


def films_in(folder: Path) -> list[Row]:
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.mp4").write_bytes(b"12345")
    return [
        Row(str(folder / f"{name}.mp4"), 5, start, 2.0, name, 1.0) for name in "ab" for start in (0.0, 2.0)
    ]


def test_films_that_are_done_are_known_again(tmp_path: Path) -> None:
    rows = films_in(tmp_path / "films")
    a, b = rows[0].file, rows[2].file
    with opened(tmp_path / "out", CONFIG) as journal:
        journal.add(a, rows[:2])
        assert (journal.is_done(a), journal.is_done(b)) == (True, False)
    with opened(tmp_path / "out", CONFIG) as journal:
        assert journal.rows() == rows[:2]
        journal.add(b, rows[2:])
    # A line that was being written when the process was killed is no line, and the next one begins anew.
    path = tmp_path / "out" / "films.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with opened(tmp_path / "out", CONFIG) as journal:
        assert (journal.is_done(a), journal.is_done(b)) == (True, False)
        journal.add(b, rows[2:])
    with opened(tmp_path / "out", CONFIG) as journal:
        assert journal.rows() == rows
        write_clips(tmp_path / "out", rows)
        journal.finish()
    assert not path.exists()
    Path(a).write_bytes(b"123456789")  # it has grown
    with opened(tmp_path / "out", CONFIG) as journal:
        assert (journal.is_done(a), journal.is_done(b)) == (False, True)
        journal.add(a, rows[:1])
        assert journal.rows() == [rows[0], *rows[2:]]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    second = opened(tmp_path, CONFIG)
    with opened(tmp_path, CONFIG), pytest.raises(JinnError, match="another process curates"):
        second.__enter__()
    with pytest.raises(JinnError, match="other settings"), opened(tmp_path, replace(CONFIG, fps=12)):
        pass
    with (
        pytest.raises(JinnError, match="other settings"),
        opened(tmp_path, replace(CONFIG, keywords=Keywords())),
    ):
        pass
    for text in ("words", json.dumps({"file": "a", "rows": [{"file": 3}]}), "[]"):
        (tmp_path / "films.jsonl").write_text(f"{text}\n")
        with pytest.raises(JinnError, match=r"films.jsonl is damaged"):
            Journal(tmp_path, CONFIG)


def test_keywords_are_kept(tmp_path: Path) -> None:
    config = ScanConfig(keywords=Keywords(games=("zelda",)))
    Journal(tmp_path, config)
    assert Journal(tmp_path, config).rows() == []


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.txt").write_text("words")
    with pytest.raises(JinnError, match="there are no videos"):
        curate([str(tmp_path / "films")], tmp_path / "out")
    with pytest.raises(JinnError, match="there is no file or folder"):
        curate([str(tmp_path / "none")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_films_are_done_needs_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "tmp" / f"ray.12345678{TEMPORARY}"  # of a process that was killed
    left.mkdir(parents=True)
    monkeypatch.setattr("jinn.curation.pipeline.place", lambda: left.parent)
    film = save(tmp_path / "films" / "a.mp4", [numbered(t) for t in range(20)])
    row = Row(str(film), film.stat().st_size, 0.0, 2.0, "a", motion=3.0, hash="00")
    write_clips(tmp_path / "out", [row])
    for films in (tmp_path / "films", tmp_path / "out" / ".." / "films"):
        summary = curate([str(films)], tmp_path / "out", CONFIG)
        assert (summary.films, summary.resumed, summary.kept, summary.left_out) == (0, 1, 1, {})
    assert not left.exists()
