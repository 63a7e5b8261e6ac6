"""The page in a real browser while its connection is lost, silent or refused, and while something in it fails."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from browsers import download
from helpers_browser import PIXELS, OpenPage, cable, rewind, single_steps, until
from jinn.player import Limits
from jinn.player.api import STATIC, create_app
from jinn.player.server import running
from jinn.world.world import World

pytestmark = pytest.mark.slow
pytest_plugins = ["helpers_player", "helpers_browser"]

PLAYS_ON = "jinn.connected && !jinn.recovering && jinn.jump === null"
VEIL = "document.getElementById('veil').textContent"


@pytest.fixture
def quiet_page(open_page: OpenPage, browser: Any) -> OpenPage:
    """Opens a page whose browser may complain of connections that fail."""

    def quiet_page(at: str) -> Any:
        page = browser.new_page()
        page.goto(at)
        until(page, "window.jinn?.frames > 0")
        return page

    return quiet_page


def replays(page: Any, other: Any) -> None:
    """The session that a page saves leads to its newest frame in another page."""
    session = {"name": "s.json", "mimeType": "application/json", "buffer": download(page, "#save")}
    other.locator("#file").set_input_files(session)
    until(other, "document.getElementById('note').textContent.includes('exactly the same frames')")
    assert other.evaluate("jinn.tape.step") == page.evaluate("jinn.tape.step")
    assert other.evaluate("jinn.tape.frames.at(-1).join()") == page.evaluate("jinn.tape.frames.at(-1).join()")


def test_a_lost_connection_is_resumed(quiet_page: OpenPage, open_page: OpenPage, address: str) -> None:
    with cable(address) as wire:
        page = quiet_page(wire.address)
        frames = single_steps(page, "1234")
        wire.mute()
        page.keyboard.press("3")  # its frame is lost on the way
        page.wait_for_timeout(300)
        wire.cut()
        until(page, "!jinn.connected")
        assert "Reconnecting" in page.locator("#veil").inner_text()
        until(page, PLAYS_ON)
        until(page, "jinn.frames > 5")
        assert page.evaluate("jinn.tape.step") == 4  # what was seen
        assert page.evaluate(PIXELS) == frames[-1]
        single_steps(page, "12")
        replays(page, open_page())
        page.close()


def test_a_session_survives_silence_and_a_new_server(
    quiet_page: OpenPage, open_page: OpenPage, address: str, world: World
) -> None:
    with running(create_app(world)) as second, cable(address) as wire:
        page = quiet_page(wire.address)
        frames = single_steps(page, "123412")
        wire.mute()  # and no end of the connection is ever told
        until(page, "!jinn.connected")
        until(page, PLAYS_ON)
        until(page, "jinn.tape.step === 6")
        assert page.evaluate(PIXELS) == frames[-1]
        frames += single_steps(page, "34")
        rewind(page, 5)
        seen = page.evaluate("jinn.frames")
        wire.server = second  # which has never heard of the session
        wire.cut()
        until(page, "!jinn.connected")
        until(page, f"{PLAYS_ON} && jinn.frames === {seen + 9}")
        assert page.evaluate(PIXELS) == frames[-1]
        assert page.evaluate("jinn.note") == ""
        single_steps(page, "1")
        replays(page, open_page())
        wire.server = None
        wire.cut()
        until(page, "!jinn.connected")
        page.locator("#prompts button").nth(2).click()
        wire.server = address
        until(page, f"{PLAYS_ON} && jinn.tape.step === 0")
        assert page.evaluate("jinn.tape.prompt.index") == 2
        page.close()


def test_who_does_not_play_is_told_and_plays_on(open_page: OpenPage, world: World) -> None:
    with running(create_app(world, limits=Limits(idle_seconds=1.0))) as address:
        page = open_page(address)
        last = single_steps(page, "123")[-1]
        for button, step in (("#play-on", 3), ("#reset", 0)):
            until(page, "jinn.ended")
            assert "have not played" in page.locator("#veil").inner_text()
            assert page.locator("#error").is_hidden()
            page.locator(button).click()
            until(page, f"{PLAYS_ON} && jinn.tape.step === {step}")
            if step:
                assert page.evaluate(PIXELS) == last
            assert page.locator("#play-on").is_hidden()


class _NoSockets:
    """A proxy that knows no WebSockets."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            return await send({"type": "websocket.close"})
        await self.app(scope, receive, send)


def test_why_there_is_no_connection_is_said(quiet_page: OpenPage, world: World) -> None:
    proxied = create_app(world)
    proxied.user_middleware.insert(0, Middleware(_NoSockets))
    with ExitStack() as stack:
        first, other, third = (
            stack.enter_context(running(app))
            for app in (create_app(world, token="old"), create_app(world, token="new"), proxied)
        )
        wire = stack.enter_context(cable(first))
        page = quiet_page(f"{wire.address}/?token=old")
        for server, told in ((other, "token"), (third, "proxy")):
            wire.server = server
            wire.cut()
            until(page, f"{VEIL}.includes('{told}')")
            page.locator("#reset").click()
            assert told in page.locator("#veil").inner_text()
        page.close()


# ---- Looking back while frames come ---------------------------------------------------------------------


def test_looking_back_while_the_world_plays(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#speed").fill("30")
    page.locator("#auto").set_checked(True)
    for _ in range(4):
        until(page, "jinn.tape.step > 8")
        step = page.evaluate("jinn.tape.step >> 1")
        rewind(page, step)
        page.wait_for_timeout(150)
        assert page.evaluate("jinn.viewing") == step
        assert page.evaluate("jinn.shown === jinn.tape.frames[jinn.viewing]")
        assert page.locator("#status").inner_text() == "looking back"
        frames = page.evaluate("jinn.frames")
        page.locator("#newest").click()
        until(page, f"jinn.frames > {frames + 2}")
    rewind(page, 3)
    page.locator("#reset").click()  # it plays on
    until(page, "jinn.viewing === null && jinn.tape.step > 4")
    page.locator("#auto").set_checked(False)
    replays(page, open_page())


# ---- Failures -------------------------------------------------------------------------------------------


def test_exceptions_are_told(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    until(page, "window.jinn?.frames > 0")
    page.evaluate("setTimeout(() => Promise.reject(new Error('a promise')))")
    until(page, "document.getElementById('error').textContent.includes('a promise')")
    page.close()
    page = browser.new_page()
    broken = (
        (STATIC / "stage.js").read_text().replace("if (!held) paint", "throw new Error('no paint'); paint")
    )
    script = {"content_type": "text/javascript", "body": broken}
    page.context.route("**/static/stage.js", lambda route: route.fulfill(**script))
    page.goto(address)
    until(page, "document.getElementById('error').textContent.includes('no paint')")
    assert page.locator("#status").inner_text() == "not loaded"
    page.close()
