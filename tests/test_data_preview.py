"""A look at a source: planted faults are counted, and the picture shows the clips. How long is left of reading one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_video import save
from jinn.cli import main
from jinn.data.ingest import ingest
from jinn.data.preview import preview
from jinn.data.synthetic import game_rollout, write_game
from jinn.data.writer import StoreWriter


def test_planted_faults_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
    moving = [
        np.roll(noise // 8 + 100, t, axis=1) for t in range(80)
    ]  # a mean difference of about ten grey levels
    frames = moving[:20] + [moving[19]] * 10 + [np.zeros_like(noise)] * 5 + moving[35:]
    with StoreWriter(tmp_path / "s", (8, 8), 10) as writer:
        writer.append(np.stack(frames))
        writer.end_episode("x")
    found = preview(str(tmp_path / "s"))
    assert (found.clips, found.frames) == (1, 80)
    assert found.repeated == (10 + 4) / 79
    assert found.black == 5 / 80
    assert found.cuts == 2 / 79  # to black and back
    assert found.sheet_HWC.shape == (8, 8 * 10 - 2, 3)
    assert np.array_equal(found.sheet_HWC[:, :8], frames[0])
    assert found.brightness[1] == pytest.approx(np.median([frame.mean() for frame in frames]))
    assert [sentence.split(":")[0] for sentence in found.advice()] == [
        "There are many cuts",
        "Many frames are black",
    ]


def test_steady_play_has_no_faults(tmp_path: Path) -> None:
    write_game(tmp_path / "s", episodes=30, length=21)
    found = preview(str(tmp_path / "s"))
    assert (found.clips, found.frames, found.cuts, found.black) == (12, 252, 0, 0)


def test_the_command_looks_at_videos_and_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("films/a.mp4"), list(game_rollout(0, 300)[0]), rate=10)
    Path("films/no.mp4").write_text("words")
    assert main(["data", "--preview", "films", "--size", "32", "32"]) == 0
    assert "films: 200 frames of 1 clips" in capsys.readouterr().out
    assert Image.open("films-preview.png").size == (8 * 34 - 2, 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films", "films-preview.png"]
    assert main(["data", "synthetic:game", "--preview", "--out", "x.png"]) == 0
    assert Path("x.png").is_file()
    assert main(["data", "films"]) == 2
    assert main(["data", "--preview", "nowhere"]) == 2
    assert "look first with --preview" in capsys.readouterr().err


def test_progress_goes_on_within_a_long_film(tmp_path: Path) -> None:
    """So that the time that is left can be told, also of one video."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 160, 160, 3), np.uint8)
    long = save(tmp_path / "films/long.avi", list(noise), rate=1, codec="rawvideo", pix_fmt="bgr24")
    short = save(tmp_path / "films/short.mp4", list(noise[:20]), rate=10)
    reports: list[tuple[int, int]] = []
    ingest(
        [str(long.parent)], tmp_path / "out", progress=lambda done, total, _: reports.append((done, total))
    )
    assert {total for _, total in reports} == {3 + max(1, round(short.stat().st_size / 1e6))}
    assert [done for done, _ in reports][:4] == [
        0,
        1,
        3,
        3,
    ]  # 0, 256 and 400 of its 400 frames, and the next film
