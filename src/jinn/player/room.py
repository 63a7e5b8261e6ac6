"""Who plays and who waits: a bounded number of places, and a queue before the door."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from starlette.websockets import WebSocket, WebSocketDisconnect

from jinn.player.sessions import Session, send

# Why a socket is closed. 4000 and above are an application's own.
TRY_AGAIN_LATER, LEFT_ALONE = 1013, 4000


@dataclass(eq=False)
class Room:
    """The places of a server.

    Attributes:
        places: players at a time.
        waiting_places: of those who wait for a place; who comes after them is sent away.
        an_address: sockets that one network address may have open, waiting ones too; None: any number.
        patience: seconds after which a player who touches nothing gives his place back.
        patience_when_full: the same while somebody waits for it.
        patience_to_begin: the same for a player who has not begun anything yet, while somebody waits.
    """

    places: int = 64
    waiting_places: int = 256
    an_address: int | None = None
    patience: float = 900.0
    patience_when_full: float = 60.0
    patience_to_begin: float = 10.0
    playing: set[Session] = field(default_factory=set)
    queue: list[asyncio.Event] = field(default_factory=list)
    open: Counter[str] = field(default_factory=Counter)
    taken: int = 0

    @asynccontextmanager
    async def entered(self, socket: WebSocket) -> AsyncIterator[bool]:
        """Wait for a place, telling how many are before; False if there is none to be had.

        Args:
            socket: an accepted WebSocket.
        """
        address = socket.client.host if socket.client else ""
        if self.an_address is not None and self.open[address] >= self.an_address:
            await refuse(socket, "too many pages of this world are open at your address: close some")
            yield False
            return
        self.open[address] += 1
        turn = asyncio.Event()
        try:
            if self.queue or self.taken >= self.places:
                if len(self.queue) >= self.waiting_places:
                    await refuse(socket, "there is no room, and the queue is full: try again later")
                    yield False
                    return
                self.queue.append(turn)
                if not await self._wait(socket, turn):
                    yield False
                    return
                self.queue.remove(turn)
            self.taken += 1
            try:
                yield True
            finally:
                self.taken -= 1
        finally:
            if turn in self.queue:
                self.queue.remove(turn)
            self.open[address] -= 1
            self.open += Counter()  # forgets those who have none
            self._call_next()

    async def _wait(self, socket: WebSocket, turn: asyncio.Event) -> bool:
        """Until it is one's turn; False if the player leaves before."""
        gone = asyncio.create_task(until_gone(socket))
        told = -1
        try:
            while not turn.is_set():
                place = self.queue.index(turn) + 1
                if place != told:
                    await send(socket, json.dumps({"type": "queue", "place": place}))
                    told = place
                called = asyncio.create_task(turn.wait())
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

    def _call_next(self) -> None:
        free = self.places - self.taken
        for turn in self.queue[: max(0, free)]:
            turn.set()

    async def watch(self, tick: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the places of those who have left their pages alone."""
        while True:
            await asyncio.sleep(tick)
            await asyncio.gather(*(self._dismiss(s, clock()) for s in self.playing if self._gone(s, clock())))

    def _gone(self, session: Session, now: float) -> bool:
        patience = self.patience_when_full if self.queue else self.patience
        if self.queue and session.history is None:
            patience = self.patience_to_begin
        return now - session.touched > patience

    async def _dismiss(self, session: Session, now: float) -> None:
        session.touched = now  # closing takes a moment
        told = "you have not played for a while: reload the page to go on"
        with suppress(TimeoutError):  # who does not even read keeps nobody waiting
            async with asyncio.timeout(5.0):
                await refuse(session.socket, told, LEFT_ALONE)


async def refuse(socket: WebSocket, sentence: str, code: int = TRY_AGAIN_LATER) -> None:
    """Say why, and close."""
    with suppress(WebSocketDisconnect, RuntimeError):
        await send(socket, json.dumps({"type": "error", "message": sentence}))
        await socket.close(code)


async def until_gone(socket: WebSocket) -> None:
    """Pass over what somebody says who has no place yet."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        await asyncio.sleep(0.01)
