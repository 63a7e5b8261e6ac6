"""The player's page in both browsers: fixtures and actions of the tests. A module names it in `pytest_plugins`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

import browsers
from browsers import launch, launched
from jinn.player.text import TextToImage
from tiny_pipeline import save_pipeline

GAMEPAD = """
    window.pads = [{index: 0, axes: [0, 0], buttons: Array.from({length: 16}, () => ({pressed: false}))}];
    navigator.getGamepads = () => pads;
"""
PLAYWRIGHTS_OWN = (
    "blocked an inline style"  # what Firefox says of the one that Playwright adds for a screenshot
)
PIXELS = "[...jinn.shown].join()"

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module", params=["chromium", pytest.param("firefox", marks=pytest.mark.long)])
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    with launched(request.param) as browser:
        yield browser


@pytest.fixture(scope="module")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextToImage]:
    text_to_image = TextToImage(str(save_pipeline(tmp_path_factory.mktemp("text"))), "cpu", steps=1)
    yield text_to_image
    text_to_image.close()


@pytest.fixture(scope="module")
def phone(browser: Any) -> Iterator[Callable[[], Any]]:
    """The browser as on a phone, which Firefox has to be started for."""
    started = [] if browser.browser_type.name == "firefox" else [browser]

    def phone() -> Any:
        if not started:
            started.append(launch(browser.browser_type, phone=True))
        return started[0]

    yield phone
    for other in started:
        if other is not browser:
            other.close()


@pytest.fixture
def open_page(browser: Any, phone: Callable[[], Any], address: str) -> Iterator[OpenPage]:
    """Opens the page in its own context and waits for its first frame; errors fail the test."""
    errors: list[str] = []
    contexts: list[Any] = []

    def open_page(at: str = address, frames: int = 1, pads: bool = False, **options: Any) -> Any:
        context = (phone() if options.get("has_touch") else browser).new_context(**options)
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
    errors = [error for error in errors if PLAYWRIGHTS_OWN not in error]
    assert not errors, errors


def until(page: Any, condition: str) -> None:
    browsers.until(page, condition, told="JSON.stringify(window.jinn)")


def play(page: Any, key: str, frames: int) -> None:
    """Hold a key until some more frames are shown."""
    before = page.evaluate("jinn.frames")
    page.keyboard.down(key)
    until(page, f"jinn.frames >= {before + frames}")
    page.keyboard.up(key)


def begins(page: Any) -> None:
    """Wait for a first frame, which is shown beside the upload."""
    until(page, "jinn.action === -1 && jinn.tape.step === 0 && !document.getElementById('pair').hidden")


def colour_of(page: Any, canvas: str) -> list[int]:
    """The mean colour of a canvas."""
    return page.evaluate(f"""(() => {{
        const canvas = document.getElementById('{canvas}');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const mean = (values) => Math.round(values.reduce((a, b) => a + b) / values.length);
        return [0, 1, 2].map((c) => mean(data.filter((_, i) => i % 4 === c)));
    }})()""")


def rewind(page: Any, step: int) -> None:
    scrub = "document.getElementById('scrub')"
    until(page, f"{scrub}.max >= {step}")  # the page shows its figures a few times a second
    page.evaluate(f"{scrub}.value = {step}; {scrub}.dispatchEvent(new Event('input'))")


def single_steps(page: Any, keys: str) -> list[str]:
    """Pause, press keys one by one, and return the pixels after each."""
    if page.locator("#pause").get_attribute("aria-pressed") != "true":
        page.keyboard.press("p")
    pixels = []
    for key in keys:
        step = page.evaluate("jinn.tape.step")
        page.keyboard.press(key)
        until(page, f"jinn.tape.step === {step + 1}")
        pixels.append(page.evaluate(PIXELS))
    return pixels


class Cable:
    """A second address of a server, whose connections can go wrong.

    Attributes:
        address: the second address.
        server: the address of the server that new connections lead to; None: to none.
    """

    def __init__(self, server: str) -> None:
        self.server: str | None = server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.ends: list[socket.socket] = []
        self.muted: set[socket.socket] = set()  # ends from which nothing comes any more
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        """Close all connections."""
        self._close(self.ends)

    def mute(self) -> None:
        """Lose in silence whatever the server sends through the present connections."""
        self.muted.update(self.ends[1::2])

    def _close(self, ends: Iterable[socket.socket]) -> None:
        for end in list(ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source not in self.muted:
                    target.sendall(data)
        self._close((source, target))

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                if self.server is None:
                    near.close()
                    continue
                server = urlsplit(self.server)
                far = socket.create_connection((server.hostname, server.port))
                self.ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()


@contextmanager
def cable(server: str) -> Iterator[Cable]:
    """A `Cable` that is closed at the end."""
    made = Cable(server)
    yield made
    made.cut()
    with suppress(OSError):
        made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()
