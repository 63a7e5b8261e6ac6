"""The loss of the dynamics on held-out clips: what scaling laws are fitted to."""

from __future__ import annotations

import torch
from torch import Tensor

from jinn.data.clips import Batch, clip_generators, read_actions
from jinn.data.store import FrameStore
from jinn.evaluation.clips import choose
from jinn.training.stages import DynamicsStage
from jinn.world.world import World

SEED = 0  # of the clips, their masks and their doubts: the same for every world


@torch.no_grad()
def held_out_loss(world: World, store: FrameStore, count: int) -> Tensor:
    """Nats a masked token of each of ``count`` clips that the world was not trained on, ``B``.

    Clips are as long as the window of the dynamics and masked as in training, so worlds can be compared that have the
    same tokenizer and masks. It is computed in float32.
    """
    clips = choose(store, [world], world.config.dynamics.transformer.window, count, SEED).measured
    stage = DynamicsStage(world, torch.empty(0))
    losses = []
    for row, generator in enumerate(clip_generators(SEED, range(len(clips)))):
        one = clips.rows(slice(row, row + 1))
        frames_BTHWC = one.read()
        actions_BTm1 = read_actions(one.store, one.episodes, one.starts, one.frames)
        batch = Batch(frames_BTHWC, actions_BTm1, frames_BTHWC[:, 0]).map(lambda x: x.to(world.device))
        losses.append(stage.loss(batch, [generator])[0].cpu())
    return torch.stack(losses)
