"""The action legend: names for people of what each action does, guessed from the motion it causes or known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import check_name
from jinn.world.motion import player_motion

if TYPE_CHECKING:
    from jinn.world.world import World


@dataclass(frozen=True)
class ActionMeaning:
    """What one action does.

    Attributes:
        name: a guess, such as "up-left", "stay" or "unused"; or the game's own name of a known action.
        down, right: mean motion in pixels per frame while it was taken, of the player as far as one can tell.
        fraction: of the frames in which it was taken, in [0, 1].
    """

    name: str
    down: float
    right: float
    fraction: float

    def __post_init__(self) -> None:
        check_name(self.name)


@torch.inference_mode()
def describe_actions(world: World, frames_BTHWC: Tensor, batch: int = 16) -> tuple[ActionMeaning, ...]:
    """Name each action after the player's mean motion in the frames that it explains; known ones keep their names.

    The clips are real video, uint8, with at least 2 frames; with 3 or more a player is found under a static camera too.
    """
    codes = [world.infer_actions(x.to(world.device)) for x in frames_BTHWC.split(batch)]
    names = world.action_names if world.has_known_actions else None
    return describe(torch.cat(codes).cpu(), player_motion(frames_BTHWC), world.num_actions, names)


def describe(
    codes_BT: Tensor, motion_BT2: Tensor, num_actions: int, names: Sequence[str] | None = None
) -> tuple[ActionMeaning, ...]:
    """`describe_actions` of known codes and motions (down, right); ``names`` are guessed if not given."""
    codes, motion = codes_BT.flatten(), motion_BT2.flatten(0, 1)
    means = np.zeros((num_actions, 2))
    fractions = np.bincount(codes.numpy(), minlength=num_actions) / len(codes)
    for action in np.flatnonzero(fractions):
        means[action] = motion[codes == action].mean(0).numpy()
    names = names or _names(means, fractions)
    return tuple(
        ActionMeaning(name, round(float(down), 3), round(float(right), 3), round(float(fraction), 4))
        for name, (down, right), fraction in zip(names, means, fractions, strict=True)
    )


def _names(means_A2: np.ndarray, fractions_A: np.ndarray) -> tuple[str, ...]:
    """A name for each mean motion; of actions with the same direction the fastest has the plain name."""
    names = [
        _name(*mean) if fraction else "unused" for mean, fraction in zip(means_A2, fractions_A, strict=True)
    ]
    speeds = np.hypot(*means_A2.T)
    fastest = {name: max(s for n, s in zip(names, speeds, strict=True) if n == name) for name in names}
    return tuple(
        name if speed == fastest[name] or name in ("stay", "unused") else f"{name} slowly"
        for name, speed in zip(names, speeds, strict=True)
    )


def _name(down: float, right: float, static: float = 0.4) -> str:
    # A direction is named if it is fast enough, and not negligible beside the other one.
    vertical = "" if abs(down) < max(static, abs(right) / 4) else "up" if down < 0 else "down"
    horizontal = "" if abs(right) < max(static, abs(down) / 4) else "left" if right < 0 else "right"
    return "-".join(part for part in (vertical, horizontal) if part) or "stay"
