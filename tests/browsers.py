"""Headless Chromium and Firefox for tests of pages. Without Playwright, a module that imports this one skips."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

BrowserName = Literal["chromium", "firefox"]
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
PREFERENCES: dict[str, Any] = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "network.websocket.delay-failed-reconnects": False,  # or a test of lost connections would wait for a minute
}
FINGER = {
    "ui.primaryPointerCapabilities": 1,
    "ui.allPointerCapabilities": 1,
}  # the only pointer, as on a phone
PATIENCE = 30_000  # milliseconds until a missing result counts as a failure and not as a slow machine
FOLDER = tempfile.TemporaryDirectory(prefix="jinn-downloads", ignore_cleanup_errors=True)


@contextmanager
def launched(name: BrowserName = "chromium") -> Iterator[Any]:
    """A browser as Debian has it, closed at the end. Where there is none, the test skips."""
    with playwright.sync_playwright() as driver:
        browser = launch(getattr(driver, name))
        yield browser
        browser.close()


def launch(kind: Any, phone: bool = False) -> Any:
    """Start a browser of a kind; Firefox learns only at its start that it is on a phone."""
    program = next(filter(None, map(shutil.which, PROGRAMS[kind.name])), None)
    if program is None:
        sentence = f"A PAGE IS NOT TESTED: none of {', '.join(PROGRAMS[kind.name])} is installed"
        warnings.warn(sentence, stacklevel=1)
        pytest.skip(sentence)
    if kind.name == "chromium":
        return kind.launch(executable_path=program, args=FLAGS)
    return kind.launch(
        executable_path=program,
        channel="moz-firefox",  # Mozilla's own, by WebDriver BiDi, and not one patched for Playwright
        firefox_user_prefs=PREFERENCES | (FINGER if phone else {}),
        downloads_path=FOLDER.name,
    )


def is_firefox(page: Any) -> bool:
    """Whether a page is one of Firefox."""
    return bool(page.context.browser.browser_type.name == "firefox")


def tap(part: Any) -> None:
    """Touch a part of a page with a finger; in Firefox, which Playwright sends no touches, click on it."""
    if is_firefox(part.page):
        part.click()
    else:
        part.tap()


def download(page: Any, button: str) -> bytes:
    """The file that a button gives."""
    if not is_firefox(page):
        with page.expect_download() as waiting:
            page.locator(button).click()
        return Path(waiting.value.path()).read_bytes()
    folder = Path(FOLDER.name)  # Playwright is told of no download of Firefox's
    before = set(folder.iterdir())
    page.locator(button).click()
    deadline = time.monotonic() + PATIENCE / 1000
    while True:
        new = set(folder.iterdir()) - before
        if new and not any(file.suffix == ".part" or not file.stat().st_size for file in new):
            [file] = new
            return file.read_bytes()
        assert time.monotonic() < deadline, f"{button} gives no file"
        page.wait_for_timeout(50)


def until(page: Any, condition: str, told: str = "") -> None:
    """Wait for a condition. (Playwright's own wait evaluates strings in the page, which our pages forbid.)

    Args:
        page: where.
        condition: an expression that becomes true.
        told: an expression to be shown if it does not.
    """
    for _ in range(PATIENCE // 50):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}; {page.evaluate(told) if told else ''}")
