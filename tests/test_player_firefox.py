"""The player's page in Firefox: frames advance on the screen, and keys play."""

from __future__ import annotations

import base64
import io

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
        assert page.evaluate("jinn.error") == ""
        page.evaluate("document.getElementById('veil').hidden = true")
        shown = np.array(page.evaluate("[...jinn.shown]"), np.uint8).reshape(32, 32, 3)
        # The corners are round. The painting thread may be slightly later than the page.
        for _ in range(20):
            apart = np.abs(pixels_of_the_screen(page)[2:-2, 2:-2].astype(int) - shown[2:-2, 2:-2]).max()
            if apart <= 2:
                break
        assert apart <= 2
