"""A client of the player's server: an example of docs/protocol.md, and the client of the tests.

with Client("http://127.0.0.1:7860") as player:
    player.start(prompt=0, seed=7)
    for action in (1, 1, 3):
        frame = player.play(action)  # frame.pixels_HWC is uint8 RGB
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
from websockets.sync.client import connect

from jinn.errors import JinnError
from jinn.player.protocol import FrameHeader, FrameKind


@dataclass(frozen=True)
class ReceivedFrame(FrameHeader):
    """A frame of the server: its header, and uint8 RGB ``pixels_HWC``."""

    pixels_HWC: np.ndarray


class Client:
    """One player.

    Args:
        address: the server's address, such as "http://127.0.0.1:7860".
        token: the access token, if the server requires one.
        seconds: how long to wait for any answer.
        options: further arguments of `websockets.sync.client.connect`.

    Attributes:
        world: the answer of ``/api/world``: the world's properties and the server's limits.
        messages: every message of the server so far that is not an error.

    Raises:
        JinnError: the server reported an error, in its own sentence. Frames on their way are not lost.
        TimeoutError: no answer came.
    """

    def __init__(self, address: str, token: str | None = None, seconds: float = 30.0, **options: Any) -> None:
        query = f"?{urlencode({'token': token})}" if token else ""
        with urlopen(f"{address}/api/world{query}", timeout=seconds) as answer:
            self.world: dict[str, Any] = json.load(answer)
        self.seconds = seconds
        self.messages: list[dict[str, Any]] = []
        self.socket = connect(address.replace("http", "ws", 1) + "/ws" + query, **options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, type: str, **fields: object) -> None:
        """Send a message of the protocol."""
        self.socket.send(json.dumps({"type": type, **fields}))

    def receive(self, acknowledge: bool = True) -> ReceivedFrame:
        """Wait for the next frame of any kind, and acknowledge it so that the server computes the next."""
        while isinstance(data := self.socket.recv(timeout=self.seconds), str):
            message = json.loads(data)
            if message["type"] == "error":
                raise JinnError(message["message"])
            self.messages.append(message)
        header = FrameHeader.unpack(data)
        size = self.world["height"], self.world["width"], 3
        pixels_HWC = np.frombuffer(data, np.uint8, offset=FrameHeader.SIZE).reshape(size)
        if acknowledge and header.number:
            self.send("ack", frame=header.number)
        return ReceivedFrame(**vars(header), pixels_HWC=pixels_HWC)

    def start(
        self, prompt: int = 0, seed: int | None = None, pictures: Sequence[bytes] = ()
    ) -> ReceivedFrame:
        """Start a roll-out that waits for `play`.

        Args:
            prompt: index of one of the world's prompts.
            seed: seed of the roll-out; None: a random one.
            pictures: files to start from instead, the newest last.

        Returns:
            The newest prompt frame, as the tokenizer reconstructs it.
        """
        self.send("settings", idle=None, fps=self.world["fps_range"][1])
        if pictures:
            self.send("clip", frames=len(pictures), seed=seed)
            for picture in pictures:
                self.socket.send(picture)
        else:
            self.send("start", prompt=prompt, seed=seed)
        return self._await(FrameKind.START)

    def play(self, action: int) -> ReceivedFrame:
        """Play one frame of an action."""
        self.send("action", action=action)
        return self._await(FrameKind.NEXT)

    def back(self, step: int) -> ReceivedFrame:
        """Go back to a step of this roll-out, and continue from there."""
        self.send("back", step=step)
        return self._await(FrameKind.BACK)

    def frames(self) -> Iterator[ReceivedFrame]:
        """Yield every frame that the server sends."""
        while True:
            yield self.receive()

    def _await(self, kind: FrameKind) -> ReceivedFrame:
        return next(frame for frame in self.frames() if frame.kind is kind)
