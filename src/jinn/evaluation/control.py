"""Control: whether actions have an effect (Delta PSNR), and the effect that they should (action consistency)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from jinn.evaluation.catalogue import CONSISTENCY, DELTA_PSNR, DELTA_PSNR_4
from jinn.evaluation.estimate import Estimate, Records, bootstrap, exactly
from jinn.evaluation.metrics import psnr
from jinn.evaluation.rollouts import Rollouts
from jinn.world.world import World


def records(world: World, rollouts: Rollouts) -> Records:
    """Delta PSNR of each frame after the prompt ``BT`` (paper, section 3), and action consistency ``B``."""
    future_BTHWC = rollouts.real_BTHWC[:, 1:]
    own_BT = psnr(rollouts.generated[rollouts.regime], future_BTHWC)
    random_RBT = torch.stack([psnr(frames[:, 1:], future_BTHWC) for _, frames in rollouts.random])
    encode = world.infer_actions
    hits_RBT = torch.stack([encode(frames) == actions_BT for actions_BT, frames in rollouts.random])
    ceiling_BT = encode(rollouts.reconstructed_BTHWC) == rollouts.latent_BT
    return {
        DELTA_PSNR: own_BT - random_RBT.mean(0),
        CONSISTENCY: hits_RBT.double().mean((0, 2)),
        f"{CONSISTENCY}/reconstruction": ceiling_BT.double().mean(1),
    }


def estimates(world: World, clips: Records, seed: int) -> Iterator[tuple[str, Estimate]]:
    """Delta PSNR of frame 4, the paper's metric, and the chance level of action consistency."""
    yield DELTA_PSNR_4, bootstrap(clips[DELTA_PSNR][:, 4 - 1], seed)  # column 0 is the frame after the prompt
    # Random actions are uniform, so every way of guessing has this chance.
    yield f"{CONSISTENCY}/chance", exactly(1 / world.num_actions, len(clips[DELTA_PSNR]), seed)
