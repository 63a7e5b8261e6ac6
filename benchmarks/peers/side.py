"""What the comparison asks of an implementation: its training steps, and its world as a contestant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jinn.evaluation.leaderboard import Contestant

WINDOW = 8  # frames of a clip in training, and that a prediction sees, the predicted one included
BATCH = 8  # clips in a step
ACTIONS = 8
PATCH = 8  # pixels a side of what becomes one token
STAGES = ("tokenizer", "latent actions", "dynamics")  # in the order of training
SHARES = {"tokenizer": 0.35, "latent actions": 0.1, "dynamics": 0.55}  # of the seconds of training


@dataclass(frozen=True)
class Side:
    """An implementation, built for frames of 64 x 64 pixels.

    Attributes:
        name: shown in the table, with what version it is.
        parameters: of each of `STAGES`.
        step: of each stage a whole training step on uint8 ``frames_BTHWC``: loss, backward, clipping, optimiser.
        train: trains all stages for so many steps each on the clips that a function of the step gives, and returns the
            world.
    """

    name: str
    parameters: dict[str, int]
    step: dict[str, Callable[[Tensor], object]]
    train: Callable[[dict[str, int]], Contestant]


def memory(make: Callable[[], Side], stage: str, frames_BTHWC: np.ndarray) -> float:
    """Megabytes of this process at most during three training steps, beyond what it has before them (Linux)."""
    step, batch_BTHWC = make().step[stage], torch.from_numpy(frames_BTHWC)
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is forgotten
    before = resident("VmRSS")
    for _ in range(3):
        step(batch_BTHWC)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """A size of this process in megabytes: "VmRSS" is the present one, "VmHWM" the largest."""
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024
