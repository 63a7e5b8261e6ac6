"""The one training loop, for every stage and any number of processes.

A run is a pure function of its config, its store and its seed: the n-th clip of the run, and the chance that
goes with it, are derived from (seed, n). So a checkpoint needs weights, optimiser state and the step; a run
that was killed ends with the same weights as one that was not; and it may go on on more GPUs or fewer.
"""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from jinn.contracts import Chance, JinnError, to_device
from jinn.data.clips import chance_of
from jinn.memory import keep_freed_memory
from jinn.training.checkpoints import Saver, resume, state_of
from jinn.training.log import Meter, RunLog
from jinn.training.optim import TrainingConfig, autocast, learning_rate, make_optimizers
from jinn.training.parallel import Ranks, clip_gradients, gather, outline, spread
from jinn.world.rollout import World

# (step, rows of its batch) -> uint8 frames_BTHWC; the same step and row is the same clip, whoever asks.
Clips = Callable[[int, range], Tensor]

# So many clips of step 0 tell a stage what it must know of the data before it begins.
FIRST_CLIPS = 64


class Stage(Protocol):
    """What one phase computes; `jinn.training.stages` has those of the paper.

    Attributes:
        name: of the phase.
        world: all models.
        learns: names of those that the optimiser moves and the checkpoint keeps.
    """

    name: str
    world: World

    @property
    def learns(self) -> tuple[str, ...]: ...

    def begin(self, first_BTHWC: Tensor, chance: torch.Generator) -> list[Tensor]:
        """Look at the first clips of the run, whatever step it goes on from, with the models still plain.

        Returns:
            What was set, for all ranks to have alike.
        """
        ...

    def loss(self, step: int, frames_BTHWC: Tensor, chance: Chance) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a part of a step's batch, and figures: all are means over clips."""
        ...

    def preview(self, world: World) -> np.ndarray:
        """A picture of how well it goes, uint8 HWC; all models of this world are plain."""
        ...

    def export(self, world: World, run: Path) -> None:
        """Write what this phase is for into the run's folder."""
        ...


class Interrupted(Exception):  # noqa: N818 it is no error
    """The user stopped the run; it is saved and goes on from ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


def train(
    stage: Stage,
    clips: Clips,
    config: TrainingConfig,
    run: Path,
    seed: int,
    ranks: Ranks,
    on_step: Callable[[str, int, int, float, float], None] = lambda *_: None,
) -> None:
    """Train a stage to its last step, from its newest checkpoint if there is one.

    Args:
        stage: what is trained. Afterwards the models of its world are plain again, and on the CPU.
        clips: where clips come from.
        config: how.
        run: the run's folder; checkpoints, log and previews go there.
        seed: of the run.
        ranks: who trains.
        on_step: told (stage, steps done, of all, last logged loss, clips a second).

    Raises:
        Interrupted: SIGINT or SIGTERM came; the step was finished and saved.
        JinnError: the loss is no longer a number, or the batch cannot be split over the ranks.
    """
    keep_freed_memory()
    world, device, rows = stage.world, ranks.device, ranks.rows(config.batch)
    first_BTHWC = to_device(clips(0, range(min(config.batch, FIRST_CLIPS))), device)
    modules = {name: world.get_submodule(name) for name in stage.learns}
    for module in modules.values():
        module.train()
    ranks.share(stage.begin(first_BTHWC, torch.Generator().manual_seed(seed)))
    outlines = {name: outline(module) for name, module in modules.items()}
    for module in modules.values():
        spread(module, ranks)
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizers = make_optimizers(config, modules.values())
    state = state_of(modules, optimizers)
    checkpoints = run / "checkpoints" / stage.name
    step = resume(checkpoints, state, ranks)

    def plain_world() -> World | None:
        """What is looked at and written: a copy, on the first rank. All ranks take part."""
        plain = {name: gather(modules[name], outlines[name], device, ranks.first) for name in modules}
        return with_models(world, {k: v for k, v in plain.items() if v}) if ranks.first else None

    with (
        RunLog(run, stage.name, step, ranks.precision) if ranks.first else nullcontext() as log,
        stop_flag(again=ranks.size > 1) as stop,
        Prefetch(clips, rows, step, config.steps) as prefetch,
        Saver(checkpoints, ranks) as saver,
    ):
        meter = Meter(config.batch)
        while step < config.steps:
            frames_BTHWC = to_device(prefetch.take(), device)
            meter.wait(prefetch.waited)
            chance = chance_of(seed, range(step * config.batch + rows.start, step * config.batch + rows.stop))
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            figures = add_gradients(stage, step, frames_BTHWC, chance, ranks)
            figures = ranks.mean(figures)
            if config.clip_norm:
                figures["gradient_norm"] = clip_gradients(parameters, config.clip_norm)
            rate = learning_rate(config, step)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
            step += 1
            meter.count()
            finished = step == config.steps
            if step % config.log_every == 0 or finished:
                # The only place where the host waits for the GPU.
                values = {"learning_rate": rate, **{key: float(value) for key, value in figures.items()}}
                if not np.isfinite(values["loss"]):
                    raise JinnError(
                        f"the loss of {stage.name} is {values['loss']} at step {step}: "
                        "lower the learning rate and train again from the last checkpoint"
                    )
                if log:
                    log.scalars(step, values, meter)
            if log:
                on_step(stage.name, step, config.steps, log.last_loss, meter.clips_a_second)
            stopped = ranks.any(stop.is_set())
            looks = step % config.preview_every == 0 or finished
            saves = step % config.checkpoint_every == 0 or finished or stopped
            if looks or saves:
                plain = plain_world()
                if looks and log and plain:
                    log.picture(step, stage.preview(plain))
                if saves:
                    saver.save(step, state, partial(stage.export, plain, run) if plain else lambda: None)
                meter.pause()
            if stopped and not finished:
                saver.wait()
                raise Interrupted(step)
        saver.wait()
        if ranks.any(stop.is_set()):  # in the last step, or while it was saved: the next phase must not begin
            raise Interrupted(step)
    for name, module in modules.items():
        setattr(world, name, gather(module, outlines[name], torch.device("cpu")))


def add_gradients(
    stage: Stage, step: int, frames_BTHWC: Tensor, chance: Chance, ranks: Ranks
) -> dict[str, Tensor]:
    """Forward and backward of this rank's clips, in ``ranks.config.accumulate`` parts one after another.

    Returns:
        ``loss`` and the stage's figures: means over the clips.
    """
    total: dict[str, Tensor] = {}
    size = len(frames_BTHWC) // ranks.config.accumulate
    share = size / len(frames_BTHWC)
    for i in range(0, len(frames_BTHWC), size):
        with autocast(frames_BTHWC.device, ranks.precision):
            loss, figures = stage.loss(step, frames_BTHWC[i : i + size], chance[i : i + size])
        (loss * share).backward()
        for key, value in {"loss": loss.detach(), **figures}.items():
            total[key] = total.get(key, 0) + value * share
    return total


def with_models(world: World, models: dict[str, nn.Module]) -> World:
    """The world with some models exchanged; the rest is shared with it."""
    other = copy.copy(world)
    other.__dict__["_modules"] = {**world._modules, **models}
    return other


class Prefetch:
    """Loads clips on a thread while the steps before them compute.

    Args:
        clips: where they come from.
        rows: those of each batch that are wanted.
        step: the first.
        steps: where it ends.
        ahead: so many batches are kept ready.

    Attributes:
        waited: seconds that the last `take` had to wait.
    """

    def __init__(self, clips: Clips, rows: range, step: int, steps: int, ahead: int = 2) -> None:
        self._clips, self._rows, self._ahead = clips, rows, ahead
        self._steps = iter(range(step, steps))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="jinn-clips")
        self._ready: deque[Future[Tensor]] = deque()
        self.waited = 0.0
        self._order()

    def _order(self) -> None:
        while len(self._ready) < self._ahead and (step := next(self._steps, None)) is not None:
            self._ready.append(self._pool.submit(self._load, step))

    def _load(self, step: int) -> Tensor:
        frames_BTHWC = self._clips(step, self._rows)
        pin = torch.cuda.is_available() and frames_BTHWC.device.type == "cpu"
        return frames_BTHWC.pin_memory() if pin else frames_BTHWC

    def take(self) -> Tensor:
        """The clips of the next step."""
        began = time.perf_counter()
        frames_BTHWC = self._ready.popleft().result()
        self.waited = time.perf_counter() - began
        self._order()
        return frames_BTHWC

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def stop_flag(again: bool = False) -> Iterator[threading.Event]:
    """An event set by Ctrl-C or SIGTERM, so that a step is always finished before the run stops.

    Args:
        again: a second signal changes nothing either: torchrun repeats those that the terminal sent.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def stop(number: int, _frame: object) -> None:
        flag.set()
        if not again:
            signal.signal(number, before[signal.Signals(number)])  # a second Ctrl-C stops at once

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
