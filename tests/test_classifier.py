"""The classifier is the paper's in size, learns what is easy, and is measured on films that it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_video import save
from jinn.cli import main
from jinn.curation.classifier import MOMENTS, Classifier, ClassifierConfig, seen_frames
from jinn.curation.clip import Clip, Row, read_clip, write_clips
from jinn.curation.learning import choose_confidence, held_out, measure, train_classifier
from jinn.curation.ratings import Rating, add_rating
from jinn.errors import JinnError

TINY = ClassifierConfig(width=4, size_hw=(32, 48))


def test_it_has_as_many_parameters_as_the_papers() -> None:
    with torch.device("meta"):
        classifier = Classifier(ClassifierConfig())
    assert 11.0e6 < sum(parameter.numel() for parameter in classifier.parameters()) < 11.5e6


def test_it_sees_neighbours_from_all_of_a_clip() -> None:
    frames_NTHWC = (
        np.arange(160, dtype=np.uint8)[None, :, None, None, None].repeat(3, 4).repeat(32, 2).repeat(48, 3)
    )
    seen_NTHWC = seen_frames(frames_NTHWC, (32, 48))
    assert seen_NTHWC[0, :, 0, 0, 0].tolist() == [26, 27, 49, 50, 87, 88, 148, 149]
    assert seen_frames(frames_NTHWC[:, :1], (16, 24)).shape == (1, 2 * MOMENTS, 16, 24, 3)


def test_a_saved_classifier_gives_the_same_scores_alone_and_in_a_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Classifier(TINY).with_confidence(0.75)
    classifier.save(tmp_path / "c")
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "classifier.safetensors",
        "config.json",
    ]
    frames_NTHWC = np.random.default_rng(0).integers(0, 256, (3, 5, 40, 60, 3), dtype=np.uint8)
    read = Classifier.load(tmp_path / "c")
    assert read.config.confidence == 0.75
    scores_N = read.score(frames_NTHWC)
    assert (scores_N == classifier.score(frames_NTHWC)).all()
    assert ((scores_N > 0) & (scores_N < 1)).all()
    alone = [float(read.score(frames_NTHWC[n : n + 1])[0]) for n in range(3)]
    assert alone == pytest.approx(scores_N.tolist(), abs=1e-5)
    assert read.score(frames_NTHWC[:0]).shape == (0,)


def test_a_damaged_classifier_is_told(tmp_path: Path) -> None:
    with pytest.raises(JinnError, match="there is no classifier in"):
        Classifier.load(tmp_path)
    Classifier(TINY).save(tmp_path)
    (tmp_path / "config.json").write_text('{"width": 8, "size_hw": [32, 48], "confidence": 0.5}')
    with pytest.raises(JinnError, match="do not fit"):
        Classifier.load(tmp_path)
    (tmp_path / "config.json").write_text('{"width": 0, "size_hw": [32, 48], "confidence": 0.5}')
    with pytest.raises(JinnError, match="a classifier has a width"):
        Classifier.load(tmp_path)


def test_the_confidence_is_the_least_that_gives_the_precision() -> None:
    scores_N, good_N = np.array([0.9, 0.8, 0.7, 0.6, 0.4]), np.array([True, True, False, True, False])
    assert choose_confidence(scores_N, good_N, 1.0) == (0.8, True)
    assert choose_confidence(scores_N, good_N, 0.75) == (0.5, True)
    assert choose_confidence(scores_N, good_N, 0.7) == (0.5, True)
    assert choose_confidence(scores_N[1:], ~good_N[1:], 0.9) == (
        0.7,
        False,
    )  # one of two is the best that there is
    assert choose_confidence(scores_N[:0], good_N[:0], 0.9) == (0.5, False)


def test_films_are_held_out_whole_and_measured_with_the_confidence_of_others() -> None:
    films_N = np.repeat([f"{n}.mp4" for n in range(10)], 4)
    held_N = held_out(films_N)
    assert held_N.sum() == 12
    assert (held_N == held_out(films_N[::-1])[::-1]).all()
    assert len(np.unique(films_N[held_N])) == 3
    good_N = np.tile([True, True, False, False], 10)
    found = measure(np.where(good_N, 0.9, 0.1), good_N, films_N, 0.9, 7, 0)
    assert (found.precision.value, found.recall.low, found.films, found.clips, found.good) == (
        1,
        1,
        10,
        40,
        20,
    )
    # A film whose bad clips look best is no reason to keep fewer of its own: its confidence is that of the others.
    scores_N = np.where(good_N, 0.9, 0.1)
    scores_N[2:4] = 0.95
    found = measure(scores_N, good_N, films_N, 1.0, 7, 0)
    assert not found.reaches
    assert found.precision.low < found.precision.value < found.precision.high


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Clip], list[bool]]:
    """Films of which half of the clips move and half are still."""
    folder, rng, clips, is_good = tmp_path_factory.mktemp("films"), np.random.default_rng(0), [], []
    for number in range(8):
        pictures = []
        for part in range(4):
            base = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            for t in range(10):
                pictures.append(np.roll(base, 5 * t * (part % 2), axis=1))
            clips.append(Clip(str(folder / f"{number}.mp4"), float(part), 1.0))
            is_good.append(part % 2 == 1)
        save(folder / f"{number}.mp4", pictures, rate=10)
    return clips, is_good


def test_it_learns_whether_clips_move(films: tuple[list[Clip], list[bool]]) -> None:
    shown: list[tuple[str, int, int]] = []
    classifier, held = train_classifier(*films, TINY, epochs=30, show=lambda *values: shown.append(values))
    assert (held.films, held.clips, held.good, held.trained_on) == (2, 8, 4, 24)
    assert held.precision.value >= 0.75
    assert held.recall.value >= 0.75
    assert classifier.config.confidence == held.confidence
    # What was measured is what the classifier says of whole clips.
    films_N, good_N = np.array([Path(clip.file).name for clip in films[0]]), np.array(films[1])
    held_N = held_out(films_N)
    whole_NTHWC = np.stack([read_clip(films[0][n], size_hw=TINY.size_hw) for n in np.flatnonzero(held_N)])
    assert measure(classifier.score(whole_NTHWC), good_N[held_N], films_N[held_N], 0.9, 24, 0) == held
    assert {"reading clips", "training"} == {what for what, _, _ in shown}
    first, again = (train_classifier(*films, TINY, epochs=1)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_too_few_ratings_are_told(films: tuple[list[Clip], list[bool]]) -> None:
    clips, is_good = films
    for chosen in (slice(0, 0), slice(0, 4), slice(1, None, 2)):
        with pytest.raises(JinnError, match="too few clips"):
            train_classifier(clips[chosen], is_good[chosen], TINY)
    with pytest.raises(JinnError, match="the precision is above 0"):
        train_classifier(clips, is_good, TINY, precision=1.5)


def test_the_command_trains(
    films: tuple[list[Clip], list[bool]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="the table of clips needs the extra 'datasets'")
    write_clips(tmp_path, [Row(clip.file, 0, clip.start, clip.seconds, "x") for clip in films[0]])
    for clip, good in zip(*films, strict=True):
        add_rating(tmp_path, Rating(clip.name, "Ann", 5 if good else 1, 0.0))
    add_rating(tmp_path, Rating(films[0][0].name, "Ann", 3, 1.0))
    assert main(["rate", str(tmp_path), "--train", "--width", "2", "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "32 clips are rated: 16 are good, 15 bad, and 1 between" in said
    assert "with 95% intervals over films" in said
    assert Classifier.load(tmp_path / "classifier").config.width == 2
