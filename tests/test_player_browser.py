"""The player's page in a real browser: keys in, pixels out, and no error on its console."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from PIL import Image

import chromium
from chromium import launched
from jinn.player import Limits, create_app, running
from jinn.player.film import encode_film
from jinn.player.text import TextToImage
from jinn.world.world import World
from tiny_pipeline import save_pipeline
from tiny_world import tiny_world

pytestmark = pytest.mark.slow

GAMEPAD = """
    window.pads = [{index: 0, axes: [0, 0], buttons: Array.from({length: 16}, () => ({pressed: false}))}];
    navigator.getGamepads = () => pads;
"""
PIXELS = "[...jinn.shown].join()"

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


@pytest.fixture(scope="module")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextToImage]:
    text_to_image = TextToImage(str(save_pipeline(tmp_path_factory.mktemp("text"))), (32, 32), "cpu", steps=1)
    yield text_to_image
    text_to_image.close()


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[OpenPage]:
    """Opens the page in a context of its own and waits for its first frame; errors fail the test."""
    errors: list[str] = []
    contexts: list[Any] = []

    def open_page(at: str = address, frames: int = 1, pads: bool = False, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(GAMEPAD if pads else "")
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.goto(at)
        until(page, f"window.jinn?.frames >= {frames}")
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
    until(page, "!document.getElementById('error').hidden")
    assert "picture" in page.locator("#error").inner_text()
    play(page, "1", 1)
    own.click()
    until(page, "jinn.action === -1")
    assert page.locator("#error").is_hidden()


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


@contextmanager
def cable(address: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A second address of a server, and what cuts all connections through it."""
    ends: list[socket.socket] = []

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        cut((source, target))

    def cut(some: Iterable[socket.socket]) -> None:
        for end in some:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def listen() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((urlsplit(address).hostname, urlsplit(address).port))
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", lambda: cut(list(ends))
        cut([listener, *ends])


def test_a_lost_connection_is_found_again(open_page: OpenPage, address: str) -> None:
    with cable(address) as (through, cut):
        page = open_page(through)
        single_steps(page, "1234")
        cut()
        until(page, "!jinn.connected")
        assert "Reconnecting" in page.locator("#veil").inner_text()
        until(page, "jinn.connected && jinn.frames > 5")
        assert page.evaluate("jinn.tape.step") == 4  # where it was
        single_steps(page, "12")
        undisturbed = open_page()
        undisturbed.locator("#sampling summary").click()
        undisturbed.locator("#seed").fill(str(page.evaluate("jinn.tape.seed")))
        undisturbed.locator("#screen").focus()
        undisturbed.keyboard.press("r")
        until(undisturbed, "jinn.frames > 1 && jinn.tape.step === 0")
        single_steps(undisturbed, "123412")
        assert undisturbed.evaluate(PIXELS) == page.evaluate(PIXELS)
        page.close()


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


# ---- Beginnings -----------------------------------------------------------------------------------------


def begins(page: Any) -> None:
    """Wait for a first frame, shown beside what was given."""
    until(page, "jinn.action === -1 && jinn.tape.step === 0 && !document.getElementById('pair').hidden")


def colour_of(page: Any, canvas: str) -> list[int]:
    """The mean colour of a canvas."""
    return page.evaluate(f"""(() => {{
        const canvas = document.getElementById('{canvas}');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const mean = (values) => Math.round(values.reduce((a, b) => a + b) / values.length);
        return [0, 1, 2].map((c) => mean(data.filter((_, i) => i % 4 === c)));
    }})()""")


def test_a_sketch_becomes_a_world(open_page: OpenPage) -> None:
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
    until(page, "document.getElementById('video').srcObject === null")  # its light is off
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


def test_the_end_of_a_video_is_a_clip(open_page: OpenPage, world: World) -> None:
    height, width = world.size_hw
    frames_THWC = np.stack([np.full((height, width, 3), 6 * t, np.uint8) for t in range(40)])
    page = open_page()
    data = encode_film(frames_THWC, world.fps, "mp4")
    if not page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=avc1.42E01E')"):
        pytest.skip("this Chromium plays no H.264")
    page.locator("#file").set_input_files({"name": "a.mp4", "mimeType": "video/mp4", "buffer": data})
    begins(page)
    window = page.evaluate("jinn.world.window")
    assert page.evaluate("jinn.tape.prompt.pictures.length") == window
    assert colour_of(page, "preprocessed")[0] > 6 * (40 - window)


def test_a_text_becomes_a_world(open_page: OpenPage, world: World, text_to_image: TextToImage) -> None:
    page = open_page()  # of a server that draws no texts: the box explains itself
    assert page.locator("#text").is_disabled()
    assert "--text" in page.locator("#text-why-not").inner_text()
    with running(create_app(world, text_to_image=text_to_image)) as address:
        page = open_page(address)
        page.locator("#text").fill("a dark cave")
        page.locator("#generate").click()
        begins(page)
        assert page.locator("#text-why-not").is_hidden()
        page.locator("#screen").focus()
        play(page, "1", 1)


# ---- Time -----------------------------------------------------------------------------------------------


def rewind(page: Any, step: int) -> None:
    scrub = "document.getElementById('scrub')"
    page.evaluate(f"{scrub}.value = {step}; {scrub}.dispatchEvent(new Event('input'))")


def single_steps(page: Any, keys: str) -> list[str]:
    """Pause, play keys one by one, and give the pixels after each."""
    if page.locator("#pause").get_attribute("aria-pressed") != "true":
        page.keyboard.press("p")
    pixels = []
    for key in keys:
        step = page.evaluate("jinn.tape.step")
        page.keyboard.press(key)
        until(page, f"jinn.tape.step === {step + 1}")
        pixels.append(page.evaluate(PIXELS))
    return pixels


def test_rewind_and_take_another_way(open_page: OpenPage) -> None:
    page = open_page()
    first = single_steps(page, "1234512345")
    rewind(page, 4)
    assert page.evaluate(PIXELS) == first[3]
    assert page.locator("#status").inner_text() == "looking back"
    assert page.locator("#step").inner_text() == "4"
    page.locator("#newest").click()
    assert page.evaluate(PIXELS) == first[-1]
    rewind(page, 4)
    page.keyboard.press("5")  # the way that was taken
    until(page, "jinn.tape.step === 5")
    assert page.evaluate(PIXELS) == first[4]
    rewind(page, 3)
    page.keyboard.press("1")  # another
    until(page, "jinn.tape.step === 4")
    assert page.evaluate(PIXELS) != first[3]
    assert page.evaluate("jinn.tape.inputs.slice(1).map((input) => input.action)") == [0, 1, 2, 0]


def test_what_if_and_taking_a_way(open_page: OpenPage, world: World) -> None:
    page = open_page()
    single_steps(page, "12")
    page.keyboard.press("/")
    until(page, "document.querySelectorAll('#branches canvas').length > 0")
    assert page.locator("#branches button").count() == world.num_actions
    page.locator("#branches button").nth(3).click()
    until(page, "jinn.tape.step === 8 && !jinn.replaying")
    assert page.evaluate("jinn.tape.inputs.slice(3).every((input) => input.action === 3)")
    assert page.locator("#branches").is_hidden()


def test_the_last_action_again(open_page: OpenPage) -> None:
    page = open_page()
    single_steps(page, "4.")
    page.locator("#again").click()
    until(page, "jinn.tape.step === 3")
    assert page.evaluate("jinn.tape.inputs.slice(1).map((input) => input.action)") == [3, 3, 3]


# ---- Keeping --------------------------------------------------------------------------------------------


def download(page: Any, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.locator(button).click()
    return Path(waiting.value.path()).read_bytes()


def test_a_session_is_shared_and_comes_out_the_same(open_page: OpenPage) -> None:
    page = open_page()
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(file, "PNG")
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.locator("#file").set_input_files(picture)
    begins(page)
    frames = single_steps(page, "112345")
    page.locator("#sampling summary").click()
    page.locator("#temperature").fill("1.25")
    page.locator("#steps").fill("3")
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
        until(other, "!document.getElementById('error').hidden")
        assert "session" in other.locator("#error").inner_text()
        play(other, "1", 1)


def test_films_and_screenshots(open_page: OpenPage) -> None:
    page = open_page()
    single_steps(page, "12345")
    picture = Image.open(io.BytesIO(download(page, "#picture")))
    assert picture.size == (512, 512)
    for button in ("#mp4", "#gif"):
        with av.open(io.BytesIO(download(page, button))) as container:
            assert sum(1 for _ in container.decode(video=0)) == 6


# ---- Hands ----------------------------------------------------------------------------------------------


def test_keys_of_ones_own(open_page: OpenPage) -> None:
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


def test_a_gamepad_plays(open_page: OpenPage) -> None:
    page = open_page(pads=True)
    page.evaluate("pads[0].buttons[1].pressed = true")
    until(page, "jinn.action === 1")
    page.evaluate("pads[0].buttons[1].pressed = false")
    until(page, "document.querySelectorAll('.action[aria-pressed=true]').length === 0")
    page.evaluate("pads[0].axes[0] = -1")  # the world's left
    until(page, "jinn.action === 0")
    page.evaluate("pads[0].axes[0] = 0")


def test_everything_has_a_name_and_the_keyboard_reaches_it(open_page: OpenPage) -> None:
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
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    parts = (
        "reset pause again what-if auto speed scrub upload draw camera mp4 save open steps temperature seed"
    )
    assert {*parts.split(), "usual-keys", "look-ahead"} <= reached


def test_waiting_for_a_place(open_page: OpenPage, world: World) -> None:
    with running(create_app(world, limits=Limits(players=1))) as address:
        first = open_page(address)
        second = open_page(address, frames=0)
        until(second, "document.getElementById('veil').textContent.includes('number 1 in the queue')")
        first.close()
        until(second, "jinn.frames > 0")


def test_everything_works_with_a_finger(
    open_page: OpenPage, text_to_image: TextToImage, world: World
) -> None:
    with running(create_app(world, text_to_image=text_to_image)) as address:
        page = open_page(
            address,
            viewport={"width": 390, "height": 844},
            has_touch=True,
            is_mobile=True,
            permissions=["camera"],
        )
        page.locator("#draw").tap()
        page.locator("#colours button").nth(5).tap()
        page.locator("#tools [value=fill]").tap()
        page.locator("#paper").tap()
        box = page.locator("#sketch").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        page.locator("#start-sketch").tap()
        begins(page)
        sketch = page.evaluate("jinn.tape.prompt.pictures[0]")
        page.locator("#camera").tap()
        until(page, "document.getElementById('video').videoWidth > 0")
        page.locator("#start-photo").tap()
        until(page, f"jinn.tape.prompt.pictures[0] !== '{sketch}'")
        page.locator("#text").fill("blue sky")
        frames = page.evaluate("jinn.frames")
        page.locator("#generate").tap()
        until(page, f"jinn.frames > {frames} && jinn.action === -1")
        page.locator("#pause").tap()
        for k in (0, 1, 2, 3):
            page.locator(".action").nth(k).tap()
            until(page, f"jinn.tape.step === {k + 1}")
        last = page.evaluate(PIXELS)
        session = download(page, "#save")
        assert len(download(page, "#gif")) > 100
        rewind(page, 2)
        page.locator(".action").nth(4).tap()
        until(page, "jinn.tape.step === 3")
        page.locator("#what-if").tap()
        until(page, "document.querySelectorAll('#branches canvas').length > 0")
        page.locator("#branches button").nth(1).tap()
        until(page, "jinn.tape.step === 9 && !jinn.replaying")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#file").set_input_files(
            {"name": "s.json", "mimeType": "application/json", "buffer": session}
        )
        until(page, "document.getElementById('note').textContent.includes('exactly the same frames')")
        assert page.evaluate(PIXELS) == last


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
