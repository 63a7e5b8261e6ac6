"""Which frame is computed when: the frames of all players on the threads that a world may use.

A job is one frame of one player. Jobs have three priorities: frames that a player waits for, frames of a
what-if, and frames that a player may never ask for (look-ahead). A thread takes the first job of the highest
priority; where the world computes many players as one batch, it also takes the jobs behind it with the same
sampling settings. Every player waits for at most one frame, so n players take turns, and a client that is slow
to show its frames delays nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import IntEnum

import torch

from jinn.errors import JinnError
from jinn.models.maskgit import SamplingConfig
from jinn.world.state import State, stack, take
from jinn.world.world import World

MAX_BATCH = 64

# Held by whoever computes on a GPU: while the CUDA graph of one world is recorded, no other may wait for the device.
GPU = threading.Lock()

log = logging.getLogger(__name__)


class ModelError(JinnError):
    """The model failed, for which the player can do nothing."""


class Priority(IntEnum):
    """Which jobs come first."""

    PLAY = 0
    WHAT_IF = 1
    LOOK_AHEAD = 2


@dataclass(frozen=True)
class Frame:
    """A frame, and the state of its roll-out after it."""

    state: State  # of one player
    pixels: bytes  # RGB, row by row
    model_ms: float  # milliseconds that the model needed for the whole batch


@dataclass(eq=False)
class Job:
    """A frame to compute: the one that follows when an action is played, or the first of a roll-out, by ``start``."""

    state: State | None = None  # of one player
    action: int = 0  # played in this state
    sampling: SamplingConfig | None = None  # None: the world's own
    priority: Priority = Priority.PLAY
    start: Callable[[], tuple[State, torch.Tensor]] | None = None
    frame: Future[Frame] = field(default_factory=Future)


class Scheduler:
    """Computes frames on as many threads as the world may use.

    If the world's backend takes one player at a time, there are several threads (`Backend.threads`); otherwise there
    is one thread, which computes batches of at most `MAX_BATCH` players.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.batch = MAX_BATCH if world.backend.threads == 1 else 1
        # Look-ahead jobs in a batch: on a GPU a batch takes as long as one player, on a CPU it does not.
        self.batch_ahead = MAX_BATCH if world.device.type == "cuda" else 1
        self.waiting: list[Job] = []  # in the order in which they came
        self.due: dict[Hashable, float] = {}
        self.ahead_seconds = 0.0  # that the last look-ahead batch took
        self.running_ahead = 0
        self.closed = False
        self.changed = threading.Condition()
        self.threads = [
            threading.Thread(target=self._work, name=f"model {i}", daemon=True)
            for i in range(world.backend.threads)
        ]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """Cancel the waiting jobs, and wait for the others to finish."""
        with self.changed:
            self.closed = True
            for job in self.waiting:
                job.frame.cancel()
            self.waiting = []
            self.changed.notify_all()
        for thread in self.threads:
            thread.join()

    def submit(self, job: Job) -> Job:
        """Let a job be computed in its turn; if the scheduler is closed, it is cancelled."""
        with self.changed:
            if self.closed:
                job.frame.cancel()
            else:
                self.waiting.append(job)
                self.changed.notify_all()
        return job

    def raise_priority(self, job: Job, priority: Priority = Priority.PLAY) -> Job:
        """Let a waiting job be computed earlier: a player asks for its frame now."""
        with self.changed:
            if priority < job.priority and job in self.waiting:
                self.waiting.remove(job)
                job.priority = priority
                self.submit(job)
        return job

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Cancel those of these jobs that are still waiting."""
        with self.changed:
            for job in jobs:
                if job.frame.cancel() and job in self.waiting:
                    self.waiting.remove(job)

    def set_due(self, player: Hashable, due: float | None) -> None:
        """Set when a player's next frame will be submitted, so that no look-ahead delays it.

        ``due`` is a time by `time.monotonic`; None: not before the player does something.
        """
        with self.changed:
            if due is None:
                self.due.pop(player, None)
            else:
                self.due[player] = due
            self.changed.notify_all()

    def _work(self) -> None:
        while jobs := self._take():
            started = time.perf_counter()
            try:
                with GPU if self.world.device.type == "cuda" else nullcontext():
                    frames = self._compute(jobs)
                for job, frame in zip(jobs, frames, strict=True):
                    job.frame.set_result(frame)
            except BaseException as error:
                if not isinstance(error, JinnError):
                    log.exception("the model failed")
                    error = ModelError("Internal model error; see the server log.")
                for job in jobs:
                    job.frame.set_exception(error)
            if jobs[0].priority is Priority.LOOK_AHEAD:
                with self.changed:
                    self.running_ahead -= 1
                    self.ahead_seconds = time.perf_counter() - started
                    self.changed.notify_all()

    def _take(self) -> list[Job]:
        """Wait for the next jobs to compute, each of them claimed; none when the scheduler is closed."""
        with self.changed:
            while not self.closed:
                for priority in Priority:
                    ahead = priority is Priority.LOOK_AHEAD
                    if ahead and not self._has_time():
                        continue
                    if jobs := self._claim(priority, self.batch_ahead if ahead else self.batch):
                        self.running_ahead += ahead
                        return jobs
                self.changed.wait()
        return []

    def _claim(self, priority: Priority, batch: int) -> list[Job]:
        """Take the first job of a priority that was not cancelled, and those that share a batch with it."""
        jobs: list[Job] = []
        for job in [job for job in self.waiting if job.priority is priority]:
            alike = not jobs or (not (jobs[0].start or job.start) and jobs[0].sampling == job.sampling)
            if len(jobs) < batch and alike:
                self.waiting.remove(job)
                if job.frame.set_running_or_notify_cancel():
                    jobs.append(job)
        return jobs

    def _has_time(self) -> bool:
        """Whether a look-ahead frame would be finished before the next frame is due."""
        if self.running_ahead >= max(1, len(self.threads) - 1):
            return False
        return time.monotonic() + 1.2 * self.ahead_seconds < min(self.due.values(), default=float("inf"))

    def _compute(self, jobs: list[Job]) -> list[Frame]:
        started = time.perf_counter()
        if jobs[0].start is not None:
            state, frames_BHWC = jobs[0].start()
        else:
            states = [job.state for job in jobs if job.state is not None]
            actions_B = torch.tensor([job.action for job in jobs])
            batch = states[0] if len(states) == 1 else stack(states)
            state, frames_BHWC = self.world.step(batch, actions_B, jobs[0].sampling)
        pixels = [frame_HWC.tobytes() for frame_HWC in frames_BHWC.cpu().numpy()]
        model_ms = 1000 * (time.perf_counter() - started)
        states_out = [state] if len(jobs) == 1 else [take(state, [row]) for row in range(len(jobs))]
        return [Frame(*frame, model_ms) for frame in zip(states_out, pixels, strict=True)]
