"""The worlds of a server: what each is called, how it looks, and how it is loaded when somebody opens it."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from jinn.errors import JinnError
from jinn.player.shared import Shared
from jinn.world.folder import find_world, read_prompts
from jinn.world.world import World

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GalleryWorld:
    """A world that can be opened.

    Attributes:
        name: its name on the page and in its address.
        thumbnail_HWC: uint8, how it looks.
        load: loads it; called from a thread, when somebody opens it for the first time.
    """

    name: str
    thumbnail_HWC: np.ndarray
    load: Callable[[], World]


def gallery(worlds: Sequence[str | Path], load: Callable[[Path], World]) -> list[GalleryWorld]:
    """Built-in worlds by their names, and others by the folder of a world or a run; none is loaded yet.

    Each is called as its folder, or as the run whose world it is.

    Raises:
        JinnError: there is no such world, or none at all.
    """
    if not worlds:
        raise JinnError("no world is built in here: name the folder of a world or of a run")
    entries: dict[str, GalleryWorld] = {}
    for folder in map(find_world, worlds):
        named = folder.resolve()
        named = named.parent if named.name == "world" else named
        usual = name = re.sub(r"[^\w.-]+", "-", named.name)
        number = 1
        while name in entries:
            number += 1
            name = f"{usual}-{number}"
        thumbnail_HWC = read_prompts(folder)[0].numpy()
        entries[name] = GalleryWorld(name, thumbnail_HWC, partial(load, folder))
    return list(entries.values())


class LazyShared:
    """What the sessions of a world share, made when the first of them needs it.

    Args:
        world: the world.
        make: makes it of the loaded world.
        loading: held while a world is loaded, so that only one is at a time.
    """

    def __init__(self, world: GalleryWorld, make: Callable[[World], Shared], loading: asyncio.Lock) -> None:
        self.world, self.make, self.loading = world, make, loading
        self.shared: Shared | None = None
        self.ending_idle: asyncio.Task[None] | None = None

    async def get(self) -> Shared:
        """It, once the world is loaded; those who play other worlds play on meanwhile.

        Raises:
            JinnError: the world cannot be loaded (the next call tries again), or the server stops meanwhile.
        """
        if self.shared is not None:
            return self.shared
        try:
            async with self.loading:
                if self.shared is None:  # or another request has waited for the same
                    self.shared = await in_thread(self._load)
                    self.ending_idle = asyncio.create_task(self.shared.admission.end_idle_sessions())
                return self.shared
        except asyncio.CancelledError:  # the server cannot wait any longer
            raise JinnError("the server stops") from None

    async def close(self) -> None:
        """Compute no more frames of the world."""
        if self.ending_idle is not None:
            self.ending_idle.cancel()
        if self.shared is not None:
            await asyncio.to_thread(self.shared.scheduler.close)

    def _load(self) -> Shared:
        try:
            return self.make(self.world.load())
        except JinnError as error:
            raise JinnError(f"the world {self.world.name} cannot be loaded: {error}") from error
        except Exception as error:
            log.exception("a world cannot be loaded")
            raise JinnError(f"the world {self.world.name} cannot be loaded: see the server log") from error


async def in_thread(work: Callable[[], T]) -> T:
    """`asyncio.to_thread` for work that may take a minute: a server that stops does not wait for it."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from here on it cannot be cancelled

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)
