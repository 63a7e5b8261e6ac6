"""Pretrained networks of an evaluation: those that are installed, and of use for the clips."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from jinn.evaluation.i3d import I3D, SHORTEST
from jinn.evaluation.lpips import LPIPS, SMALLEST
from jinn.evaluation.pretrained import MissingWeights, i3d_weights, lpips_weights


@dataclass(frozen=True)
class Networks:
    """Pretrained networks, None where their weights are not installed.

    Attributes:
        i3d: the network of FVD.
        alexnet: the network of LPIPS and of the frame distance.
        missing: a sentence for each network that is missing.
        device: where features are computed.
    """

    i3d: I3D | None
    alexnet: LPIPS | None
    missing: tuple[str, ...]
    device: torch.device | str = "cpu"


def load_networks(device: torch.device, size_hw: tuple[int, int], frames: int) -> Networks:
    """Load the installed networks that can process such clips; raises `JinnError` if a file of weights is damaged."""
    i3d, alexnet, missing = None, None, []
    try:
        if frames < SHORTEST:
            raise MissingWeights(f"FVD needs at least {SHORTEST} frames: measure more (--frames {SHORTEST})")
        i3d = I3D(i3d_weights()).to(device)
    except MissingWeights as error:
        missing.append(f"{error}.")
    try:
        if min(size_hw) < SMALLEST:
            raise MissingWeights(f"LPIPS needs frames of {SMALLEST} pixels a side: store larger ones")
        alexnet = LPIPS(lpips_weights()).to(device)
    except MissingWeights as error:
        missing.append(f"{error}.")
    return Networks(i3d, alexnet, tuple(missing), device)
