"""The page of `jinn rate` in both browsers: by keys, by touch on a phone, and without anything from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browsers import is_firefox, tap, until
from helpers_video import numbered, save
from jinn.curation.clip import Row, write_clips
from jinn.curation.rating_page import Room, create_rating_app
from jinn.curation.ratings import latest, read_ratings
from jinn.player.server import running

pytestmark = pytest.mark.slow
pytest_plugins = ["helpers_browser"]
pytest.importorskip("pyarrow", reason="the table of clips needs the extra 'datasets'")

READY = "!document.getElementById('rating').hidden && window.jinnRate"
NAMELESS = """[...document.querySelectorAll('button, input, video, a')]
    .filter((part) => part.checkVisibility() && !(part.textContent.trim() || part.ariaLabel || part.labels?.length))
    .map((part) => part.outerHTML)"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    film = save(tmp_path / "film.mp4", [numbered(n) for n in range(30)], rate=10)
    write_clips(tmp_path, [Row(str(film), 0, start, 1.0, "A film") for start in (0.0, 1.0, 2.0)])
    return tmp_path


def opened(browser: Any, address: str, errors: list[str], **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    ours = (address, "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(ours) or errors.append(request.url))
    page.goto(address)
    return page


def test_clips_are_rated_by_keys(folder: Path, browser: Any) -> None:
    errors: list[str] = []
    with running(create_rating_app(Room(folder))) as address:
        page = opened(browser, address, errors)
        until(page, "!document.getElementById('who').hidden")
        assert page.evaluate(NAMELESS) == []
        page.locator("#name").fill("Ann 1")  # keys in the name rate nothing
        page.keyboard.press("Enter")
        until(page, f"{READY} && jinnRate.shown")
        decodes = "document.createElement('video').canPlayType('video/mp4; codecs=avc1.42E01E')"
        if not is_firefox(page) or page.evaluate(decodes):
            until(page, "document.getElementById('clip').currentTime > 0")
        first = page.evaluate("jinnRate.shown")
        page.keyboard.press("5")
        until(page, f"jinnRate.shown && jinnRate.shown !== '{first}'")
        second = page.evaluate("jinnRate.shown")
        page.keyboard.press(" ")
        until(page, f"jinnRate.shown !== '{second}'")
        page.keyboard.press("1")
        until(page, f"jinnRate.shown === '{second}'")  # what was skipped comes in the end
        page.keyboard.press("Backspace")
        until(page, "jinnRate.given.length === 1")
        third = page.evaluate("jinnRate.shown")
        page.keyboard.press("2")
        until(page, f"jinnRate.shown === '{second}'")
        page.keyboard.press("3")
        until(page, "jinnRate.shown === null")
        assert "You have rated all clips" in page.locator("#status").inner_text()
        assert "3 of 3" in page.locator("#counts").inner_text()
        page.reload()
        until(page, "document.getElementById('name').value === 'Ann 1'")  # once its script has run
    assert latest(read_ratings(folder)) == {first: {"Ann 1": 5}, second: {"Ann 1": 3}, third: {"Ann 1": 2}}
    assert errors == []


def test_clips_are_rated_by_touch(folder: Path, browser: Any) -> None:
    errors: list[str] = []
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with running(create_rating_app(Room(folder, "Bo"))) as address:
        page = opened(browser, address, errors, **phone)
        until(page, f"{READY} && jinnRate.shown")
        clip = page.evaluate("jinnRate.shown")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(NAMELESS) == []
        small = "filter((part) => part.checkVisibility() && part.offsetHeight < 44).length"
        assert page.evaluate(f"[...document.querySelectorAll('button')].{small}") == 0
        tap(page.locator("[data-rating='4']"))
        until(page, f"jinnRate.given.length === 1 && jinnRate.shown !== '{clip}'")
        tap(page.locator("#back"))
        until(page, f"jinnRate.given.length === 0 && jinnRate.shown === '{clip}'")
        tap(page.locator("[data-rating='1']"))
        until(page, "jinnRate.given.length === 1")
        tap(page.locator("#pause"))
        until(page, "document.getElementById('pause').textContent.startsWith('Play')")
    assert latest(read_ratings(folder)) == {clip: {"Bo": 1}}
    assert errors == []
