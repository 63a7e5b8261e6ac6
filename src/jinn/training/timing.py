"""How long a run takes on this machine: measured before it begins, from some steps of each of its phases."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from jinn.data.clips import Batch
from jinn.training.checkpoints import steps_done
from jinn.training.loop import Phase, Training
from jinn.training.parallel import Ranks
from jinn.world.world import World

STEPS, SECONDS = 3, 2.0  # steps of a phase that are timed, and after how many seconds no other one is begun


@dataclass(frozen=True)
class Estimate:
    """Seconds that are left of a run.

    Attributes:
        phases: name and seconds of each phase that is not finished, in their order.
        first_world: seconds until there is a world to play, None if there is one already.
    """

    phases: tuple[tuple[str, float], ...]
    first_world: float | None


OnEstimate = Callable[[Estimate], None]


def announce(
    on_estimate: OnEstimate | None, planned: tuple[Phase, ...], world: World, run: Path, ranks: Ranks
) -> None:
    """Tell what `estimate` finds, if somebody asks and it finds anything."""
    if on_estimate is not None and (found := estimate(planned, world, run, ranks)):
        on_estimate(found)


def estimate(planned: tuple[Phase, ...], world: World, run: Path, ranks: Ranks) -> Estimate | None:
    """Measure how long the rest of a run takes; the world and all randomness stay as they are.

    Previews and checkpoints are not counted. None where steps are not alike (compiled ones), or where several
    processes would have to take part.
    """
    if ranks.size > 1 or ranks.config.compile:
        return None
    found, total, first_world = [], 0.0, None
    for phase in planned:
        config, done = phase.config, steps_done(run / "checkpoints" / phase.name)
        if done >= config.steps:
            continue
        seconds = seconds_of_step(phase, world, ranks)
        if first_world is None and "dynamics" in phase.learns:
            first_world = total + seconds * (min(config.checkpoint_every, config.steps) - done)
        found.append((phase.name, seconds * (config.steps - done)))
        total += found[-1][1]
    return Estimate(tuple(found), None if (run / "world" / "config.json").exists() else first_world)


def seconds_of_step(phase: Phase, world: World, ranks: Ranks) -> float:
    """Seconds of a step of a phase, by a copy of the world and clips of noise: what they show takes no time."""
    config, generator = phase.config, torch.Generator().manual_seed(0)
    shape = (config.batch, config.frames, *world.size_hw, 3)
    frames_BTHWC = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    batch = Batch(
        frames_BTHWC, torch.zeros(config.batch, config.frames - 1, dtype=torch.int64), frames_BTHWC[:, 0]
    )
    trial = copy.deepcopy(world).to(ranks.device)
    stage = phase.stage(trial, frames_BTHWC[:1].to(ranks.device))
    training = Training(
        phase, stage, ranks, lambda _, rows: batch.map(lambda x: x[rows.start : rows.stop]), 0
    )
    clips = batch.map(lambda x: x.to(ranks.device))
    seconds: list[float] = []
    while len(seconds) <= STEPS and sum(seconds) < SECONDS:
        began = time.perf_counter()
        training.update(0, clips)
        if ranks.device.type == "cuda":
            torch.cuda.synchronize(ranks.device)
        seconds.append(time.perf_counter() - began)
    del training, stage, trial, clips
    if ranks.device.type == "cuda":
        torch.cuda.empty_cache()  # the frames are kept on the GPU where they fit
    return min(seconds[1:] or seconds)  # the first one also prepares what the others use
