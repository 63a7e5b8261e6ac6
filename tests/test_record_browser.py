"""The page of `jinn record` in Chromium and in Firefox."""

from __future__ import annotations

from pathlib import Path

import pytest

from browsers import BrowserName, launched, until
from jinn.data.store import FrameStore
from jinn.player.record import Recorder, create_recorder_app
from jinn.player.server import running

pytest.importorskip("envpool", reason="the page of recording is tested with EnvPool")


@pytest.mark.parametrize("name", ["chromium", pytest.param("firefox", marks=pytest.mark.long)])
def test_keys_play_the_environment(tmp_path: Path, name: BrowserName) -> None:
    recorder = Recorder("envpool:CoinrunHard-v0", tmp_path / "s", (64, 64), 0, None)
    errors: list[str] = []
    with running(create_recorder_app(recorder)) as address, launched(name) as browser:
        page = browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.goto(address)
        until(page, "window.jinnRecord?.frames > 3")  # it has an action for doing nothing, so it runs
        page.keyboard.down("ArrowRight")
        page.keyboard.down("ArrowUp")
        before = page.evaluate("jinnRecord.frames")
        until(page, f"jinnRecord.frames > {before + 5}")
        page.keyboard.press("Enter")
        until(page, "jinnRecord.episodes === 1")
        assert "up-right" in page.locator("#keys").inner_text()
        assert page.locator("#name").inner_text() == "envpool:CoinrunHard-v0"
    recorder.close()
    store = FrameStore.open(tmp_path / "s")
    actions_T = store.actions(0, 0, int(store.lengths[0]))
    assert actions_T is not None
    assert {4, 8} <= set(actions_T.tolist())  # stay, and up-right
    assert errors == []
