"""A client of the player's server in a hundred lines: an example of docs/protocol.md, and the tests' player.

with Client("http://127.0.0.1:7860") as player:
    player.start(prompt=0, seed=7)
    for action in (1, 1, 3):
        frame = player.play(action)  # frame.pixels_HWC is uint8 RGB
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
from websockets.sync.client import connect

from jinn.contracts import JinnError
from jinn.player.sessions import HEADER, Kind


@dataclass(frozen=True)
class Picture:
    """A frame as the server sends it; see docs/protocol.md."""

    kind: Kind
    ready: bool
    action: int
    number: int
    key: int
    step: int
    model_ms: float
    waited_ms: float
    pixels_HWC: np.ndarray


class Client:
    """One player.

    Args:
        address: of the server, such as "http://127.0.0.1:7860".
        token: if the server wants one.
        seconds: how long to wait for any answer.

    Raises:
        JinnError: the server told so; the sentence is its own. Frames that come meanwhile are not lost.
        TimeoutError: nothing came.
    """

    def __init__(self, address: str, token: str | None = None, seconds: float = 30.0, **options: Any) -> None:
        query = f"?{urlencode({'token': token})}" if token else ""
        with urlopen(f"{address}/api/world{query}", timeout=seconds) as answer:
            self.world: dict[str, Any] = json.load(answer)
        self.seconds = seconds
        self.told: list[dict[str, Any]] = []  # what the server said that is no error: session, queue, gone
        self.closing = ExitStack()
        self.socket = self.closing.enter_context(
            connect(address.replace("http", "ws", 1) + "/ws" + query, **options)
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.closing.close()

    def send(self, type: str, **fields: object) -> None:
        """Send a message of the protocol."""
        self.socket.send(json.dumps({"type": type, **fields}))

    def receive(self, acknowledge: bool = True) -> Picture:
        """The next frame, of whatever kind; acknowledged, so that the server goes on."""
        while isinstance(data := self.socket.recv(timeout=self.seconds), str):
            message = json.loads(data)
            if message["type"] == "error":
                raise JinnError(message["message"])
            self.told.append(message)
        kind, ready, action, number, key, step, model_ms, waited_ms = HEADER.unpack_from(data)
        size = self.world["height"], self.world["width"], 3
        pixels_HWC = np.frombuffer(data, np.uint8, offset=HEADER.size).reshape(size)
        if acknowledge and number:
            self.send("ack", frame=number)
        return Picture(Kind(kind), bool(ready), action, number, key, step, model_ms, waited_ms, pixels_HWC)

    def start(self, prompt: int = 0, seed: int | None = None, pictures: Sequence[bytes] = ()) -> Picture:
        """Begin from a prompt of the world's, or from pictures (files) of one's own, the newest last; then
        the world waits for `play`."""
        self.send("settings", idle=None, fps=self.world["fps_range"][1])
        if pictures:
            self.send("clip", frames=len(pictures), seed=seed)
            for picture in pictures:
                self.socket.send(picture)
        else:
            self.send("start", prompt=prompt, seed=seed)
        return next(picture for picture in self.pictures() if picture.kind is Kind.BEGIN)

    def play(self, action: int) -> Picture:
        """Play one frame of an action."""
        self.send("action", action=action)
        return next(picture for picture in self.pictures() if picture.kind is Kind.NEXT)

    def back(self, step: int) -> Picture:
        """Go back to a step of this roll-out, to go on from there."""
        self.send("back", step=step)
        return next(picture for picture in self.pictures() if picture.kind is Kind.BACK)

    def pictures(self) -> Iterator[Picture]:
        """All that comes."""
        while True:
            yield self.receive()
