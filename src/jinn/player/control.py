"""One player's roll-out: start it, play a step, go back, and compute ahead of the player."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from torch import Tensor

from jinn.player.history import History
from jinn.player.scheduler import Frame, Job, Priority, Scheduler
from jinn.world.state import State
from jinn.world.world import World

REPORT_EVERY = 16  # frames that are computed again between two signs of it


class RolloutControl:
    """Asks the scheduler for one player's frames, and remembers what was played: `history_bytes` of cached states."""

    def __init__(self, world: World, scheduler: Scheduler, history_bytes: int, max_back: int) -> None:
        self.world, self.scheduler = world, scheduler
        self.history_bytes, self.max_back = history_bytes, max_back
        self.history: History | None = None  # the roll-out so far; None before the first start
        self.sampling = world.config.sampling  # of the coming frames
        self.ahead: dict[int, Job] = {}  # for the next frame, by action, before the player has chosen one
        self.what_if_task: asyncio.Task[None] | None = None

    async def start(self, frames_BTHWC: Tensor, seed: int | None) -> Frame:
        """Start a roll-out from a prompt, uint8 with B = 1; a seed of None is a random one."""
        seeds = [secrets.randbelow(2**31) if seed is None else seed]
        self.cancel_ahead()
        job = Job(start=lambda: self.world.reset(frames_BTHWC, seed=seeds))
        frame = await result(self.scheduler.submit(job))
        self.history = History(frames_BTHWC, frame, self.history_bytes, self.max_back)
        return frame

    async def step(self, action: int) -> tuple[Frame, bool]:
        """Play an action; returns its frame and whether that was computed already."""
        history, sampling = self.history, self.sampling
        assert history is not None
        job = self.ahead.pop(action, None)
        self.cancel_ahead()
        ready = job is not None and job.frame.done()
        job = job or self.scheduler.submit(Job(history.now.state, action, sampling))
        frame = await result(self.scheduler.raise_priority(job))
        history.add(action, sampling, frame)
        return frame, ready

    async def back(
        self, history: History, step: int, report: Callable[[int, int], Awaitable[None]] | None = None
    ) -> Frame:
        """Go back to a step of a roll-out: its frame is computed again from the cached state before it.

        If this is cancelled, the roll-out is as it was. `report` is called every `REPORT_EVERY` frames with the number
        of frames that are computed and that of all that must be.
        """
        self.cancel_ahead()
        self.history = history
        if step == history.step:
            return history.now
        current = history.cached_before(step)
        frame = history.cache[current]
        for done, (action, sampling) in enumerate(history.inputs_between(current, step)):
            if report is not None and done and done % REPORT_EVERY == 0:
                await report(done, step - current)
            frame = await result(self.scheduler.submit(Job(frame.state, action, sampling)))
        history.go_back(step, frame)
        return frame

    def look_ahead(self, next_action: int | None, idle: int | None) -> None:
        """Submit the next frame of every action for when the model is free."""
        if self.history is None or self.ahead:
            return
        # The likeliest come first: the action that is next as things are, the last one, and the idle one.
        last = [action for action, _ in self.history.inputs[-1:]]
        likely = [next_action, *last, idle, *range(self.world.num_actions)]
        for action in dict.fromkeys(likely):
            if action is not None:
                job = Job(self.history.now.state, action, self.sampling, Priority.LOOK_AHEAD)
                self.ahead[action] = self.scheduler.submit(job)

    def cancel_ahead(self) -> None:
        """Cancel the jobs that were submitted ahead, and the what-if."""
        self.scheduler.cancel(self.ahead.values())
        self.ahead = {}
        if self.what_if_task is not None:
            self.what_if_task.cancel()

    def start_what_if(self, what_if: Coroutine[Any, Any, None]) -> None:
        """Run a what-if in the background; it ends when the player plays on or asks for another."""
        if self.what_if_task is not None:
            self.what_if_task.cancel()
        self.what_if_task = asyncio.create_task(what_if)

    async def what_if(self, depth: int, show: Callable[[Frame, int, int, float], Awaitable[None]]) -> None:
        """Compute the `depth` frames that each action would lead to, were it held from now on.

        `show` is called with each frame, its action, its step and the seconds that it took.
        """
        history, sampling = self.history, self.sampling
        assert history is not None
        first_state, first_step, started = history.now.state, history.step, time.monotonic()

        own: list[Job] = []  # without those of look-ahead, which lives on

        def submit(state: State, action: int) -> Job:
            own.append(self.scheduler.submit(Job(state, action, sampling, Priority.WHAT_IF)))
            return own[-1]

        async def hold(action: int) -> None:
            state, job = first_state, self.ahead.get(action)
            for ahead in range(1, depth + 1):
                job = job or submit(state, action)
                frame = await asyncio.shield(result(self.scheduler.raise_priority(job, Priority.WHAT_IF)))
                await show(frame, action, first_step + ahead, time.monotonic() - started)
                state, job = frame.state, None

        try:
            await asyncio.gather(*(hold(action) for action in range(self.world.num_actions)))
        finally:
            self.scheduler.cancel(own)  # those that still wait, for nobody


async def result(job: Job) -> Frame:
    """Wait for the frame of a job."""
    return await asyncio.wrap_future(job.frame)
