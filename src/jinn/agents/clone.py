"""Behaviour cloning from video (paper section 3.3, appendix E).

Latent actions label videos of an expert, and a policy learns to predict the latent action of a frame. A dictionary,
filled from a few steps with known true actions, maps latent actions to input actions: `jinn.world.keys`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.contracts import JinnError, as_frames, as_integers, describe, find_device


@dataclass(frozen=True)
class CloneConfig:
    """How a policy is cloned.

    Attributes:
        steps: number of optimiser steps.
        batch: frames per step.
        learning_rate: of Adam; falls linearly to 0.
        shift: largest random shift of the frames in pixels, without which the policy overfits the videos.
    """

    steps: int = 2_000
    batch: int = 128
    learning_rate: float = 1e-3
    shift: int = 3


def clone(
    frames_XHWC: Tensor | np.ndarray,
    actions_X: Tensor | np.ndarray,
    num_actions: int,
    config: CloneConfig | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    network: Network | None = None,
    on_step: Callable[[int, float], None] = lambda *_: None,
) -> Network:
    """Learn which action follows a frame. The paper's policy also sees the three frames before; ours one.

    Args:
        frames_XHWC: uint8, X frames in any order.
        actions_X: integers, the action taken in each; frames with a negative one are left out.
        num_actions: number of actions, latent or true, whichever `actions_X` are.
        seed: of weights, order and shifts.
        network: to train; None makes a new one.
        on_step: is called with the number of steps done and the loss.

    Raises:
        JinnError: there is no such device, no frame has an action, or one has an action that does not exist.
    """
    config, device = config or CloneConfig(), find_device(device)
    frames_XHWC = as_frames(frames_XHWC[:, None]).squeeze(1)
    given_X = as_integers(actions_X)
    if given_X is None or given_X.shape != frames_XHWC.shape[:1]:
        raise JinnError(
            f"actions are integers, one for each of {len(frames_XHWC)} frames: got {describe(actions_X)}"
        )
    actions_X = given_X
    known_K = (actions_X >= 0).nonzero().squeeze(-1)
    if len(known_K) == 0:
        raise JinnError("there is no frame with an action to learn from")
    if int(actions_X.max()) >= num_actions:
        raise JinnError(f"an action of {int(actions_X.max())} where there are {num_actions} of them")
    if network is None:
        height, width = frames_XHWC.shape[1:3]
        network = new_network(NetworkConfig(num_actions, (height, width)), seed)
    network = network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.steps)
        rows_B = known_K[torch.randint(len(known_K), (config.batch,), generator=generator)]
        frames_BHWC = shifted(frames_XHWC[rows_B], config.shift, generator).to(device)
        loss = F.cross_entropy(network(frames_BHWC)[0], actions_X[rows_B].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        on_step(step + 1, loss.item())
    return network.eval()


def shifted(frames_BHWC: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    """Each frame shifted by up to ``largest`` pixels along both axes, padded with its edge."""
    if not largest:
        return frames_BHWC
    _, H, W, _ = frames_BHWC.shape
    shifts_B2 = torch.randint(-largest, largest + 1, (len(frames_BHWC), 2), generator=generator)
    rows_BH = (torch.arange(H) + shifts_B2[:, :1]).clamp(0, H - 1)
    columns_BW = (torch.arange(W) + shifts_B2[:, 1:]).clamp(0, W - 1)
    each_B11 = torch.arange(len(frames_BHWC))[:, None, None]
    return frames_BHWC[each_B11, rows_BH[:, :, None], columns_BW[:, None, :]]
