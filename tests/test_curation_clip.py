"""A clip is the same frames as in the whole film, whatever its clock; the table reads back what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers_video import numbered, numbers, save
from jinn.contracts import JinnError
from jinn.curation.clip import Clip, Row, read_clip, read_clips, write_clips
from jinn.data.film import read_film
from jinn.data.video import VideoError, VideoFacts, video_facts

pytest.importorskip("pyarrow", reason="LOUD: curation cannot be tested without the extra 'curate'")


@pytest.mark.parametrize("suffix", ["mp4", "ts"])  # the clock of .ts does not begin at 0
def test_a_clip_is_a_part_of_the_film(tmp_path: Path, suffix: str) -> None:
    film = save(tmp_path / f"a.{suffix}", [numbered(t % 256) for t in range(300)], rate=30)
    start = video_facts(film).begin
    assert (start > 0.01) == (suffix == "ts")
    shown = numbers(np.concatenate([chunk for _, chunk in read_film(film, 10, (64, 64))]))
    clip_THWC = read_clip(Clip(str(film), start + 2.0, 4.0), 10, (64, 64))
    assert numbers(clip_THWC) == shown[20:60]
    assert read_clip(Clip(str(film), start + 2.0, 0.1)).shape == (1, 90, 160, 3)


@pytest.mark.parametrize(("rate", "fps"), [(24, 10), (25, 10), (24, 30), (7, 10)])
def test_a_clip_has_as_many_frames_as_its_length_asks_for(tmp_path: Path, rate: int, fps: float) -> None:
    film = save(tmp_path / "a.mp4", [numbered(t) for t in range(8 * rate)], rate=rate)
    for start in (0.0, 1.1, 2.3, 4.0):
        frames_THWC = read_clip(Clip(str(film), start, 4.0), fps, (64, 64))
        assert len(frames_THWC) == 4 * fps
        assert abs(numbers(frames_THWC)[0] - start * rate) <= 1


def test_the_facts_of_a_video(tmp_path: Path) -> None:
    film = save(tmp_path / "a.mp4", [numbered(t, 64)[:32] for t in range(50)], rate=25)
    assert video_facts(film) == VideoFacts(0.0, 2.0, 25.0, (32, 64))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    film = save(tmp_path / "a.mp4", [numbered(t) for t in range(60)])
    with pytest.raises(VideoError, match=r"breaks off after 1\.0 of 4\.0"):
        read_clip(Clip(str(film), 1.0, 4.0))
    with pytest.raises(VideoError):
        read_clip(Clip(str(tmp_path / "none.mp4"), 0, 1))


def test_a_name_depends_on_the_films_name_and_the_start() -> None:
    clip = Clip("a/film.mp4", 16.0, 16.0)
    assert clip.name == Clip("b/film.mp4", 16.0004, 3.0).name
    assert len({clip.name, Clip("film2.mp4", 16.0, 16.0).name, Clip("film.mp4", 16.001, 16.0).name}) == 3
    assert len(clip.name) == 12
    assert int(clip.name, 16) >= 0


def test_the_table_reads_back(tmp_path: Path) -> None:
    rows = [
        Row("/films/ä.mp4", 7, 0.0, 16.0, "A title", 1.5, 0.0, 0.25, 0.5, 3.0, "0f", 0.75),
        Row("/films/b.mp4", 8, 0.0, 0.0, "b", reason="it is empty"),
    ]
    for written in (rows, rows[:1], []):
        write_clips(tmp_path / "c", written)
        assert read_clips(tmp_path / "c") == written
    assert rows[0].clip == Clip("/films/ä.mp4", 0.0, 16.0)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["clips.parquet"]
    with pytest.raises(JinnError, match="make it with jinn curate"):
        read_clips(tmp_path)
    (tmp_path / "c" / "clips.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(JinnError, match="cannot be read"):
        read_clips(tmp_path / "c")
