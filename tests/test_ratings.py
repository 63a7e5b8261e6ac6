"""Ratings are never lost, agreement is Krippendorff's, and the page serves only those who may."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers_video import numbered, save
from jinn.cli import main
from jinn.curation.clip import Row, write_clips
from jinn.curation.ratings import (
    RATINGS,
    Rating,
    add_rating,
    agreement,
    labels,
    latest,
    read_ratings,
    waiting,
)
from jinn.errors import JinnError

pytest.importorskip("pyarrow", reason="LOUD: ratings cannot be tested without the extra 'datasets'")
pytest.importorskip("starlette", reason="ratings are tested with the extra 'play'")

from starlette.testclient import TestClient

from jinn.curation.rating_page import MAX_BYTES, Room, create_rating_app


def test_the_last_rating_of_a_person_counts(tmp_path: Path) -> None:
    assert read_ratings(tmp_path) == []
    given = [("a", "Ann", 5), ("a", "Bo", 3), ("b", "Ann", 1), ("a", "Ann", 4), ("b", "Ann", None)]
    ratings = [Rating(*values, time=float(n)) for n, values in enumerate(given)]
    for rating in ratings:
        add_rating(tmp_path, rating)
    assert read_ratings(tmp_path) == ratings
    assert latest(ratings) == {"a": {"Ann": 4, "Bo": 3}}


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    first, last = Rating("a", "Ann", 5, 1.0), Rating("b", "Zoë", 2, 2.0)
    add_rating(tmp_path, first)
    whole = (tmp_path / RATINGS).read_bytes()
    for end in range(len(whole)):  # whenever the process was killed
        (tmp_path / RATINGS).write_bytes(whole + whole[:end])
        add_rating(tmp_path, last)
        # Without its line break the second line is whole as well.
        assert read_ratings(tmp_path) == [first, *[first] * (end == len(whole) - 1), last]


@pytest.mark.parametrize(
    "line", ["7", "[]", "{}", '{"clip": "a", "person": "Ann", "rating": 6, "time": 1.0}']
)
def test_a_line_that_is_no_rating_is_told(tmp_path: Path, line: str) -> None:
    add_rating(tmp_path, Rating("a", "Ann", 5, 1.0))
    with (tmp_path / RATINGS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(JinnError, match=r"line 2 of .* is no rating"):
        read_ratings(tmp_path)


@pytest.mark.parametrize("person", ["", " ", " Ann", "a\nb", "x" * 41])
def test_a_name_is_short_and_printable(person: str) -> None:
    with pytest.raises(JinnError, match="a person's name"):
        Rating("a", person, 1, 0.0)


def test_clips_that_few_have_rated_come_first() -> None:
    by_clip = {"a": {"Ann": 1, "Bo": 1}, "b": {"Bo": 2}, "c": {"Ann": 3}}
    clips = ["a", "b", "c", "d"]
    assert waiting(clips, by_clip, "Ann") == ["d", "b"]
    assert waiting(clips, by_clip, "Cy")[0] == "d"
    assert waiting(clips, by_clip, "Cy")[-1] == "a"
    many = [str(n) for n in range(50)]
    assert waiting(many, {}, "Ann") == waiting(many[::-1], {}, "Ann") != waiting(many, {}, "Bo")


def test_agreement_is_krippendorffs_alpha() -> None:
    """The example of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: 0.815."""
    table = """
        1 2 3 3 2 1 4 1 2 . . .
        1 2 3 3 2 2 4 1 2 5 . 3
        . 3 3 3 2 3 4 2 2 5 1 .
        1 2 3 3 2 4 4 1 2 5 1 .
    """
    rows = [line.split() for line in table.strip().splitlines()]
    by_clip = {
        str(n): {str(person): int(mark) for person, mark in enumerate(marks) if mark != "."}
        for n, marks in enumerate(zip(*rows, strict=True))
    }
    assert agreement(by_clip) == pytest.approx(0.815, abs=5e-4)
    assert agreement({"a": {"Ann": 1, "Bo": 1}, "b": {"Ann": 5, "Bo": 5}}) == 1
    assert agreement({"a": {"Ann": 1, "Bo": 5}, "b": {"Ann": 5, "Bo": 1}}) < 0  # type: ignore[operator]
    assert agreement({"a": {"Ann": 1}, "b": {"Ann": 5}}) is None
    assert agreement({"a": {"Ann": 4, "Bo": 4}}) is None


def test_the_median_over_people_is_the_label() -> None:
    by_clip = {
        "good": {"Ann": 5, "Bo": 5, "Cy": 1},
        "bad": {"Ann": 1},
        "between": {"Ann": 4, "Bo": 5},
        "fair": {"Ann": 3},
    }
    assert labels(by_clip) == {"good": True, "bad": False}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    film = save(tmp_path / "film.mp4", [numbered(n) for n in range(40)], rate=10)
    rows = [Row(str(film), 0, start, 2.0, "A film") for start in (0.0, 2.0)]
    rows += [Row(str(film), 0, 3.0, 1.0, "A film", reason="it is black")]
    write_clips(tmp_path, rows)
    return tmp_path


def test_the_page_keeps_ratings(folder: Path) -> None:
    with TestClient(create_rating_app(Room(folder)), base_url="http://127.0.0.1") as client:
        assert "rate.js" in client.get("/").text
        assert client.get("/api/person").json() == {"person": None}
        first = client.post("/api/next", json={"person": "Ann"}).json()
        assert (first["left"], first["total"], first["rated"], first["agreement"]) == (2, 2, 0, None)
        a, b = first["clips"]
        film = client.get(f"/api/clips/{a}.mp4")
        assert film.headers["content-type"] == "video/mp4"
        assert film.content[4:8] == b"ftyp"
        assert client.get("/api/clips/nothing.mp4").status_code == 404
        for person, rating in (("Ann", 5), ("Ann", 4), ("Bo", 4)):
            assert client.post("/api/ratings", json={"person": person, "clip": a, "rating": rating}).json()[
                "kept"
            ]
        after = client.post("/api/next", json={"person": "Ann"}).json()
        assert (after["clips"], after["yours"], after["people"], after["shared"]) == ([b], 1, 2, 1)
        assert client.post("/api/next", json={"person": "Ann", "skipped": [b]}).json()["clips"] == []
        client.post("/api/ratings", json={"person": "Ann", "clip": a, "rating": None})
        assert client.post("/api/next", json={"person": "Ann"}).json()["left"] == 2
    assert latest(read_ratings(folder)) == {a: {"Bo": 4}}
    assert latest(Room(folder).ratings) == {a: {"Bo": 4}}  # as after a restart


def test_what_is_no_rating_is_refused(folder: Path) -> None:
    room = Room(folder)
    clip = next(iter(room.clips))
    with TestClient(create_rating_app(room), base_url="http://127.0.0.1") as client:
        for values in (
            7, [], {}, {"person": "Ann"}, {"person": "", "clip": clip, "rating": 1},
            *({"person": "Ann", "clip": clip, "rating": rating} for rating in (0, 6, 1.5, True, "1")),
            {"person": "Ann", "clip": "nothing", "rating": 1}, {"person": "Ann", "clip": [clip], "rating": 1},
        ):  # fmt: skip
            answer = client.post("/api/ratings", json=values)
            assert (answer.status_code, list(answer.json())) == (400, ["error"])
        for content in (b"{", b"[" * 5000, b'{"person": "Ann", "skipped": "' + b"a" * MAX_BYTES + b'"}'):
            for path in ("/api/ratings", "/api/next"):
                assert client.post(path, content=content).status_code == 400
        assert client.post("/api/next", json={"person": "Ann", "skipped": [1]}).status_code == 400
        rating = {"person": "Ann", "clip": clip, "rating": 1}
        for headers in ({"Host": "elsewhere.example"}, {"Origin": "http://elsewhere.example"}):
            assert client.post("/api/ratings", json=rating, headers=headers).status_code == 403
    with TestClient(create_rating_app(room, "secret"), base_url="http://127.0.0.1") as client:
        assert client.post("/api/ratings", json=rating).status_code == 403
    assert not (folder / RATINGS).exists()


def test_a_clip_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    write_clips(tmp_path, [Row(str(tmp_path / "gone.mp4"), 0, 0.0, 1.0, "A film")])
    room = Room(tmp_path)
    with TestClient(create_rating_app(room), base_url="http://127.0.0.1") as client:
        answer = client.get(f"/api/clips/{next(iter(room.clips))}.mp4")
        assert (answer.status_code, "cannot be read" in answer.json()["error"]) == (400, True)


def test_a_name_of_the_command_line_stands_for_the_person(folder: Path) -> None:
    room = Room(folder, "Ann")
    room.add({"person": "Bo", "clip": next(iter(room.clips)), "rating": 3})
    assert [rating.person for rating in read_ratings(folder)] == ["Ann"]


def test_mistakes_are_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    for arguments, words in (
        ([str(tmp_path / "none")], "make it with jinn curate"),
        ([str(folder), "--name", " "], "a person's name"),
        ([str(folder), "--train"], "no clip of"),
    ):
        assert main(["rate", *arguments]) == 2
        assert words in capsys.readouterr().err
    for clip in Room(folder).clips:
        add_rating(folder, Rating(clip, "Ann", 5, 0.0))
    assert main(["rate", str(folder), "--train"]) == 2
    assert "rate more as 5 and as 1" in capsys.readouterr().err
    write_clips(folder, [Row("x.mp4", 0, 0.0, 1.0, "x", reason="it is black")])
    assert main(["rate", str(folder)]) == 2
    assert "no clips to rate" in capsys.readouterr().err
