"""A session that was played on a published page in Chromium plays in Firefox with exactly the same frames."""

from __future__ import annotations

import json

import pytest

from browsers import download, launched
from helpers_browser import single_steps, until

pytestmark = pytest.mark.long
pytest_plugins = ["helpers_publish"]


def test_firefox_plays_a_session_from_chromium(published: str) -> None:
    with launched("chromium") as browser:
        page = browser.new_page()
        page.goto(published)
        until(page, "window.jinn?.frames >= 1")
        single_steps(page, "1122334455" * 2)
        session = download(page, "#save")
    with launched("firefox") as browser:
        page = browser.new_page()
        page.goto(published)
        until(page, "window.jinn?.frames >= 1")
        drop = """(() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([%s], "s.json", { type: "application/json" }));
            return dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        })()"""
        page.evaluate(drop % json.dumps(session.decode()))
        until(page, "jinn.tape.step === 20 && !jinn.replaying")
        assert "exactly the same frames" in page.evaluate("jinn.note")
        assert page.evaluate("jinn.error") == ""
