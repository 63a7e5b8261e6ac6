"""The one training loop, for every stage.

A run is a pure function of its config, its store and its seed: the clips and the chance of step n are
derived from (seed, n), so a checkpoint needs weights, optimiser state and n, and a run that was killed
ends with the same weights as one that was not.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from jinn.checkpoint import load_weights, read_json, read_tensors, write_json, write_tensors
from jinn.contracts import JinnError
from jinn.memory import keep_freed_memory
from jinn.training.log import RunLog
from jinn.training.optim import TrainingConfig, autocast, learning_rate, make_optimizer

# step 0..n -> uint8 frames_BTHWC; the same step gives the same clips.
Clips = Callable[[int], Tensor]


class Stage(Protocol):
    """What one phase computes; `jinn.training.stages` has the two of the paper."""

    name: str

    def trainable(self) -> dict[str, nn.Module]:
        """The modules that the optimiser moves and the checkpoint keeps, by name."""
        ...

    def loss(
        self, step: int, frames_BTHWC: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and scalars for the log."""
        ...

    def preview(self) -> np.ndarray:
        """A picture of how well it goes, uint8 HWC."""
        ...

    def export(self, run: Path) -> None:
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
    device: torch.device,
    on_step: Callable[[str, int, int, float, float], None] = lambda *_: None,
) -> None:
    """Train a stage to its last step, from its newest checkpoint if there is one.

    Args:
        stage: what is trained.
        clips: where clips come from.
        config: how.
        run: the run's folder; checkpoints, log and previews go there.
        seed: of the run.
        device: where the stage's modules are.
        on_step: told (stage, steps done, of all, last logged loss, clips a second).

    Raises:
        Interrupted: SIGINT or SIGTERM came; the step was finished and saved.
        JinnError: the loss is no longer a number.
    """
    keep_freed_memory()
    modules = stage.trainable()
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizer = make_optimizer(config, modules.values())
    checkpoints = run / "checkpoints" / stage.name
    step = resume(checkpoints, modules, optimizer)
    # A generator on the CPU: the same chance on every device, and cheap beside a step.
    generator = torch.Generator()
    with RunLog(run, stage.name, step) as log, stop_flag() as stop, Prefetch(clips, step) as prefetch:
        meter = log.meter(config.batch)
        for module in modules.values():
            module.train()
        while step < config.steps:
            frames_BTHWC = prefetch.take(step, last=step + 1 == config.steps).to(device, non_blocking=True)
            generator.manual_seed((seed * 0x9E3779B1 + step * 0x85EBCA77 + 1) & (2**63 - 1))
            with autocast(device):
                loss, metrics = stage.loss(step, frames_BTHWC, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip_norm:
                metrics["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            rate = learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            step += 1
            finished = step == config.steps
            if step % config.log_every == 0 or finished:
                value = float(loss.detach())
                if not np.isfinite(value):
                    raise JinnError(
                        f"the loss of {stage.name} is {value} at step {step}: "
                        "lower the learning rate and train again from the last checkpoint"
                    )
                log.scalars(step, {"loss": value, "learning_rate": rate, **metrics}, meter)
            meter.count()
            on_step(stage.name, step, config.steps, log.last_loss, meter.clips_a_second)
            if step % config.preview_every == 0 or finished:
                log.picture(step, stage.preview())
                meter.pause()
            if step % config.checkpoint_every == 0 or finished or stop.is_set():
                save(checkpoints, step, modules, optimizer)
                stage.export(run)
                meter.pause()
            if stop.is_set() and not finished:
                raise Interrupted(step)


class Prefetch:
    """Loads the next step's clips on a thread while this step computes."""

    def __init__(self, clips: Clips, step: int) -> None:
        self._clips = clips
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="jinn-clips")
        self._next = self._pool.submit(clips, step)

    def take(self, step: int, last: bool) -> Tensor:
        """The clips of this step; starts on those of the next unless this is the last."""
        frames = self._next.result()
        if not last:
            self._next = self._pool.submit(self._clips, step + 1)
        return frames

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def stop_flag() -> Iterator[threading.Event]:
    """An event set by Ctrl-C or SIGTERM, so that a step is always finished before the run stops."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def stop(number: int, _frame: object) -> None:
        flag.set()
        signal.signal(number, before[signal.Signals(number)])  # a second Ctrl-C stops at once

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save(folder: Path, step: int, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint as a folder that appears whole; the older ones go."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".step-{step:08d}.{os.getpid()}.tmp"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    weights = {f"{m}.{k}": v for m, module in modules.items() for k, v in module.state_dict().items()}
    write_tensors(new / "weights.safetensors", weights)
    moments = {
        f"{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    write_tensors(new / "optimizer.safetensors", moments)
    write_json(new / "state.json", {"step": step})
    place = folder / f"step-{step:08d}"
    shutil.rmtree(place, ignore_errors=True)
    os.rename(new, place)
    for other in folder.iterdir():
        if other != place:
            shutil.rmtree(other, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder, if any."""
    if not folder.is_dir():
        return None
    return max((p for p in folder.iterdir() if re.fullmatch(r"step-\d{8,}", p.name)), default=None)


def resume(folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Load the newest checkpoint of a stage, if there is one, and return its step (else 0)."""
    place = newest(folder)
    if place is None:
        return 0
    weights = read_tensors(place / "weights.safetensors")
    for name, module in modules.items():
        own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
        load_weights(module, own, place)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in read_tensors(place / "optimizer.safetensors").items():
        index, _, entry = key.partition(".")
        state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(read_json(place / "state.json")["step"])
