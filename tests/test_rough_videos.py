"""Films with a known truth: what they show is what truth.json says, and a classifier can be measured on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("envpool", reason="the films are of EnvPool's games")
pytest.importorskip("pyarrow", reason="the table of clips needs the extra 'datasets'")

from rough_videos import make, measure_all

from jinn.curation.classifier import Classifier
from jinn.curation.clip import Clip, read_clip

pytestmark = pytest.mark.slow
SECONDS = 0.5


def test_the_truth_is_what_the_films_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "a", films=10, parts=4, seconds=SECONDS, seed=0)
    make(tmp_path / "b", films=2, parts=4, seconds=SECONDS, seed=0)
    truth = json.loads((tmp_path / "a" / "truth.json").read_text())["films"]
    assert [film["wanted"] for film in truth] == [number % 8 != 7 for number in range(10)]
    for film in truth:
        path = tmp_path / "a" / film["file"]
        assert json.loads(path.with_suffix(".info.json").read_text())["title"] == film["title"]
        if (again := tmp_path / "b" / film["file"]).exists():
            assert path.read_bytes() == again.read_bytes()
        for clip in film["clips"]:
            frames_THWC = read_clip(Clip(str(path), clip["start"], clip["seconds"])).astype(int)
            assert len(frames_THWC) == 10 * SECONDS
            assert clip["good"] == (clip["kind"] == "play")
            motion = np.abs(np.diff(frames_THWC, axis=0)).mean()
            if clip["kind"] in ("black", "still"):
                assert motion < 2
            if clip["kind"] == "black":
                assert frames_THWC.mean() < 20
            if clip["kind"] == "noise":
                assert motion > 30
    assert {"play"} < {clip["kind"] for film in truth for clip in film["clips"]}
    copy = truth[9]
    original, copied = (
        read_clip(Clip(str(tmp_path / "a" / name), 0, 4 * SECONDS)).astype(int)
        for name in (copy["copy_of"], copy["file"])
    )
    assert np.abs(original - copied).mean() < 10
    measure_all(tmp_path / "a", noise=0.0, width=2, epochs=1)
    found = json.loads(capsys.readouterr().out)
    assert (found["films"], found["clips"], found["labels that are wrong"]) == (9, 36, 0)
    assert Classifier.load(tmp_path / "a" / "classifier").config.width == 2
