"""The choice among several worlds, in a real browser."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from browsers import download, tap
from helpers_browser import OpenPage, play, single_steps, until
from helpers_world import make_world
from jinn.errors import JinnError
from jinn.player.api import create_app
from jinn.player.gallery import GalleryWorld
from jinn.player.server import running
from jinn.world.world import World
from tiny_world import tiny_world

pytestmark = pytest.mark.slow
pytest_plugins = ["helpers_browser"]


def refuse() -> World:
    raise JinnError("its file is gone")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    tiny, other = tiny_world(), make_world()
    entries = [
        GalleryWorld(name, world.prompts[0].numpy(), lambda world=world: world)  # type: ignore[misc]
        for name, world in (("tiny", tiny), ("other", other))
    ]
    broken = dataclasses.replace(entries[0], name="broken", load=refuse)
    with running(create_app([*entries, broken], token="sesame")) as address:
        yield f"{address}/?token=sesame"


def current(page: Any) -> str:
    until(page, "document.querySelectorAll('#worlds a').length === 3")
    return page.locator("#worlds [aria-current=page]").inner_text()


def test_another_world_is_chosen_and_played(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    assert current(page) == "tiny"
    assert page.locator("#worlds").get_attribute("aria-label") == "Worlds"
    until(page, "[...document.querySelectorAll('#worlds img')].every((image) => image.naturalWidth === 32)")
    single_steps(page, "1")
    session = download(page, "#save")
    page.locator("#worlds a").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/other/")
    for arrive in (lambda: None, page.reload):  # a reload stays there
        arrive()
        until(page, "window.jinn?.world?.name === 'test' && jinn.frames > 0")
        assert current(page) == "other"
        assert page.url.endswith("/other/")
        play(page, "1", 1)
    page.locator("#file").set_input_files(
        {"name": "s.json", "mimeType": "application/json", "buffer": session}
    )
    until(page, "document.getElementById('note').textContent.includes('of another world')")
    page.go_back()
    page.wait_for_url("**/tiny/")
    until(page, "window.jinn?.world?.name === 'tiny' && jinn.frames > 0")
    assert current(page) == "tiny"


def test_the_choice_fits_a_phone(open_page: OpenPage, address: str) -> None:
    page = open_page(address, viewport={"width": 390, "height": 664}, has_touch=True, is_mobile=True)
    assert current(page) == "tiny"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator(".action").first.bounding_box()
    assert box["y"] + box["height"] <= 664  # the first actions are still on the screen
    tap(page.locator("#worlds a").nth(1))
    page.wait_for_url("**/other/")
    until(page, "window.jinn?.world?.name === 'test' && jinn.frames > 0")


def test_a_world_that_cannot_be_loaded_leaves_the_choice(browser: Any, address: str) -> None:
    page = browser.new_page()  # not `open_page`, for which the server's error is a failure
    page.goto(address.replace("/?", "/broken/?"))
    until(page, "document.getElementById('error').textContent.includes('its file is gone')")
    assert page.locator("#reset").is_hidden()
    assert current(page) == "broken"
    page.locator("#worlds a").first.click()
    page.wait_for_url("**/tiny/")
    until(page, "window.jinn?.world?.name === 'tiny' && jinn.frames > 0")
    page.close()
