"""The page in a real browser for all kinds of people: fingers, small screens, screen readers, first-time players."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from browsers import is_firefox, tap
from helpers_browser import OpenPage, play, single_steps, until
from jinn.player.api import create_app
from jinn.player.server import running
from jinn.world.keys import Key
from jinn.world.world import World

pytestmark = pytest.mark.slow
pytest_plugins = ["helpers_player", "helpers_browser"]

# For each text that is seen: its contrast with what is behind it, as WCAG 2.2 defines it, and the text.
CONTRASTS = """(() => {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const light = (colour) => rgba(colour).slice(0, 3).map((x) => x / 255)
        .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (part) => getComputedStyle(part).backgroundColor;
    const behind = (part) => (!part ? "canvas"
        : rgba(ground(part))[3] > 180 ? ground(part) : behind(part.parentElement));
    return [...document.querySelectorAll("body *")]
        .filter((part) => [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
        .filter((part) => part.checkVisibility() && !part.closest("button:disabled"))
        .map((part) => {
            const [low, high] = [light(getComputedStyle(part).color), light(behind(part))].sort((a, b) => a - b);
            return [(high + 0.05) / (low + 0.05), part.textContent.trim()];
        });
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(open_page: OpenPage, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    page.keyboard.press("p")
    for details in ("sampling", "keys"):
        page.locator(f"#{details} summary").click()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5] == []


def test_a_screen_reader_hears_what_matters(open_page: OpenPage) -> None:
    page = open_page()
    page.evaluate("""
        window.spoken = [];
        const live = "[role=status], [role=alert], [role=log], [aria-live], output";
        for (const part of document.querySelectorAll(live)) {
            new MutationObserver(() => spoken.push(part.textContent))
                .observe(part, { childList: true, characterData: true, subtree: true });
        }
    """)
    for _ in range(2):
        play(page, "1", 8)
    assert page.evaluate("spoken") == []  # neither numbers nor keys
    page.keyboard.press("p")
    assert page.evaluate("spoken") == ["Paused. Each press of a key plays one frame."]
    page.locator("#draw").click()
    names = page.evaluate(
        "[...document.querySelectorAll('#colours button')].map((button) => button.ariaLabel)"
    )
    assert all(name.replace(" ", "").isalpha() for name in names)
    name_of = "import(new URL('static/colours.js', document.baseURI)).then(({ nameOf }) => nameOf('%s'))"
    colours = {"#2a1019": "very dark rose", "#ff0000": "red", "#808080": "grey", "#fefefe": "white"}
    assert {colour: page.evaluate(name_of % colour) for colour in colours} == colours


def test_a_first_time_player_reads_what_it_is(open_page: OpenPage, world: World, tmp_path: Path) -> None:
    shown = copy.copy(world)
    shown.folder = tmp_path
    (tmp_path / "README.md").write_text("---\nx: y\n---\n\n# Tiny\n\nA game\nof *noise*.\n\n- More\n")
    with running(create_app(shown)) as address:
        page = open_page(address)
        assert page.locator("#world-about").inner_text() == "A game of *noise*."
        with page.expect_popup() as opened:
            page.locator("#card").click()
        assert "- More" in opened.value.inner_text("body")
        page.close()  # before its server
    page = open_page()
    assert page.locator("#world-about").is_hidden()
    assert page.locator("#card").is_hidden()
    text = page.evaluate("document.body.textContent")
    for told in ("no goal", "neural network", "your picture becomes", "left to chance"):
        assert told in text
    assert "tokenizer" not in text
    assert "MaskGIT" not in text
    page.keyboard.press("f")
    until(page, "document.fullscreenElement?.id === 'stage'")
    play(page, "1", 2)
    page.keyboard.press("f")
    until(page, "document.fullscreenElement === null")


def test_the_world_plays_by_itself_until_somebody_plays(open_page: OpenPage) -> None:
    """The same seed gives the same frames, at any speed."""
    played: list[list[int]] = []
    for speed in (10, 30):
        page = open_page()
        page.evaluate(f"document.getElementById('speed').value = {speed}")
        page.evaluate("document.getElementById('keep-seed').checked = true")
        page.evaluate("document.getElementById('seed').value = 7")
        page.keyboard.press("r")
        until(page, "jinn.tape.seed === 7 && jinn.tape.step === 0")
        page.keyboard.press("m")
        until(page, "jinn.tape.step >= 30")
        assert page.locator("#status").inner_text() == "plays by itself"
        page.keyboard.press("p")
        assert page.locator("#status").inner_text() == "paused"
        page.keyboard.press("p")
        until(page, "jinn.tape.step >= 40")
        page.keyboard.press("2")
        until(page, "!jinn.pilot && jinn.action === 1")
        played.append(page.evaluate("jinn.tape.inputs.slice(1, 40).map(({ action }) => action)"))
    assert played[0] == played[1]
    assert len(set(played[0])) > 2
    held = [a == b for a, b in pairwise(played[0])]
    assert sum(held) > len(held) / 2


# ---- Fingers --------------------------------------------------------------------------------------------


def touched(page: Any, client: Any, kind: str, *buttons: int) -> None:
    """Fingers go down, move to or (without buttons) leave the buttons."""
    points = []
    for finger, k in enumerate(buttons):
        box = page.locator(".action").nth(k).bounding_box()
        points.append({"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "id": finger})
    client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_fingers_combine_and_slide(open_page: OpenPage, world: World) -> None:
    taught = copy.copy(world)
    games = ("stay", 4), ("left", 2), ("up", 1), ("up-left", 3), ("fire", 0)
    taught.keys = [Key(name, latent, 9, 1.0, 0.0) for name, latent in games]
    with running(create_app(taught)) as address:
        page = open_page(address, viewport={"width": 390, "height": 664}, has_touch=True, is_mobile=True)
        if is_firefox(page):
            pytest.skip("Playwright sends Firefox no touches")
        client = page.context.new_cdp_session(page)
        touched(page, client, "touchStart", 1)
        until(page, "jinn.action === 2")
        touched(page, client, "touchStart", 1, 2)
        until(page, "jinn.action === 3")  # both together
        touched(page, client, "touchMove", 1, 4)
        until(page, "jinn.action === 0")  # what has no direction counts alone
        touched(page, client, "touchMove", 1, 2)
        until(page, "jinn.action === 3")
        touched(page, client, "touchEnd")
        until(page, "jinn.held.size === 0 && jinn.action === 4")
        for key in "23":
            page.keyboard.down(key)
        until(page, "jinn.action === 3")


@pytest.mark.parametrize("viewport", [(320, 640), (640, 320)])
def test_everything_is_in_reach_on_a_small_phone(
    open_page: OpenPage, world: World, viewport: tuple[int, int]
) -> None:
    width, height = viewport
    wide = copy.copy(world)
    wide.keys = [Key(name, k % 5, 9, 1.0, 0.0) for k, name in enumerate("abcdefgh")]
    with running(create_app(wide)) as address:
        page = open_page(address, viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
        parts = "[...document.querySelectorAll('#screen, .action')]"
        boxes = f"{parts}.map((part) => part.getBoundingClientRect().toJSON())"

        def are_seen() -> None:
            found = page.evaluate(boxes)
            assert len(found) == 9
            for box in found:
                assert box["left"] >= 0
                assert box["right"] <= width
                assert box["top"] >= 0
                assert box["bottom"] <= height

        are_seen()
        single_steps(page, "1")
        tap(page.locator("#what-if"))
        until(page, "document.querySelectorAll('#branches canvas').length === 8")
        page.evaluate("scrollTo(0, 0)")  # a click may have scrolled to its button
        are_seen()
        strip = page.locator("#branches").bounding_box()["y"]
        assert max(box["bottom"] for box in page.evaluate(boxes)) <= strip < height - 60
        page.locator("#save").scroll_into_view_if_needed()
        screen = page.locator("#screen").bounding_box()
        assert screen["y"] >= 0
        assert screen["y"] + screen["height"] <= height
