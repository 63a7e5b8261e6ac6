"""What latent actions mean: how things move while one is taken, and what they share with a game's keys."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jinn.data.store import FrameStore
from jinn.evaluation.metrics import bootstrap, joint_counts, mutual_information
from jinn.evaluation.motion import player_motion
from jinn.evaluation.results import Figure
from jinn.world.legend import ActionMeaning
from jinn.world.world import World


@torch.inference_mode()
def describe_actions(world: World, frames_BTHWC: Tensor, batch: int = 16) -> tuple[ActionMeaning, ...]:
    """Name each latent action after the player's mean motion in the frames that it explains.

    Args:
        world: its latent action model labels the clips.
        frames_BTHWC: uint8 clips of real video, of at least 2 frames; from 3 on a player is found also where
            the camera stands still.
    """
    codes = [world.latent_actions.encode(x.to(world.device)) for x in frames_BTHWC.split(batch)]
    return describe(torch.cat(codes).cpu(), player_motion(frames_BTHWC), world.num_actions)


def describe(codes_BT: Tensor, motion_BT2: Tensor, num_actions: int) -> tuple[ActionMeaning, ...]:
    """`describe_actions` of known codes and motions (down, right)."""
    codes, motion = codes_BT.flatten(), motion_BT2.flatten(0, 1)
    means = np.zeros((num_actions, 2))
    shares = np.bincount(codes.numpy(), minlength=num_actions) / len(codes)
    for action in np.flatnonzero(shares):
        means[action] = motion[codes == action].mean(0).numpy()
    names = _names(means, shares)
    return tuple(
        ActionMeaning(name, round(float(down), 3), round(float(right), 3), round(float(share), 4))
        for name, (down, right), share in zip(names, means, shares, strict=True)
    )


def shared_with_keys(labels_X: np.ndarray, store: FrameStore, num_actions: int) -> Figure | None:
    """Normalised mutual information of latent and true actions, in [0, 1]; intervals are over episodes.

    Args:
        labels_X: of `jinn.world.label.label`, int64, one a frame of the store.
        store: the videos, some of them with true actions; where none has, None is returned.
        num_actions: how many latent ones there are.
    """
    ends = np.cumsum(store.lengths)
    pairs = []
    for episode, (end, length) in enumerate(zip(ends, store.lengths, strict=True)):
        keys_T = store.actions(episode, 0, int(length))
        if keys_T is not None:
            pairs.append((labels_X[end - length : end], keys_T.astype(np.int64)))
    if not pairs:
        return None
    count = 1 + max(int(keys_T.max()) for _, keys_T in pairs)
    joint_BAU = [
        joint_counts(torch.from_numpy(a_T)[None], torch.from_numpy(u_T)[None], num_actions, count)
        for a_T, u_T in pairs
    ]
    return bootstrap(torch.cat(joint_BAU), 0, mutual_information, least=0, most=1)


def _names(means_A2: np.ndarray, shares_A: np.ndarray) -> tuple[str, ...]:
    """A name for each mean motion; of those that go one way, the fastest has the plain name."""
    names = [_name(*mean) if share else "unused" for mean, share in zip(means_A2, shares_A, strict=True)]
    speeds = np.hypot(*means_A2.T)
    fastest = {name: max(s for n, s in zip(names, speeds, strict=True) if n == name) for name in names}
    return tuple(
        name if speed == fastest[name] or name in ("stay", "unused") else f"{name} slowly"
        for name, speed in zip(names, speeds, strict=True)
    )


def _name(down: float, right: float, still: float = 0.4) -> str:
    # A direction counts if it is clearly there, and not drowned by the other.
    vertical = "" if abs(down) < max(still, abs(right) / 4) else "up" if down < 0 else "down"
    horizontal = "" if abs(right) < max(still, abs(down) / 4) else "left" if right < 0 else "right"
    return "-".join(part for part in (vertical, horizontal) if part) or "stay"
