"""The one training loop, for every phase and any number of processes.

Clips and randomness are functions of (seed, n), see `jinn.data.clips`. So a run that was killed ends with the same
weights as one that was not, and it may go on on more GPUs or fewer.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from jinn.allocator import keep_freed_memory
from jinn.contracts import Generators, JinnError, to_device
from jinn.data.clips import Batch, clip_generators
from jinn.training.checkpoints import Saver, newest, resume, state_of
from jinn.training.log import Meter, RunLog
from jinn.training.optim import TrainingConfig, autocast, learning_rate, make_optimizers
from jinn.training.parallel import Ranks, clip_gradients, copy_whole, distribute, gather, outline
from jinn.world.world import World

# (step, rows of its batch) -> clips; the same step and row is the same clip, whoever asks.
Clips = Callable[[int, range], Batch]

# (phase, steps done, of all, last logged loss, clips per second)
OnStep = Callable[[str, int, int, float, float], None]

# Number of clips used for data-dependent initialisation.
FIRST_CLIPS = 64


class Stage(ABC):
    """What one phase computes for the models of a world (see `jinn.training.stages`); previews show uint8 clips."""

    def __init__(self, world: World, preview_BTHWC: Tensor) -> None:
        self.world, self.preview_BTHWC = world, preview_BTHWC

    def initialize(self, first_BTHWC: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Initialise from the run's first clips, whatever step it goes on from; returns what is to be broadcast."""
        return []

    @abstractmethod
    def loss(self, clips: Batch, generators: Generators) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a part of a step's batch, and metrics for the log: all are means over clips."""

    @abstractmethod
    def preview(self, world: World) -> np.ndarray:
        """A picture of the progress, uint8 HWC; all models of this world are plain."""

    def export(self, world: World, run: Path) -> None:  # noqa: B027 a tokenizer is nothing to play
        """Write what this phase is for into the run's folder, where that is more than its checkpoint."""

    def finish(self, world: World, clips: Clips, config: TrainingConfig, seed: int) -> dict[str, Tensor]:
        """Weights that are computed after the last step, once, by their names; all models of this world are plain."""
        return {}


@dataclass(frozen=True)
class Phase:
    """One phase of a run.

    Attributes:
        name: also that of the folder of its checkpoints.
        setting: the name of ``config`` in a recipe.
        config: how it trains.
        learns: the models of `World` that the optimiser updates and the checkpoints hold.
        stage: what it computes.
        seed: is added to the run's, so that no two phases see the same clips in the same order.
        preview_clips: how many clips its previews show.
    """

    name: str
    setting: str
    config: TrainingConfig
    learns: tuple[str, ...]
    stage: type[Stage]
    seed: int = 0
    preview_clips: int = 12


class Interrupted(Exception):  # noqa: N818 it is no error
    """The run was stopped; it is saved and goes on from ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


class Training:
    """The models of a phase while they are trained: distributed over the ranks, with their optimisers."""

    def __init__(self, phase: Phase, stage: Stage, ranks: Ranks, clips: Clips, seed: int) -> None:
        self.stage, self.ranks, self.config, self.seed = stage, ranks, phase.config, seed
        self.phase, self.clips = phase, clips
        first_BTHWC = clips(0, range(min(phase.config.batch, FIRST_CLIPS))).frames_BTHWC
        first_BTHWC = to_device(first_BTHWC, ranks.device)
        self.modules = {name: stage.world.get_submodule(name) for name in phase.learns}
        for module in self.modules.values():
            module.train()
        ranks.broadcast(stage.initialize(first_BTHWC, torch.Generator().manual_seed(seed)))
        self.outlines = {name: outline(module) for name, module in self.modules.items()}
        for module in self.modules.values():
            distribute(module, ranks)
        parameters = (p for module in self.modules.values() for p in module.parameters())
        self.parameters = [p for p in parameters if p.requires_grad]
        self.optimizers = make_optimizers(phase.config, self.modules.values(), ranks.precision)
        self.state = state_of(self.modules, self.optimizers)

    def update(self, step: int, clips: Batch) -> dict[str, Tensor]:
        """One step of the optimisers with this rank's clips; returns the metrics of the whole batch."""
        first = step * self.config.batch + self.ranks.rows(self.config.batch).start
        generators = clip_generators(self.seed, range(first, first + len(clips.frames_BTHWC)))
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        metrics = self.ranks.mean(self._backward(clips, generators))
        if self.config.clip_norm:
            metrics["gradient_norm"] = clip_gradients(self.parameters, self.config.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.config, step)
            optimizer.step()
        return metrics

    def _backward(self, clips: Batch, generators: Generators) -> dict[str, Tensor]:
        """Gradients of this rank's clips, in ``accumulate`` parts; returns mean ``loss`` and metrics over the clips."""
        total: dict[str, Tensor] = {}
        count = len(clips.frames_BTHWC)
        size = count // self.ranks.config.accumulate
        fraction = size / count
        for part in (slice(i, i + size) for i in range(0, count, size)):
            with autocast(self.ranks.device, self.ranks.precision):
                loss, metrics = self.stage.loss(clips.map(itemgetter(part)), generators[part])
            (loss * fraction).backward()
            for key, value in {"loss": loss.detach(), **metrics}.items():
                total[key] = total.get(key, 0) + value * fraction
        return total

    def plain_world(self, everywhere: bool = False) -> World | None:
        """A copy with plain models, to look at and to save, on the first rank or everywhere. All ranks take part."""
        keep, device = self.ranks.first or everywhere, self.ranks.device
        modules, outlines = self.modules, self.outlines
        plain = {name: gather(modules[name], outlines[name], device, keep) for name in modules}
        if not keep:
            return None
        world = copy.copy(self.stage.world)
        world.__dict__["_modules"] = {**world._modules, **plain}
        return world

    def finish(self) -> None:
        """Set the weights that are computed after the last step."""
        world = self.plain_world(everywhere=True)
        assert world is not None
        run_seed = self.seed - self.phase.seed
        finished = self.stage.finish(world.eval(), self.clips, self.config, run_seed)
        self.ranks.broadcast(finished.values())
        for name, value in finished.items():
            copy_whole(self.state[name], value)

    def record(self, step: int, run: Path, log: RunLog | None, saver: Saver, stopped: bool) -> bool:
        """Save a preview and a checkpoint where they are due; returns whether any was."""
        finished = step == self.config.steps
        shows = finished or step % self.config.preview_every == 0
        saves = finished or step % self.config.checkpoint_every == 0 or stopped
        if not shows and not saves:
            return False
        if saves and self.ranks.any(not all_finite(self.state.values())):
            raise diverged(self.phase, step, run)
        if finished:
            self.finish()
        world = self.plain_world()
        if shows and log and world:
            log.picture(step, self.stage.preview(world))
        if saves:
            saver.save(step, finished, self.state, partial(self.stage.export, world, run) if world else None)
        return True

    def close(self) -> None:
        """Put the models back into the stage's world, plain and on the CPU."""
        for name, module in self.modules.items():
            setattr(self.stage.world, name, gather(module, self.outlines[name], torch.device("cpu")))


def train(
    phase: Phase,
    stage: Stage,
    clips: Clips,
    run: Path,
    seed: int,
    ranks: Ranks,
    on_step: OnStep = lambda *_: None,
    deadline: float = math.inf,
) -> None:
    """Train a phase to its last step, from the newest checkpoint in the run's folder if there is one.

    Checkpoints, log and previews go to that folder. Afterwards the models of the stage's world are plain again, and on
    the CPU. At the deadline (`time.monotonic`) the run stops and saves, as if the user had stopped it.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGHUP came, or the deadline passed; the step was finished and saved.
        JinnError: the training has diverged, the batch cannot be split over the ranks, or a checkpoint cannot be read
            or written.
    """
    keep_freed_memory()
    config, rows = phase.config, ranks.rows(phase.config.batch)
    training = Training(phase, stage, ranks, clips, seed)
    checkpoints = run / "checkpoints" / phase.name
    with ExitStack() as stack:
        stop = stack.enter_context(stop_flag(again=ranks.size > 1))

        def is_stopped() -> bool:
            return ranks.any(stop.is_set() or time.monotonic() > deadline)

        step, finished = resume(checkpoints, training.state, ranks)
        if not finished and is_stopped():
            raise Interrupted(step)
        log = stack.enter_context(RunLog(run, phase.name, step, ranks.precision)) if ranks.first else None
        prefetch = stack.enter_context(Prefetch(clips, rows, step, config.steps))
        saver = stack.enter_context(Saver(checkpoints, ranks))
        meter = Meter(config.batch)
        if step == config.steps and not finished:  # such checkpoints were written by earlier versions
            training.record(step, run, log, saver, stopped=True)
        while step < config.steps:
            metrics = training.update(step, prefetch.take().map(partial(to_device, device=ranks.device)))
            step += 1
            meter.count(prefetch.waited)
            if step % config.log_every == 0 or step == config.steps:
                values = numbers(metrics, phase, step, run)  # only here the host waits for the GPU
                if log:
                    log.scalars(step, {"learning_rate": learning_rate(config, step - 1), **values}, meter)
            if log:
                on_step(phase.name, step, config.steps, log.last_loss, meter.clips_a_second)
            stopped = is_stopped()
            if training.record(step, run, log, saver, stopped):
                meter.pause()
            if stopped:  # also in the last step: the next phase must not begin
                saver.wait()
                raise Interrupted(step)
        saver.wait()
        if ranks.any(stop.is_set()):  # while the last checkpoint was written
            raise Interrupted(step)
    training.close()


def numbers(metrics: Mapping[str, Tensor], phase: Phase, step: int, run: Path) -> dict[str, float]:
    """The figures of a step for the log; raises `JinnError` if the training has diverged."""
    values = {key: float(value) for key, value in metrics.items()}
    if not math.isfinite(values["loss"]):
        raise diverged(phase, step, run)
    return values


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers of tensors, of sharded ones this rank's, are finite."""
    local = (x.to_local() if isinstance(x, DTensor) else x for x in tensors)
    return all(bool(x.isfinite().all()) for x in local)


def diverged(phase: Phase, step: int, run: Path) -> JinnError:
    """What to say and do when the loss or a weight is no longer a number; what is saved is older than that."""
    saved = run / "checkpoints" / phase.name
    first = f"remove {saved} and " if newest(saved) else ""
    return JinnError(
        f"the training of the phase {phase.name} has diverged (step {step}): {first}train again with a lower "
        f"--set {phase.setting}.learning_rate than {phase.config.learning_rate:g}"
    )


class Prefetch(AbstractContextManager["Prefetch"]):
    """Loads clips of the batches from ``step`` to ``steps`` on a thread, ``ahead`` batches before they are taken.

    ``waited`` is the time in seconds that the last `take` had to wait.
    """

    def __init__(self, clips: Clips, rows: range, step: int, steps: int, ahead: int = 2) -> None:
        self._clips, self._rows, self._ahead = clips, rows, ahead
        self._steps = iter(range(step, steps))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="jinn-clips")
        self._ready: deque[Future[Batch]] = deque()
        self.waited = 0.0
        self._fill()

    def _fill(self) -> None:
        while len(self._ready) < self._ahead and (step := next(self._steps, None)) is not None:
            self._ready.append(self._pool.submit(self._load, step))

    def _load(self, step: int) -> Batch:
        def pinned(tensor: Tensor) -> Tensor:
            return tensor.pin_memory() if tensor.device.type == "cpu" else tensor

        clips = self._clips(step, self._rows)
        return clips.map(pinned) if torch.cuda.is_available() else clips

    def take(self) -> Batch:
        """The clips of the next step."""
        began = time.perf_counter()
        clips = self._ready.popleft().result()
        self.waited = time.perf_counter() - began
        self._fill()
        return clips

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def stop_flag(again: bool = False) -> Iterator[threading.Event]:
    """An event set by Ctrl-C, SIGTERM or a closed terminal, so that a step is always finished before the run stops.

    A second Ctrl-C stops at once, unless ``again`` is set: torchrun repeats the signals that the terminal sent. A
    closed terminal is told more than once in any case, and not at all where nohup wants it so.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def stop(number: int, _frame: object) -> None:
        flag.set()
        if not again and number != closed:
            signal.signal(number, before[signal.Signals(number)])

    closed = getattr(signal, "SIGHUP", None)  # not on Windows
    numbers = [signal.SIGINT, signal.SIGTERM]
    if closed is not None and signal.getsignal(closed) != signal.SIG_IGN:
        numbers.append(closed)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
