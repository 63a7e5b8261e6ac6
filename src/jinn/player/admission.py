"""Who may play: a bounded number of sessions, a queue before them, and a bounded rate of messages."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jinn.errors import JinnError
from jinn.player.protocol import Limits
from jinn.web.answers import refuse, tell

if TYPE_CHECKING:
    from jinn.player.session import Session

# A code with which a WebSocket is closed: 4000 and above are an application's own.
IDLE = 4000


@dataclass(eq=False)
class AdmissionQueue:
    """The sessions of a server: those that play and those that wait."""

    limits: Limits
    playing: set[Session] = field(default_factory=set)
    queue: list[Session] = field(default_factory=list)
    sockets: Counter[str] = field(default_factory=Counter)  # open sockets of each network address

    @asynccontextmanager
    async def admit(self, session: Session) -> AsyncIterator[None]:
        """Wait for a place to play, tell the client its position meanwhile, and keep the place.

        Raises:
            JinnError: the session is refused.
        """
        limits, address = self.limits, session.address
        if limits.sockets_per_address is not None and self.sockets[address] >= limits.sockets_per_address:
            raise JinnError("too many pages of this world are open at your address: close some")
        self.sockets[address] += 1
        self.queue.append(session)
        self._admit_next()
        try:
            if len(self.queue) > limits.max_queue:
                raise JinnError("all sessions are taken, and the queue is full: try again later")
            reported = 0
            while not session.admitted.done():
                position = self.queue.index(session) + 1
                if position != reported:
                    await tell(session.socket, "queue", place=position)
                    reported = position
                await asyncio.wait([session.admitted], timeout=1.0)
            yield
        finally:
            self.playing.discard(session)
            if session in self.queue:
                self.queue.remove(session)
            self.sockets[address] -= 1
            self.sockets += Counter()  # removes addresses without sockets
            self._admit_next()

    def _admit_next(self) -> None:
        while self.queue and len(self.playing) < self.limits.players:
            session = self.queue.pop(0)
            self.playing.add(session)
            session.last_input = time.monotonic()
            session.admitted.set_result(None)

    async def end_idle_sessions(self) -> None:
        """End the sessions of players who have left their pages alone, for ever."""
        while True:
            await asyncio.sleep(1.0)
            await asyncio.gather(*(self._end(session) for session in self.playing if self._is_idle(session)))

    def _is_idle(self, session: Session) -> bool:
        patience = self.limits.idle_seconds_when_full if self.queue else self.limits.idle_seconds
        if self.queue and session.control.history is None:
            patience = self.limits.start_seconds_when_full
        return time.monotonic() - session.last_input > patience

    async def _end(self, session: Session) -> None:
        session.last_input = time.monotonic()  # closing takes a moment
        sentence = "you have not played for a while: reload the page to go on"
        with suppress(TimeoutError):  # a client that does not even read keeps nobody waiting
            async with asyncio.timeout(5.0):
                await refuse(session.socket, sentence, IDLE)


class MessageRate:
    """A token bucket for one client's messages."""

    def __init__(self, limits: Limits) -> None:
        self.seconds_each = 1 / limits.messages_per_second
        self.burst_seconds = limits.messages_at_once * self.seconds_each
        self.due = 0.0  # when the last message was due
        self.flooding = 0.0  # seconds by which this client was early since it last paused

    def count(self) -> float:
        """Count a message; returns the seconds by which it is early."""
        now = time.monotonic()
        self.due = max(self.due, now - self.burst_seconds) + self.seconds_each
        early = max(0.0, self.due - now)
        self.flooding = 0.0 if self.due < now - self.burst_seconds / 2 else self.flooding + early
        return early
