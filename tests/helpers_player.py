"""Parts of the tests of the player: a server, a client, pictures. A module names it in `pytest_plugins`."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jinn.player import Client
from jinn.player.api import create_app
from jinn.player.client import ReceivedFrame
from jinn.player.server import running
from jinn.world.world import World
from tiny_world import tiny_world

PATIENCE = 30  # seconds until a missing answer counts as a failure and not as a slow machine


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with running(create_app(world)) as address:
        yield address


class Player(Client):
    """A client that can also send invalid messages."""

    def frame(self, acknowledge: bool = True) -> ReceivedFrame:
        return self.receive(acknowledge)

    def hear(self) -> dict[str, Any]:
        """The next message."""
        data = self.socket.recv(timeout=self.seconds)
        assert isinstance(data, str), "a frame came instead of a message"
        message: dict[str, Any] = json.loads(data)
        return message

    def error(self) -> str:
        """The next error message; a frame before it is a failure."""
        while (message := self.hear())["type"] == "session":
            pass
        assert message["type"] == "error", message
        return message["message"]

    def rollout(self, actions: Sequence[int], seed: int = 0) -> list[np.ndarray]:
        """Start from prompt 0 and play the actions, a frame for each."""
        return [self.start(0, seed).pixels_HWC, *(self.play(action).pixels_HWC for action in actions)]


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until the server, which runs in another thread, has come so far."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.001)


def decode(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
