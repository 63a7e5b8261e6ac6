"""The player's page in Firefox: frames advance on the screen, and keys play."""

from __future__ import annotations

import base64
import io
import time

import numpy as np
from PIL import Image

from firefox import Page, opened
from jinn.player.api import create_app
from jinn.player.server import running
from tiny_world import tiny_world

STATE = "{frames: jinn.frames, connected: jinn.connected, error: jinn.error, status: document.body.innerText}"


def pixels_of_the_screen(page: Page) -> np.ndarray:
    """The canvas in a screenshot, one value for each pixel of the world."""
    box = page.evaluate("document.getElementById('screen').getBoundingClientRect().toJSON()")
    width = page.evaluate("jinn.world.width")
    image = Image.open(io.BytesIO(base64.b64decode(page.screenshot()))).convert("RGB")
    left, top, scale = round(box["x"]), round(box["y"]), round(box["width"]) // width
    cut = np.array(image)[top : top + width * scale, left : left + width * scale]
    return cut[scale // 2 :: scale, scale // 2 :: scale]


def test_firefox_plays() -> None:
    with running(create_app(tiny_world())) as address, opened(address) as page:
        page.until("(window.jinn?.frames ?? 0) >= 1", "document.body.innerText")
        first = page.evaluate("[...jinn.shown]")
        page.key("2", down=True)
        page.until("jinn.frames >= 5 && jinn.action === 1", STATE)
        page.key("2", down=False)
        page.until("jinn.held.size === 0", STATE)
        page.key("p", down=True)
        page.key("p", down=False)
        step = page.evaluate("jinn.tape.step")
        page.key("1", down=True)
        page.key("1", down=False)
        page.until(f"jinn.tape.step > {step} && jinn.action === 0", STATE)
        assert page.evaluate("jinn.shown.join() !== " + repr(",".join(map(str, first))))
        page.key("p", down=True)
        page.key("p", down=False)
        page.key("2", down=True)
        page.until("jinn.tape.step > 8", STATE)
        page.evaluate("document.getElementById('scrub').value = 4")
        page.evaluate("document.getElementById('scrub').dispatchEvent(new Event('input'))")
        time.sleep(0.2)  # a frame that was on its way changes nothing
        assert page.evaluate("[jinn.viewing, jinn.shown === jinn.tape.frames[4]]") == [4, True]
        frames = page.evaluate("jinn.frames")
        page.evaluate("document.getElementById('newest').click()")
        page.until(f"jinn.frames > {frames + 2}", STATE)  # the key is still down
        page.key("2", down=False)
        page.until("jinn.held.size === 0", STATE)
        assert page.evaluate("jinn.error") == ""
        page.evaluate("document.getElementById('veil').hidden = true")
        shown = np.array(page.evaluate("[...jinn.shown]"), np.uint8).reshape(32, 32, 3)
        # The corners are round. The painting thread may be slightly later than the page.
        for _ in range(20):
            apart = np.abs(pixels_of_the_screen(page)[2:-2, 2:-2].astype(int) - shown[2:-2, 2:-2]).max()
            if apart <= 2:
                break
        assert apart <= 2


def test_the_page_fits_phones_in_firefox() -> None:
    """Screen and first key are visible without scrolling, upright and in landscape, and a key plays."""
    with running(create_app(tiny_world())) as address, opened(address) as page:
        for width, height in (390, 664), (664, 390), (320, 568), (1280, 800):
            page.command(
                "browsingContext.setViewport",
                context=page.context,
                viewport={"width": width, "height": height},
            )
            page.open(address)
            page.until("(window.jinn?.frames ?? 0) >= 1", "document.body.innerText")
            assert page.evaluate("[innerWidth, innerHeight]") == [width, height]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for part in ("#screen", ".action"):
                box = page.evaluate(f"document.querySelector('{part}').getBoundingClientRect().toJSON()")
                assert min(box["left"], box["top"]) >= 0
                assert box["right"] <= width
                assert box["bottom"] <= height
            page.key("2", down=True)
            page.until("jinn.action === 1", STATE)
            page.key("2", down=False)
