"""Roll-outs of players who lost their connection, kept for a while so that they can be resumed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

from jinn.player.history import History
from jinn.player.protocol import Limits


class Parked(NamedTuple):
    """A roll-out, and the network address of its player."""

    address: str
    history: History


class Parking:
    """The parked roll-outs of a world, bounded in number and memory.

    Where there are too many, the address that has most of them loses its oldest: many short sessions of one stranger
    push out only each other.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.sessions: dict[str, Parked] = {}  # by session name, the oldest first

    def park(self, name: str, address: str, history: History) -> None:
        """Keep a roll-out for `Limits.parked_seconds`."""
        limits = self.limits
        history.thin_out(limits.parked_states)
        self.sessions[name] = Parked(address, history)
        while len(self.sessions) > limits.max_parked or self._num_bytes() > limits.parked_bytes:
            greediest, _ = Counter(parked.address for parked in self.sessions.values()).most_common(1)[0]
            del self.sessions[next(name for name, p in self.sessions.items() if p.address == greediest)]
        asyncio.get_running_loop().call_later(limits.parked_seconds, self.sessions.pop, name, None)

    def take(self, name: str) -> History | None:
        """The roll-out of a session, which is not parked any more; None if there is none."""
        parked = self.sessions.pop(name, None)
        return parked.history if parked else None

    def _num_bytes(self) -> int:
        return sum(parked.history.num_bytes for parked in self.sessions.values())
