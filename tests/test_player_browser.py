"""The player's page in a real browser: keys in, pixels out, and no error on its console."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import chromium
from chromium import launched
from jinn.player import create_app, running
from jinn.world.rollout import World
from test_player import tiny_world

REMEMBER_SOCKETS = """
    window.sockets = [];
    window.WebSocket = class extends WebSocket { constructor(url) { super(url); sockets.push(this); } };
"""
PIXELS = "document.getElementById('screen').toDataURL()"

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with running(create_app(world)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[OpenPage]:
    """Opens the page in a context of its own and waits for its first frame; errors fail the test."""
    errors: list[str] = []
    contexts: list[Any] = []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(REMEMBER_SOCKETS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.goto(address)
        until(page, "window.jinn?.frames > 0")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def until(page: Any, condition: str) -> None:
    chromium.until(page, condition, told="JSON.stringify(window.jinn)")


def play(page: Any, key: str, frames: int) -> None:
    """Hold a key until some more frames were drawn."""
    before = page.evaluate("jinn.frames")
    page.keyboard.down(key)
    until(page, f"jinn.frames >= {before + frames}")
    page.keyboard.up(key)


def test_keys_move_the_world(open_page: OpenPage, world: World) -> None:
    page = open_page()
    assert world.name in page.title()
    before = page.evaluate(PIXELS)
    play(page, "1", 3)
    assert page.evaluate(PIXELS) != before
    until(page, "jinn.latencies.length === 1 && jinn.latencies[0] > 0")
    page.keyboard.down("2")
    until(page, "jinn.action === 1")
    assert page.locator(".action").nth(1).get_attribute("aria-pressed") == "true"
    page.keyboard.up("2")
    assert page.locator(".action[aria-pressed=true]").count() == 0


def test_buttons_work_by_pointer_and_by_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    button = page.locator(".action").nth(1)
    button.hover()
    page.mouse.down()
    until(page, "jinn.action === 1")
    assert button.get_attribute("aria-pressed") == "true"
    page.mouse.up()
    assert button.get_attribute("aria-pressed") == "false"
    page.locator(".action").nth(0).focus()
    page.keyboard.down("Space")
    until(page, "jinn.action === 0")
    page.keyboard.up("Space")
    assert page.locator(".action[aria-pressed=true]").count() == 0


def test_buttons_show_where_their_action_goes(open_page: OpenPage, world: World) -> None:
    page = open_page()
    turn = "button => button.querySelector('svg.arrow path')?.getAttribute('transform')"
    turns = page.evaluate(f"[...document.querySelectorAll('.action')].map({turn})")
    assert turns == ["rotate(180.0)", "rotate(0.0)", "rotate(-87.1)", "rotate(45.0)", None]
    assert page.locator(".action svg.arrow").count() == 4  # one action was never taken
    box = page.locator("svg.arrow path").first.bounding_box()
    assert 8 < box["width"] <= 20
    assert page.locator(".action").nth(2).get_attribute("title").endswith("2.0 up, 0.1 right pixels a frame")


def test_pause_and_single_frames(open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("p")
    assert page.locator("#status").inner_text() == "paused"
    page.keyboard.down("1")
    until(page, "jinn.frames === 2")  # one frame, however long the key is down
    page.keyboard.press("p")
    until(page, "jinn.frames > 3")
    page.keyboard.up("1")


def test_reset_and_gallery_begin_again(open_page: OpenPage, world: World) -> None:
    page = open_page()
    first = page.evaluate(PIXELS)
    play(page, "1", 3)
    page.keyboard.press("r")
    until(page, "jinn.action === -1")
    assert page.evaluate(PIXELS) == first
    last = len(world.prompts) - 1
    play(page, "1", 2)
    page.locator("#prompts button").nth(last).click()
    until(page, "jinn.action === -1")
    assert page.locator("#prompts button").nth(last).get_attribute("aria-pressed") == "true"
    play(page, "1", 1)  # the keyboard plays on after a click


def test_own_picture(open_page: OpenPage) -> None:
    page = open_page()
    play(page, "1", 2)
    file = io.BytesIO()
    Image.fromarray(np.full((300, 200, 3), (250, 120, 10), np.uint8)).save(file, "PNG")
    page.locator("#file").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    until(page, "jinn.action === -1")
    own = page.locator("#prompts button[aria-pressed=true]")
    assert own.get_by_alt_text("your picture").count() == 1
    play(page, "1", 1)
    broken = {"name": "b.png", "mimeType": "image/png", "buffer": file.getvalue()[:60]}
    page.locator("#file").set_input_files(broken)
    until(page, "!document.getElementById('trouble').hidden")
    assert "picture" in page.locator("#trouble").inner_text()
    play(page, "1", 1)
    own.click()
    until(page, "jinn.action === -1")
    assert page.locator("#trouble").is_hidden()


def test_two_players_at_once(open_page: OpenPage) -> None:
    one, other = open_page(), open_page()
    one.keyboard.press("p")
    one.keyboard.press("1")
    until(one, "jinn.frames === 2")
    before = one.evaluate(PIXELS)
    play(other, "2", 4)
    other.keyboard.press("r")
    until(other, "jinn.action === -1")
    assert one.evaluate("jinn.frames") == 2
    assert one.evaluate(PIXELS) == before
    one.keyboard.press("p")
    one.keyboard.down("1")
    play(other, "2", 3)
    until(one, "jinn.frames > 4")
    one.keyboard.up("1")


def test_speed_and_running_on_its_own(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#speed").fill("30")
    assert page.locator("#speed-value").inner_text() == "30 fps"
    frames = page.evaluate("jinn.frames")
    page.locator("#auto").set_checked(True)
    until(page, f"jinn.frames > {frames + 3}")
    assert page.locator("#status").inner_text() == "live"


def test_reconnects(open_page: OpenPage) -> None:
    page = open_page()
    page.evaluate("sockets[0].close()")
    until(page, "!jinn.connected")
    until(page, "jinn.connected && jinn.frames > 1")
    play(page, "1", 1)


@pytest.mark.parametrize("viewport", [(390, 664), (664, 390), (320, 568)])
def test_fits_a_phone(open_page: OpenPage, viewport: tuple[int, int]) -> None:
    width, height = viewport
    page = open_page(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for part in ("#screen", ".action >> nth=0"):  # both to be seen without scrolling
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
    page.locator(".action").nth(1).tap()  # the shortest press is still played
    until(page, "jinn.action === 1")
