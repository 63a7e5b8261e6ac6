"""A published page in Chromium and in Firefox: it plays without a server, offline, and says what is wrong."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from browsers import download, is_firefox
from helpers_browser import PIXELS, OpenPage, begins, play, rewind, single_steps, until
from helpers_publish import FOLDER, hosted
from jinn.data.images import crop_resize

pytestmark = pytest.mark.slow
pytest_plugins = ["helpers_browser", "helpers_publish"]


@pytest.fixture
def address(published: str) -> str:
    return published


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def upload(page: Any, name: str, kind: str, data: bytes) -> None:
    page.locator("#file").set_input_files({"name": name, "mimeType": kind, "buffer": data})


def png(pixels_HWC: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_HWC).save(file, "PNG")
    return file.getvalue()


def test_no_request_leaves_the_folder(browser: Any, published: str) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(published)
    until(page, "window.jinn?.frames >= 1")
    play(page, "1", 2)
    page.close()
    assert len(asked) > 20
    assert [url for url in asked if not url.startswith((published, "blob:", "data:"))] == []


def test_what_a_published_page_cannot_do_is_said(open_page: OpenPage) -> None:
    page = open_page()
    assert page.title() == "A tiny world"
    assert page.locator("#words").is_hidden()
    page.locator("#sampling summary").click()
    assert "jinn play --text" in page.locator("#text-why-not").inner_text()
    assert page.locator("#steps").is_disabled()
    assert page.locator("#doubt").is_enabled()


def test_frames_are_computed_ahead_and_are_the_same(open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("p")
    frames: list[str] = []
    while not (frames and page.evaluate("jinn.ready.at(-1)")):
        assert len(frames) < 12, "no frame was ever computed ahead"
        page.wait_for_timeout(
            300 * len(frames)
        )  # time to think: the thread computes what each key would lead to
        frames += single_steps(page, "2")
    page.locator("#sampling summary").click()
    page.locator("#look-ahead").set_checked(False)
    page.locator("#keep-seed").set_checked(True)
    page.keyboard.press("r")
    until(page, "jinn.tape.step === 0")
    assert single_steps(page, "2" * len(frames)) == frames
    assert not page.evaluate(f"jinn.ready.slice(-{len(frames)}).some(Boolean)")


def test_a_picture_and_a_session_of_it(open_page: OpenPage) -> None:
    page = open_page()
    own_HWC = picture(50, 70)
    upload(page, "a.png", "image/png", png(own_HWC))
    begins(page)
    taken = np.array(page.evaluate("[...jinn.preprocessed[0]]")).reshape(32, 32, 3)
    np.testing.assert_array_equal(taken, crop_resize(own_HWC[None], (32, 32))[0])
    frames = single_steps(page, "112345")
    page.locator("#sampling summary").click()
    page.locator("#doubt").fill("0.8")
    page.locator("#screen").focus()
    frames += single_steps(page, "2233")
    session = download(page, "#save")
    other = open_page()
    upload(other, "s.json", "application/json", session)
    until(other, "document.getElementById('note').textContent.includes('exactly the same frames')")
    assert other.evaluate(PIXELS) == frames[-1]
    rewind(other, 3)
    assert other.evaluate(PIXELS) == frames[2]
    for old, new, told in (
        (b'"steps":', b'"steps":1', "jinn play"),
        (b"-web", b"-onnx-int8", "rounded differently"),
    ):
        upload(other, "s.json", "application/json", session.replace(old, new))
        until(other, f"document.body.innerText.includes('{told}')")
        until(
            other, "jinn.opened === null && !jinn.replaying"
        )  # its first frame would take back the next error


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_that_was_cut_off_is_refused(open_page: OpenPage, kind: str) -> None:
    page = open_page()
    file = io.BytesIO()
    Image.fromarray(picture(50, 70)).save(file, kind)
    upload(page, "a", f"image/{kind}", file.getvalue()[: len(file.getvalue()) * 3 // 4])
    until(page, "document.getElementById('error').textContent.includes('cannot be read')")
    upload(page, "a", f"image/{kind}", file.getvalue())
    begins(page)
    assert page.locator("#error").is_hidden()


def test_films_are_made_in_the_page(open_page: OpenPage) -> None:
    page = open_page()
    single_steps(page, "12345")
    assert Image.open(io.BytesIO(download(page, "#picture"))).size == (512, 512)
    film = Image.open(io.BytesIO(download(page, "#gif")))
    assert (film.n_frames, film.size) == (6, (320, 320))
    kind = page.evaluate("document.getElementById('mp4').textContent")
    assert kind in ("Film, mp4", "Film, webm")
    with av.open(io.BytesIO(download(page, "#mp4"))) as container:
        shapes = {(frame.width, frame.height) for frame in container.decode(video=0)}
    assert shapes == {(512, 512)}


def test_it_plays_offline_after_the_first_visit(browser: Any, published: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(published)
    until(page, "window.jinn?.frames >= 1")
    assert not page.evaluate("crossOriginIsolated")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    until(page, "navigator.serviceWorker.controller !== null")
    single = single_steps(page, "123")[-1]
    session = download(page, "#save")
    context.set_offline(True)
    page.reload()
    until(page, "window.jinn?.frames >= 1")
    assert page.evaluate("crossOriginIsolated")  # and so it may use threads, which change nothing
    upload(page, "s.json", "application/json", session)
    until(page, "document.getElementById('note').textContent.includes('exactly the same frames')")
    assert page.evaluate(PIXELS) == single
    context.close()


# ---- What can go wrong ----------------------------------------------------------------------------------


@pytest.fixture
def fails(browser: Any, site: Path, tmp_path: Path) -> Callable[..., str]:
    """Opens a damaged copy of the site and returns the sentence of its page."""

    def fails(damage: Callable[[Path], None] = lambda _: None, script: str = "") -> str:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(site, tmp_path / "copy")
        damage(tmp_path / "copy" / FOLDER)
        context = browser.new_context()
        page = context.new_page()
        page.add_init_script(script)
        with hosted(tmp_path / "copy") as host:
            page.goto(f"{host}/{FOLDER}/")
            until(page, "document.getElementById('error').textContent !== ''")
            assert page.locator("#status").inner_text() == "not loaded"
            assert page.locator("#veil").is_hidden()
            sentence: str = page.locator("#error").inner_text()
        context.close()
        return sentence

    return fails


def test_what_is_wrong_is_said_in_a_sentence(fails: Callable[..., str]) -> None:
    def cut(site: Path) -> None:
        [pack] = site.glob("model-*.pack")
        pack.write_bytes(pack.read_bytes()[:1000])

    def damage(site: Path) -> None:
        [pack] = site.glob("model-*.pack")
        pack.write_bytes(bytes(len(pack.read_bytes())))

    def remove(site: Path) -> None:
        next(site.glob("ort-*/*.pack")).unlink()

    assert "cut off" in fails(cut)
    assert "damaged" in fails(damage)
    assert "is missing (404)" in fails(remove)
    assert "too old" in fails(script="delete window.DecompressionStream")
    assert "SIMD" in fails(script="WebAssembly.validate = () => false")


def test_a_full_store_is_said_and_the_world_plays(browser: Any, published: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    if is_firefox(page):
        pytest.skip("no protocol tells Firefox how much a site may store")
    client = context.new_cdp_session(page)
    origin = published.partition("/some")[0]
    client.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 1000})
    page.goto(published)
    until(page, "window.jinn?.frames >= 1")
    until(page, "document.getElementById('note').textContent.includes('store is full')")
    context.close()
