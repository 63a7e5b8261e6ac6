"""What the comparison asks of an implementation: its training steps, and its world as a contestant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
