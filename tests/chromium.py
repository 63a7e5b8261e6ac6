"""A headless Chromium for tests of pages. Where there is none, a module that imports this one skips."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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
PATIENCE = 30_000  # milliseconds until a missing result counts as a failure and not as a slow machine

if CHROMIUM is None:
    SKIPPED = "A PAGE IS NOT TESTED: no chromium, chromium-browser or google-chrome is installed"
    warnings.warn(SKIPPED, stacklevel=1)
    pytest.skip(SKIPPED, allow_module_level=True)


@contextmanager
def launched() -> Iterator[Any]:
    """A browser, closed at the end."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


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
