"""A published page in Firefox: it plays, and a session from Chromium plays with exactly the same frames."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firefox import opened
from helpers_browser import download, single_steps, until

pytestmark = pytest.mark.slow
pytest_plugins = ["helpers_browser", "helpers_publish"]

STATE = "{frames: jinn.frames, error: jinn.error, note: jinn.note, step: jinn.tape.step, text: document.body.innerText}"


def test_firefox_plays_a_session_from_chromium(browser: Any, published: str) -> None:
    page = browser.new_page()
    page.goto(published)
    until(page, "window.jinn?.frames >= 1")
    single_steps(page, "1122334455" * 2)
    session = download(page, "#save").decode()
    page.close()
    with opened(published) as fox:
        fox.until("(window.jinn?.frames ?? 0) >= 1", "document.body.innerText")
        fox.key("2", down=True)
        fox.until("jinn.frames >= 5 && jinn.action === 1", STATE)
        fox.key("2", down=False)
        drop = """(() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([%s], "s.json", { type: "application/json" }));
            return dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        })()"""
        fox.evaluate(drop % json.dumps(session))
        fox.until("jinn.tape.step === 20 && !jinn.replaying", STATE)
        assert "exactly the same frames" in fox.evaluate("jinn.note")
        assert fox.evaluate("jinn.error") == ""
