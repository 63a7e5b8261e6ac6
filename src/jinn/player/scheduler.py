"""Who computes when: the frames of all players on the threads that a world may use.

A job is one frame of one player, and jobs wait in three queues: frames that a player waits for, frames that
he asked to see at leisure, and frames that he may never ask for (look-ahead). A thread takes the first
job of the first queue, and with it, where the world computes many players as one batch, the jobs behind it
that are alike. Every player has at most one frame in the first queue, so everybody gets every n-th turn,
and nobody is kept waiting by one who is slow to look.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum

import torch

from jinn.models.maskgit import SamplingConfig
from jinn.world.state import State, stack, take
from jinn.world.world import World

MAX_BATCH = 64


class Priority(IntEnum):
    """Which queue a job waits in."""

    PLAY = 0
    LEISURE = 1
    LOOK_AHEAD = 2


@dataclass(frozen=True)
class Frame:
    """A frame, and where the world stands after it.

    Attributes:
        state: of one player.
        pixels: RGB, row by row.
        model_ms: what the model needed for the batch that it was part of.
    """

    state: State
    pixels: bytes
    model_ms: float


@dataclass(eq=False)
class Job:
    """A frame that is asked for: `begin` gives the first of a roll-out, else one step is played."""

    priority: Priority
    begin: Callable[[], tuple[State, torch.Tensor]] | None = None
    state: State | None = None
    action: int = 0
    sampling: SamplingConfig | None = None
    frame: Future[Frame] = field(default_factory=Future)

    def like(self, other: Job) -> bool:
        """Whether both may be computed as one batch."""
        return not (self.begin or other.begin) and self.sampling == other.sampling


class Scheduler:
    """Computes frames on as many threads as the world may use.

    Args:
        world: the world that all play. One whose backend takes one player at a time gets several threads
            (`Backend.threads`), any other one thread and batches.
        batch: most players in a batch.
    """

    def __init__(self, world: World, batch: int = MAX_BATCH) -> None:
        self.world = world
        self.batch = batch if world.backend.threads == 1 else 1
        # What may run ahead at a time: on a GPU a batch costs as much as one player, on a CPU it does not.
        self.batch_ahead = batch if world.device.type == "cuda" else 1
        self.queues: tuple[deque[Job], ...] = tuple(deque() for _ in Priority)
        self.due: dict[Hashable, float] = {}
        self.ahead_seconds = 0.0  # of the last job that ran ahead
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
        """Drop what has not begun, and wait for the rest."""
        with self.changed:
            self.closed = True
            for queue in self.queues:
                while queue:
                    queue.popleft().frame.cancel()
            self.changed.notify_all()
        for thread in self.threads:
            thread.join()

    def begin(self, begin: Callable[[], tuple[State, torch.Tensor]]) -> Job:
        """Ask for the first frame of a roll-out."""
        return self._submit(Job(Priority.PLAY, begin=begin))

    def step(
        self, state: State, action: int, sampling: SamplingConfig | None, priority: Priority = Priority.PLAY
    ) -> Job:
        """Ask for the frame that follows when an action is played in a state of one player."""
        return self._submit(Job(priority, state=state, action=action, sampling=sampling))

    def hurry(self, job: Job, priority: Priority = Priority.PLAY) -> Job:
        """Somebody waits for a job that was asked for ahead."""
        with self.changed:
            if priority < job.priority and job in self.queues[job.priority]:
                self.queues[job.priority].remove(job)
                job.priority = priority
                self.queues[priority].append(job)
                self.changed.notify_all()
        return job

    def drop(self, jobs: Iterable[Job]) -> None:
        """Nobody will ask for these."""
        with self.changed:
            for job in jobs:
                if job.frame.cancel() and job in self.queues[job.priority]:
                    self.queues[job.priority].remove(job)

    def expect(self, player: Hashable, due: float | None) -> None:
        """Tell when a player's next frame will be asked for, so that nothing runs ahead into it.

        Args:
            player: whose.
            due: `time.monotonic`; None: not before he does something, or it is ready already.
        """
        with self.changed:
            if due is None:
                if self.due.pop(player, None) is not None:
                    self.changed.notify_all()
            else:
                self.due[player] = due

    def _submit(self, job: Job) -> Job:
        with self.changed:
            if self.closed:
                job.frame.cancel()
            else:
                self.queues[job.priority].append(job)
                self.changed.notify_all()
        return job

    def _work(self) -> None:
        while jobs := self._take():
            begun = time.perf_counter()
            try:
                frames = self._compute(jobs)
            except BaseException as error:
                for job in jobs:
                    job.frame.set_exception(error)
            else:
                for job, frame in zip(jobs, frames, strict=True):
                    job.frame.set_result(frame)
            if jobs[0].priority is Priority.LOOK_AHEAD:
                with self.changed:
                    self.running_ahead -= 1
                    self.ahead_seconds = time.perf_counter() - begun
                    self.changed.notify_all()

    def _take(self) -> list[Job]:
        """The next jobs to compute, each of them claimed; none when all is over."""
        with self.changed:
            while not self.closed:
                for queue, room in zip(self.queues, (self.batch, self.batch, self.batch_ahead), strict=True):
                    if queue is self.queues[Priority.LOOK_AHEAD] and not self._has_time():
                        continue
                    if jobs := claim(queue, room):
                        self.running_ahead += jobs[0].priority is Priority.LOOK_AHEAD
                        return jobs
                self.changed.wait()
        return []

    def _has_time(self) -> bool:
        """Whether a frame that nobody waits for would be done before the next one is due."""
        if self.running_ahead >= max(1, len(self.threads) - 1):
            return False
        return time.monotonic() + 1.2 * self.ahead_seconds < min(self.due.values(), default=float("inf"))

    def _compute(self, jobs: list[Job]) -> list[Frame]:
        begun = time.perf_counter()
        if jobs[0].begin is not None:
            state, frames_BHWC = jobs[0].begin()
        else:
            states = [job.state for job in jobs if job.state is not None]
            actions_B = torch.tensor([job.action for job in jobs])
            together = states[0] if len(states) == 1 else stack(states)
            state, frames_BHWC = self.world.step(together, actions_B, jobs[0].sampling)
        pixels_BHWC = frames_BHWC.cpu().numpy()
        model_ms = 1000 * (time.perf_counter() - begun)
        alone = [state] if len(jobs) == 1 else [take(state, [row]) for row in range(len(jobs))]
        return [
            Frame(one, pixels_HWC.tobytes(), model_ms)
            for one, pixels_HWC in zip(alone, pixels_BHWC, strict=True)
        ]


def claim(queue: deque[Job], room: int) -> list[Job]:
    """Take the first job of a queue that is still wanted, and those like it, in their order."""
    jobs: list[Job] = []
    passed: list[Job] = []
    while queue and len(jobs) < room:
        job = queue.popleft()
        if jobs and not jobs[0].like(job):
            passed.append(job)
        elif job.frame.set_running_or_notify_cancel():
            jobs.append(job)
    queue.extendleft(reversed(passed))
    return jobs
