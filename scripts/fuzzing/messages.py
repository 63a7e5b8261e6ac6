"""What a client may send to a server, for `fuzz.py`, while another client plays on politely."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fuzzing.files import Files
from jinn.errors import JinnError
from jinn.player import Client
from jinn.player.api import create_app
from jinn.player.server import running
from jinn.world.state import State
from jinn.world.world import World

PATIENCE = 60.0  # seconds for an answer; the machine may be busy
QUIET = 1.0  # seconds after which a server that has said nothing waits for more
# Codes with which the server closes a WebSocket whose messages are refused. What is wrong with the server itself has
# others: 1006 and 1011.
REFUSALS = {1000, 1002, 1003, 1007, 1008, 1009, 1013}


def conversations(pictures: list[bytes]) -> list[Files]:
    """Messages that a client sends one after another, as files in their order; and whole connections as bytes."""
    calm = {"type": "settings", "idle": None, "fps": 30}
    start: dict[str, Any] = {"type": "start", "prompt": 0, "seed": 7}
    talks: list[list[dict[str, Any] | bytes]] = [
        [calm, start, {"type": "action", "action": 1, "id": 1}, {"type": "ack", "frame": 0}],
        [start, {"type": "keys", "action": 2, "id": 2}, {"type": "reset", "seed": 3}, {"type": "back", "step": 0}],
        [calm, start, {"type": "what_if", "depth": 2}],
        [{"type": "clip", "frames": 2, "seed": 1}, *pictures],
        [pictures[0]],
        [pictures[1]],
        [{"type": "text", "text": "a cave", "seed": 2}, {"type": "ping"}, {"type": "resume", "session": "nobody"}],
        [
            {"type": "settings", "fps": 12, "paused": False, "idle": 0, "steps": 2, "temperature": 0.6, "doubt": 0.1,
             "look_ahead": True},
            start,
        ],
    ]  # fmt: skip
    found: list[Files] = []
    for talk in talks:
        files = {}
        for number, message in enumerate(talk):
            kind = "json" if isinstance(message, dict) else "png" if message[1:4] == b"PNG" else "gif"
            files[f"{number}.{kind}"] = (
                message if isinstance(message, bytes) else json.dumps(message).encode()
            )
        found.append(files)
    host, last = b"Host: 127.0.0.1\r\n", b"Connection: close\r\n"
    upgrade = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    texts = b"".join(b"\x81" + bytes([128 + len(m)]) + bytes(4) + m for m in (b'{"type": "start"}', b"{}"))
    wires = [
        b"GET /ws HTTP/1.1\r\n" + host + upgrade + texts + b"\x88\x80" + bytes(4),
        b"GET /api/world HTTP/1.1\r\n"
        + host
        + b"\r\nGET /api/prompts/0.png HTTP/1.1\r\n"
        + host
        + last
        + b"\r\n",
        b"POST /api/film.gif?fps=8 HTTP/1.1\r\n"
        + host
        + last
        + b"Content-Length: 3072\r\n\r\n"
        + bytes(3072),
    ]
    return [*found, *({"wire.bin": wire} for wire in wires)]


async def paint(text: str, size_hw: tuple[int, int]) -> np.ndarray:
    """A picture of any text."""
    return np.full((*size_hw, 3), len(text) % 256, np.uint8)


class Polite:
    """A client who plays on, and knows what they must see."""

    def __init__(self, address: str, world: World) -> None:
        self.world, self.client = world, Client(address, seconds=PATIENCE)
        self.state: State
        self.state, _ = world.reset(world.prompts[:1, None], seed=[5])
        self.client.start(0, 5)

    def play(self, action: int) -> None:
        """Play an action; AssertionError unless its frame is the world's."""
        self.state, frame_BHWC = self.world.step(self.state, action)
        if not np.array_equal(self.client.play(action).pixels_HWC, frame_BHWC[0].numpy()):
            raise AssertionError("another client sees another frame than before")


# An error that uvicorn 0.54 logs where a text that is not UTF-8 follows the end of a conversation: it means to
# close the socket once more, and asyncio does so.
HARMLESS = "websockets.exceptions.InvalidState: connection is clos"


class Complaints(logging.Handler):
    """What the server logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        if HARMLESS not in (text := self.format(record)):
            self.found.append(text)


@contextmanager
def serving_messages(world: World) -> Iterator[Callable[[Path], None]]:
    """A server, and what sends it the messages of a folder: `JinnError` if it refuses any of them."""
    complaints = Complaints()
    with running(create_app(world, text_to_image=paint)) as address:
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addHandler(complaints)
        threading.excepthook = lambda crash: complaints.found.append(repr(crash.exc_value))
        polite, numbers = Polite(address, world), iter(range(10**9))

        def read(folder: Path) -> None:
            if (folder / "wire.bin").exists():
                refused = send_bytes(address, (folder / "wire.bin").read_bytes())
            else:
                paths = sorted(folder.iterdir())
                refused = send_messages(address, [(p.suffix == ".json", p.read_bytes()) for p in paths])
            polite.play(next(numbers) % world.num_actions)
            if complaints.found:
                found = "\n".join(complaints.found)
                complaints.found.clear()
                raise AssertionError(f"the server complains: {found}")
            if refused:
                raise JinnError(refused)

        yield read
        polite.client.socket.close()


def send_messages(address: str, messages: list[tuple[bool, bytes]]) -> str:
    """Send messages and wait until all of them are handled; returns the last error, empty if there is none."""
    errors: list[str] = []
    with connect(address.replace("http", "ws", 1) + "/ws", open_timeout=PATIENCE) as client:
        try:
            for is_text, data in messages:
                client.send(data, text=is_text)
                client.send('{"type": "ping"}')
                told = hear(client, "pong")
                errors += told
                if b'"start"' in data and not told:  # what comes next may need its frame
                    errors += hear(client, None)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            if code not in REFUSALS:
                raise AssertionError(f"the server closed the socket with {code} after {errors}") from None
            errors.append(f"the server closed the socket with {code}")
    return errors[-1] if errors else ""


def hear(client: ClientConnection, until: str | None) -> list[str]:
    """The errors that come before a message of a type, or before a frame; a frame may never come."""
    errors: list[str] = []
    while True:
        try:
            answer = client.recv(timeout=QUIET if until is None else PATIENCE)
        except TimeoutError:
            if until is None:
                return errors
            raise
        if isinstance(answer, bytes):
            if until is None:
                return errors
            continue
        told = json.loads(answer)
        if told["type"] == "error":
            errors.append(told["message"])
        if told["type"] == until:
            return errors


def receive(client: socket.socket) -> bytes:
    """What comes next; nothing if the server is silent, as it is while it waits for the rest of a request."""
    try:
        return client.recv(2**16)
    except TimeoutError:
        return b""


def send_bytes(address: str, data: bytes) -> str:
    """Send bytes, and nothing more, and wait until the server closes; returns its status if it is no success."""
    place = urlsplit(address)
    answer = b""
    # The server may have heard enough.
    with (
        suppress(ConnectionError),
        socket.create_connection((place.hostname, place.port), PATIENCE) as client,
    ):
        client.sendall(data)
        client.settimeout(QUIET)
        while part := receive(client):
            answer += part
        client.shutdown(socket.SHUT_WR)
        client.settimeout(PATIENCE)
        while part := client.recv(2**16):
            answer += part
    if answer.startswith(b"HTTP/1.1 5"):
        raise AssertionError(f"the server answers {answer[:300]!r}")
    line = answer.split(b"\r\n")[0].decode(errors="replace")
    return "" if line.startswith(("HTTP/1.1 1", "HTTP/1.1 2")) else f"the server answers {line!r}"
