"""The player's page in a real browser: keys in, pixels out, and first frames of every kind."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
from PIL import Image

from browsers import is_firefox
from helpers_browser import (
    PIXELS,
    OpenPage,
    begins,
    colour_of,
    play,
    rewind,
    single_steps,
    until,
)
from jinn.player.api import create_app
from jinn.player.server import running
from jinn.player.text import TextToImage
from jinn.web.film import encode_film
from jinn.world.keys import Key
from jinn.world.world import World

pytestmark = pytest.mark.slow
pytest_plugins = ["helpers_player", "helpers_browser"]


def test_keys_play_the_world(open_page: OpenPage, world: World) -> None:
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


def test_buttons_show_the_direction_of_their_action(open_page: OpenPage, world: World) -> None:
    page = open_page()
    turn = "button => button.querySelector('svg.arrow path')?.getAttribute('transform')"
    turns = page.evaluate(f"[...document.querySelectorAll('.action')].map({turn})")
    assert turns == ["rotate(180.0)", "rotate(0.0)", "rotate(-87.1)", "rotate(45.0)", None]
    assert page.locator(".action svg.arrow").count() == 4  # one action never occurs
    box = page.locator("svg.arrow path").first.bounding_box()
    most = 21 if is_firefox(page) else 20  # Firefox measures around the turned shape
    assert 8 < box["width"] <= most
    assert page.locator(".action").nth(2).get_attribute("title").endswith("2.0 up, 0.1 right pixels a frame")


def test_a_taught_world_is_played_by_its_keys(open_page: OpenPage, world: World) -> None:
    taught = copy.copy(world)
    games = ("stay", 4), ("left", 2), ("up-left", 3), ("Q", 2)
    taught.keys = [Key(name, latent, 9, 1.0, 0.0) for name, latent in games]
    with running(create_app(taught)) as address:
        page = open_page(address)
        labels = page.evaluate(
            "[...document.querySelectorAll('.action span:first-child')].map((x) => x.textContent)"
        )
        assert labels == [name for name, _ in games]
        assert page.evaluate("jinn.world.idle") == 4
        for keys, pressed, action in (
            ("4", 3, 2),
            ("2", 1, 2),
            ("ArrowLeft", 1, 2),
            ("ArrowLeft ArrowUp", 2, 3),
        ):
            for key in keys.split():
                page.keyboard.down(key)
            until(page, f"jinn.action === {action}")
            down = "[...document.querySelectorAll('.action')].map((x) => x.ariaPressed === 'true')"
            assert page.evaluate(down) == [k == pressed for k in range(4)]
            for key in keys.split():
                page.keyboard.up(key)
            until(page, "jinn.action === 4")  # nothing is held
        page.keyboard.press("/")
        painted = "canvas => canvas.getContext('2d').getImageData(0, 0, 1, 1).data[3] === 255"
        films = "[...document.querySelectorAll('#branches canvas')]"
        until(page, f"{films}.length === 4 && {films}.every({painted})")  # no frame is on its way any more
        step = page.evaluate("jinn.tape.step")
        page.locator("#branches button").nth(3).click()
        until(page, f"jinn.tape.step === {step + 6} && !jinn.replaying")
        assert page.evaluate("jinn.tape.inputs.at(-1).action") == 2


def test_pause_and_single_frames(open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("p")
    assert page.locator("#status").inner_text() == "paused"
    page.keyboard.down("1")
    until(page, "jinn.frames === 2")  # one frame, for any time that the key is down
    page.keyboard.press("p")
    until(page, "jinn.frames > 3")
    page.keyboard.up("1")


def test_reset_and_gallery_start_a_new_roll_out(open_page: OpenPage, world: World) -> None:
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


def test_an_uploaded_picture_becomes_the_first_frame(open_page: OpenPage) -> None:
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
    large = np.random.default_rng(0).bytes(page.evaluate("jinn.world.max_upload_bytes") + 1)
    for damaged, told in ((file.getvalue()[:60], "picture"), (large, "more than 4 MB")):
        broken = {"name": "b.png", "mimeType": "image/png", "buffer": damaged}
        page.locator("#file").set_input_files(broken)
        until(page, f"document.getElementById('error').textContent.includes('{told}')")
        assert page.locator("#seed").input_value() == str(page.evaluate("jinn.tape.seed"))  # what plays
        play(page, "1", 1)
        assert page.locator("#error").is_hidden()
    own.click()
    until(page, "jinn.action === -1")


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


def test_speed_and_continuous_play(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#speed").fill("30")
    assert page.locator("#speed-value").inner_text() == "30 fps"
    frames = page.evaluate("jinn.frames")
    page.locator("#auto").set_checked(True)
    until(page, f"jinn.frames > {frames + 3}")
    assert page.locator("#status").inner_text() == "live"


def test_the_screen_shows_the_frame(open_page: OpenPage, world: World) -> None:
    page = open_page()
    page.keyboard.press("p")
    for step in (lambda: single_steps(page, "12"), lambda: rewind(page, 1)):
        step()
        page.evaluate("document.getElementById('veil').hidden = true")
        page.wait_for_timeout(300)
        seen = Image.open(io.BytesIO(page.locator("#screen").screenshot())).convert("RGB")
        height, width = world.size_hw
        scale = seen.width // width
        pixels_HWC = np.array(page.evaluate("[...jinn.shown]"), np.uint8).reshape(height, width, 3)
        middles = np.array(seen)[scale // 2 :: scale, scale // 2 :: scale]
        # The corners are round.
        assert np.abs(middles[2:-2, 2:-2].astype(int) - pixels_HWC[2:-2, 2:-2]).max() <= 2


# ---- First frames ---------------------------------------------------------------------------------------


def test_a_sketch_becomes_the_first_frame(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#draw").click()
    page.locator("#colours button").nth(3).click()
    colour = page.locator("#colours button").nth(3).get_attribute("title")
    page.locator("#tools [value=fill]").check()
    box = page.locator("#paper").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*middle)
    assert page.locator("#undo").is_enabled()
    page.locator("#tools [value=eraser]").check()
    page.locator("#sizes button").last.click()
    page.mouse.move(box["x"] + 20, middle[1])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, middle[1], steps=5)
    page.mouse.up()
    page.keyboard.press("r")  # the pad is open: no key plays
    page.locator("#undo").click()
    page.locator("#start-sketch").click()
    begins(page)
    assert colour_of(page, "preprocessed") == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    play(page, "1", 2)


def test_a_brush_draws_lines(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#draw").click()
    white = colour_of(page, "paper")
    box = page.locator("#paper").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 200, steps=4)
    page.mouse.up()
    drawn = colour_of(page, "paper")
    assert sum(drawn) < sum(white)
    page.locator("#copy").click()
    assert colour_of(page, "paper") != drawn
    page.locator("#undo").click()
    assert colour_of(page, "paper") == drawn
    page.locator("#clear").click()
    assert colour_of(page, "paper") == white
    page.locator("#sketch [data-close]").click()
    play(page, "1", 1)


def test_a_camera_gives_a_first_frame(open_page: OpenPage) -> None:
    page = open_page(permissions=["camera"])
    page.locator("#camera").click()
    until(page, "document.getElementById('video').videoWidth > 0")
    page.locator("#start-photo").click()
    begins(page)
    until(page, "document.getElementById('video').srcObject === null")  # the camera is off
    play(page, "1", 1)


def test_several_pictures_are_a_clip(open_page: OpenPage) -> None:
    page = open_page()
    names = ["frame 10.png", "frame 2.png", "frame 1.png"]
    files = []
    for name in names:
        file = io.BytesIO()
        shade = 20 * int(name.split()[1].split(".")[0])
        Image.fromarray(np.full((64, 64, 3), shade, np.uint8)).save(file, "PNG")
        files.append({"name": name, "mimeType": "image/png", "buffer": file.getvalue()})
    page.locator("#file").set_input_files(files)
    begins(page)
    assert page.evaluate("jinn.tape.prompt.pictures.length") == 3
    assert colour_of(page, "preprocessed") == [200, 200, 200]  # the last one is the newest
    play(page, "1", 1)


def test_the_last_frames_of_a_video_are_a_clip(open_page: OpenPage, world: World) -> None:
    height, width = world.size_hw
    frames_THWC = np.stack([np.full((height, width, 3), 6 * t, np.uint8) for t in range(40)])
    page = open_page()
    data = encode_film(frames_THWC, world.fps, "mp4")
    if not page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=avc1.42E01E')"):
        pytest.skip("this browser plays no H.264")
    page.locator("#file").set_input_files({"name": "a.mp4", "mimeType": "video/mp4", "buffer": data})
    begins(page)
    window = page.evaluate("jinn.world.window")
    assert page.evaluate("jinn.tape.prompt.pictures.length") == window
    assert colour_of(page, "preprocessed")[0] > 6 * (40 - window)


def test_a_text_becomes_the_first_frame_if_the_server_has_a_model(
    open_page: OpenPage, world: World, text_to_image: TextToImage
) -> None:
    page = open_page()  # from a server without a text model: there is no box, and the settings explain it
    assert page.locator("#text").is_hidden()
    page.locator("#sampling summary").click()
    assert "--text" in page.locator("#text-why-not").inner_text()
    with running(create_app(world, text_to_image=text_to_image)) as address:
        page = open_page(address)
        page.locator("#text").fill("a dark cave")
        page.locator("#generate").click()
        begins(page)
        assert page.locator("#text-why-not").is_hidden()
        page.locator("#screen").focus()
        play(page, "1", 1)
