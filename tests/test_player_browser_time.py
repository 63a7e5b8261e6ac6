"""The page in a real browser: rewinding, branching, films and sessions, and every way of input."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from browsers import download, tap
from helpers_browser import (
    PIXELS,
    OpenPage,
    begins,
    play,
    rewind,
    single_steps,
    until,
)
from jinn.player import Limits
from jinn.player.api import create_app
from jinn.player.server import running
from jinn.player.text import TextToImage
from jinn.world.world import World

pytestmark = pytest.mark.slow
pytest_plugins = ["helpers_player", "helpers_browser"]


# ---- Rewinding and branches -----------------------------------------------------------------------------


def test_rewinding_and_taking_another_branch(open_page: OpenPage) -> None:
    page = open_page()
    first = single_steps(page, "1234512345")
    rewind(page, 4)
    assert page.evaluate(PIXELS) == first[3]
    assert page.locator("#status").inner_text() == "looking back"
    assert page.locator("#step").inner_text() == "4"
    page.locator("#newest").click()
    assert page.evaluate(PIXELS) == first[-1]
    rewind(page, 4)
    page.keyboard.press("5")  # the branch that was played
    until(page, "jinn.tape.step === 5")
    assert page.evaluate(PIXELS) == first[4]
    rewind(page, 3)
    page.keyboard.press("1")  # another branch
    until(page, "jinn.tape.step === 4")
    assert page.evaluate(PIXELS) != first[3]
    assert page.evaluate("jinn.tape.inputs.slice(1).map((input) => input.action)") == [0, 1, 2, 0]


def test_what_if_and_choosing_a_branch(open_page: OpenPage, world: World) -> None:
    page = open_page()
    single_steps(page, "12")
    page.keyboard.press("/")
    until(page, "document.querySelectorAll('#branches canvas').length > 0")
    assert page.locator("#branches button").count() == world.num_actions
    page.locator("#branches button").nth(3).click()
    until(page, "jinn.tape.step === 8 && !jinn.replaying")
    assert page.evaluate("jinn.tape.inputs.slice(3).every((input) => input.action === 3)")
    assert page.locator("#branches").is_hidden()


def test_the_last_action_is_repeated(open_page: OpenPage) -> None:
    page = open_page()
    single_steps(page, "4.")
    page.locator("#again").click()
    until(page, "jinn.tape.step === 3")
    assert page.evaluate("jinn.tape.inputs.slice(1).map((input) => input.action)") == [3, 3, 3]


# ---- Sessions, videos and screenshots -------------------------------------------------------------------


def test_a_shared_session_replays_identically(open_page: OpenPage) -> None:
    page = open_page()
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(file, "PNG")
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.locator("#file").set_input_files(picture)
    begins(page)
    frames = single_steps(page, "112345")
    page.locator("#sampling summary").click()
    page.locator("#temperature").fill("1.25")
    page.locator("#steps").press("ControlOrMeta+a")
    page.keyboard.type("3")
    page.locator("#doubt").fill("0.8")
    page.locator("#screen").focus()
    frames += single_steps(page, "2233")
    session = download(page, "#save")
    other = open_page()
    other.locator("#file").set_input_files(
        {"name": "s.json", "mimeType": "application/json", "buffer": session}
    )
    until(other, "document.getElementById('note').textContent.includes('exactly the same frames')")
    assert other.evaluate("jinn.tape.step") == 10
    assert other.evaluate(PIXELS) == frames[-1]
    assert other.locator("#temperature").input_value() == "1.25"
    assert other.locator("#doubt").input_value() == "0.8"
    for step in (3, 7):
        rewind(other, step)
        assert other.evaluate(PIXELS) == frames[step - 1]
    for bad in (
        b"{",
        b"[]",
        session.replace(b'"seed":', b'"seed":-'),
        session.replace(b'"action":1', b'"action":77'),
    ):
        other.locator("#file").set_input_files(
            {"name": "s.json", "mimeType": "application/json", "buffer": bad}
        )
        until(other, "document.getElementById('error').textContent")
        assert "session" in other.locator("#error").inner_text()
        play(other, "1", 1)


def test_videos_and_screenshots_are_saved(open_page: OpenPage) -> None:
    page = open_page()
    single_steps(page, "12345")
    picture = Image.open(io.BytesIO(download(page, "#picture")))
    assert picture.size == (512, 512)
    for button in ("#mp4", "#gif"):
        with av.open(io.BytesIO(download(page, button))) as container:
            assert sum(1 for _ in container.decode(video=0)) == 6


# ---- Keyboard, gamepad and touch ------------------------------------------------------------------------


def test_keys_can_be_reassigned(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#keys summary").click()
    page.locator("#bindings button").nth(2).click()
    page.keyboard.press("x")
    page.locator("#screen").focus()
    single_steps(page, "x")
    assert page.evaluate("jinn.action") == 2
    assert "X" in page.locator(".action").nth(2).inner_text()
    page.locator("#usual-keys").click()
    assert "3" in page.locator(".action").nth(2).inner_text()


def test_a_number_that_is_half_typed_changes_nothing(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#auto").set_checked(True)
    page.locator("#sampling summary").click()
    for field, typed in (("steps", "630"), ("steps", "2.5"), ("temperature", "")):
        page.locator(f"#{field}").press("ControlOrMeta+a")
        page.keyboard.press("Delete")
        page.keyboard.type(typed)
        until(page, f"jinn.tape.step > {page.evaluate('jinn.tape.step') + 2}")
        assert page.evaluate(f"jinn.tape.inputs.at(-1).{field} === jinn.world.sampling.{field}")
        assert page.evaluate("jinn.error") == ""


def test_a_gamepad_plays(open_page: OpenPage) -> None:
    page = open_page(pads=True)
    page.evaluate("pads[0].buttons[1].pressed = true")
    until(page, "jinn.action === 1")
    page.evaluate("pads[0].buttons[1].pressed = false")
    until(page, "document.querySelectorAll('.action[aria-pressed=true]').length === 0")
    page.evaluate("pads[0].axes[0] = -1")  # the world's action for left
    until(page, "jinn.action === 0")
    page.evaluate("pads[0].axes[0] = 0")


def test_every_control_has_a_name_and_is_reachable_by_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    for details in ("sampling", "keys"):
        page.locator(f"#{details} summary").click()
    nameless = page.evaluate("""[...document.querySelectorAll('button, input, canvas, a, summary')]
        .filter((part) => part.checkVisibility() && !part.closest('[aria-hidden=true]'))
        .filter((part) => !(part.textContent.trim() || part.ariaLabel || part.labels?.length || part.alt
            || part.getAttribute('aria-labelledby') || part.querySelector('img[alt]')))
        .map((part) => part.outerHTML)""")
    assert nameless == []
    reached = set()
    page.locator(
        "#screen"
    ).focus()  # a browser without a window does not come back to the top from its own buttons
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    parts = "reset pause again what-if auto speed scrub upload draw camera mp4 save open steps temperature doubt seed"
    assert {*parts.split(), "usual-keys", "look-ahead"} <= reached


def test_a_second_player_waits_for_a_slot(open_page: OpenPage, world: World) -> None:
    with running(create_app(world, limits=Limits(players=1))) as address:
        first = open_page(address)
        second = open_page(address, frames=0)
        until(second, "document.getElementById('veil').textContent.includes('number 1 in the queue')")
        first.close()
        until(second, "jinn.frames > 0")


def test_everything_works_by_touch(open_page: OpenPage, text_to_image: TextToImage, world: World) -> None:
    with running(create_app(world, text_to_image=text_to_image)) as address:
        page = open_page(
            address,
            viewport={"width": 390, "height": 844},
            has_touch=True,
            is_mobile=True,
            permissions=["camera"],
        )
        tap(page.locator("#draw"))
        tap(page.locator("#colours button").nth(5))
        tap(page.locator("#tools [value=fill]"))
        tap(page.locator("#paper"))
        box = page.locator("#sketch").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        tap(page.locator("#start-sketch"))
        begins(page)
        sketch = page.evaluate("jinn.tape.prompt.pictures[0]")
        tap(page.locator("#camera"))
        until(page, "document.getElementById('video').videoWidth > 0")
        tap(page.locator("#start-photo"))
        until(page, f"jinn.tape.prompt.pictures[0] !== '{sketch}'")
        page.locator("#text").fill("blue sky")
        frames = page.evaluate("jinn.frames")
        tap(page.locator("#generate"))
        until(page, f"jinn.frames > {frames} && jinn.action === -1")
        tap(page.locator("#pause"))
        for k in (0, 1, 2, 3):
            tap(page.locator(".action").nth(k))
            until(page, f"jinn.tape.step === {k + 1}")
        last = page.evaluate(PIXELS)
        session = download(page, "#save")
        assert len(download(page, "#gif")) > 100
        rewind(page, 2)
        tap(page.locator(".action").nth(4))
        until(page, "jinn.tape.step === 3")
        tap(page.locator("#what-if"))
        until(page, "document.querySelectorAll('#branches canvas').length > 0")
        tap(page.locator("#branches button").nth(1))
        until(page, "jinn.tape.step === 9 && !jinn.replaying")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#file").set_input_files(
            {"name": "s.json", "mimeType": "application/json", "buffer": session}
        )
        until(page, "document.getElementById('note').textContent.includes('exactly the same frames')")
        assert page.evaluate(PIXELS) == last


@pytest.mark.parametrize("viewport", [(390, 664), (664, 390), (320, 568), (1280, 800)])
def test_the_page_fits_a_phone(open_page: OpenPage, viewport: tuple[int, int]) -> None:
    width, height = viewport
    page = open_page(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for part in ("#screen", ".action >> nth=0"):  # both visible without scrolling
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
    tap(page.locator(".action").nth(1))  # the shortest press is still played
    until(page, "jinn.action === 1")
