"""Who may play: a bounded number of sessions, a queue before them, and a bounded rate of messages."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect

from jinn.player.protocol import Limits

if TYPE_CHECKING:
    from jinn.player.session import Session

# Codes with which a WebSocket is closed. 4000 and above are an application's own.
TRY_AGAIN_LATER, IDLE = 1013, 4000


@dataclass(eq=False)
class AdmissionQueue:
    """The sessions of a server and the clients that wait for one.

    Attributes:
        limits: how many may play and wait, and how long a session may be idle.
        playing: the sessions.
        queue: an event for each waiting client, set when it may play.
        sockets: open sockets of each network address.
        admitted: number of clients that play.
    """

    limits: Limits
    playing: set[Session] = field(default_factory=set)
    queue: list[asyncio.Event] = field(default_factory=list)
    sockets: Counter[str] = field(default_factory=Counter)
    admitted: int = 0

    @asynccontextmanager
    async def admit(self, socket: WebSocket) -> AsyncIterator[bool]:
        """Wait until a client may play, and report its position in the queue meanwhile.

        Args:
            socket: an accepted WebSocket.

        Yields:
            Whether the client may play; False if it was refused or has left.
        """
        limits, address = self.limits, socket.client.host if socket.client else ""
        if limits.sockets_per_address is not None and self.sockets[address] >= limits.sockets_per_address:
            await refuse(socket, "too many pages of this world are open at your address: close some")
            yield False
            return
        self.sockets[address] += 1
        admitted = asyncio.Event()
        try:
            if self.queue or self.admitted >= limits.players:
                if len(self.queue) >= limits.max_queue:
                    await refuse(socket, "all sessions are taken, and the queue is full: try again later")
                    yield False
                    return
                self.queue.append(admitted)
                if not await self._wait(socket, admitted):
                    yield False
                    return
                self.queue.remove(admitted)
            self.admitted += 1
            try:
                yield True
            finally:
                self.admitted -= 1
        finally:
            if admitted in self.queue:
                self.queue.remove(admitted)
            self.sockets[address] -= 1
            self.sockets += Counter()  # removes addresses without sockets
            self._admit_next()

    async def _wait(self, socket: WebSocket, admitted: asyncio.Event) -> bool:
        """Wait in the queue; False if the client leaves before it is admitted."""
        gone = asyncio.create_task(until_gone(socket))
        reported = -1
        try:
            while not admitted.is_set():
                position = self.queue.index(admitted) + 1
                if position != reported:
                    await send(socket, json.dumps({"type": "queue", "place": position}))
                    reported = position
                called = asyncio.create_task(admitted.wait())
                done, _ = await asyncio.wait((gone, called), timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                called.cancel()
                if gone in done:
                    return False
            return True
        except WebSocketDisconnect:
            return False
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    def _admit_next(self) -> None:
        free = self.limits.players - self.admitted
        for admitted in self.queue[: max(0, free)]:
            admitted.set()

    async def end_idle_sessions(self, tick: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        """End the sessions of players who have left their pages alone, for ever."""
        while True:
            await asyncio.sleep(tick)
            await asyncio.gather(*(self._end(s, clock()) for s in self.playing if self._is_idle(s, clock())))

    def _is_idle(self, session: Session, now: float) -> bool:
        patience = self.limits.idle_seconds_when_full if self.queue else self.limits.idle_seconds
        if self.queue and session.control.history is None:
            patience = self.limits.start_seconds_when_full
        return now - session.last_input > patience

    async def _end(self, session: Session, now: float) -> None:
        session.last_input = now  # closing takes a moment
        sentence = "you have not played for a while: reload the page to go on"
        with suppress(TimeoutError):  # a client that does not even read keeps nobody waiting
            async with asyncio.timeout(5.0):
                await refuse(session.socket, sentence, IDLE)


class MessageRate:
    """A token bucket for one client's messages."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.allowed = float(limits.messages_at_once)
        self.counted = time.monotonic()
        self.flooding = 0.0  # seconds by which this client was early since it last paused

    def count(self) -> float:
        """Count a message; returns the seconds by which it is early."""
        rate, burst, now = self.limits.messages_per_second, self.limits.messages_at_once, time.monotonic()
        self.allowed = min(burst, self.allowed + (now - self.counted) * rate) - 1
        self.counted = now
        early = max(0.0, -self.allowed / rate)
        self.flooding = 0.0 if self.allowed > burst / 2 else self.flooding + early
        return early


async def refuse(socket: WebSocket, sentence: str, code: int = TRY_AGAIN_LATER) -> None:
    """Send an error and close."""
    with suppress(WebSocketDisconnect, RuntimeError):
        await send(socket, json.dumps({"type": "error", "message": sentence}))
        await socket.close(code)


async def until_gone(socket: WebSocket) -> None:
    """Ignore the messages of a client that waits, until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        await asyncio.sleep(0.01)


async def send(socket: WebSocket, message: str | bytes) -> None:
    """Send text or bytes; a socket that is closed already counts as one that the client has left."""
    try:
        await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
    except RuntimeError as error:  # what Starlette raises then
        raise WebSocketDisconnect(1006) from error
