"""What all sessions and addresses of a world share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from jinn.player.admission import AdmissionQueue
from jinn.player.decoders import Decoders
from jinn.player.parking import Parking
from jinn.player.protocol import Limits
from jinn.player.scheduler import Scheduler
from jinn.world.world import World

if TYPE_CHECKING:
    from jinn.player.beside import RealGame

IDLE_NAMES = ("stay", "none", "idle", "noop", "wait")  # actions of these names stand for doing nothing

# Makes a uint8 (H, W, 3) picture of a text, of the given height and width; raises `JinnError`.
TextToImage = Callable[[str, tuple[int, int]], Awaitable[np.ndarray]]


class Button(NamedTuple):
    """A button of the page, and the action that it plays."""

    name: str
    action: int


def buttons(world: World) -> list[Button]:
    """The keys of a taught world, else its actions. What never occurred in labelled play has no button."""
    if world.keys:
        return [Button(key.name, key.latent) for key in world.keys if key.count]
    names = world.action_names or [f"action {number}" for number in range(1, world.num_actions + 1)]
    return [Button(name, action) for action, name in enumerate(names)]


class Shared:
    """What all sessions and addresses of a world share. Prompts are uint8 ``frames_BTHWC`` with B = T = 1."""

    def __init__(
        self,
        world: World,
        limits: Limits,
        prompts: list[Tensor],
        text_to_image: TextToImage | None,
        decoders: Decoders,
    ) -> None:
        self.world, self.limits, self.prompts, self.text_to_image = world, limits, prompts, text_to_image
        self.decoders = decoders  # those of all worlds of the server
        self.description: dict[str, Any] = {}  # what clients are told of the world
        self.scheduler = Scheduler(world)
        self.admission = AdmissionQueue(limits)
        self.parking = Parking(limits)
        self.film_slots = asyncio.Semaphore(limits.max_films)
        self.filming: set[str] = set()  # the network addresses whose films are being made
        self.real_game: RealGame | None = None  # beside the world, see `jinn.player.beside`
        self.beside: Counter[str] = Counter()  # how many of these each network address plays
        low, high = limits.fps_range
        self.fps = min(max(world.fps, low), high)  # at first
        self.buttons = buttons(world)
        # What is played at first while no key is down; None: the world waits.
        idle = (b.action for b in self.buttons if b.name.strip().lower() in IDLE_NAMES)
        self.idle = next(idle, None)
