"""A headless Firefox for tests of pages, driven by WebDriver BiDi. Where there is none, the tests skip."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
PATIENCE = 90  # seconds until a missing result counts as a failure and not as a slow machine


@dataclass
class Page:
    """A tab: the commands of WebDriver BiDi that the tests need."""

    socket: ClientConnection
    context: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(timeout=PATIENCE))).get("id") != number:
            pass  # an event
        assert answer["type"] == "success", answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str) -> None:
        """Load a page."""
        [tab] = self.command("browsingContext.getTree")["contexts"]
        self.context = tab["context"]
        self.command("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, sent as JSON."""
        answer = self.command(
            "script.evaluate",
            expression=f"JSON.stringify({expression})",
            target={"context": self.context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]
        return json.loads(answer["result"].get("value", "null"))

    def until(self, condition: str, report: str) -> None:
        """Wait for a condition; ``report`` is an expression to show if it never comes true."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"never came true: {condition}; {self.evaluate(report)}"
            time.sleep(0.05)

    def key(self, value: str, down: bool) -> None:
        """A key goes down or up."""
        action = {"type": "keyDown" if down else "keyUp", "value": value}
        keyboard = {"type": "key", "id": "keyboard", "actions": [action]}
        self.command("input.performActions", context=self.context, actions=[keyboard])

    def screenshot(self) -> str:
        """A screenshot as a PNG in base64."""
        data: str = self.command("browsingContext.captureScreenshot", context=self.context)["data"]
        return data


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """A page in a browser with its own profile."""
    if FIREFOX is None:
        sentence = "A PAGE IS NOT TESTED: no firefox-esr or firefox is installed"
        warnings.warn(sentence, stacklevel=1)
        pytest.skip(sentence)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [FIREFOX, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        said = Path(profile) / "said"  # a file takes all that it says; a pipe that nobody reads would stop it
        with said.open("w") as file:
            browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
        try:
            with connect(f"{listening(said)}/session", max_size=None, open_timeout=PATIENCE) as socket:
                page = Page(socket)
                page.command("session.new", capabilities={})
                page.open(address)
                yield page
        finally:
            browser.terminate()
            browser.wait(PATIENCE)


def listening(said: Path) -> str:
    """The address of WebDriver BiDi, once a browser says it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := re.search(r"WebDriver BiDi listening on (\S+)\n", said.read_text())):
        assert time.monotonic() < deadline, f"Firefox does not answer: {said.read_text()}"
        time.sleep(0.05)
    return found[1]
