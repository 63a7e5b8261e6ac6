"""How the picture and the player move, measured on pixels alone."""

from __future__ import annotations

import torch
from torch import Tensor


def displacements(radius: int, device: torch.device | str = "cpu") -> Tensor:
    """All displacements (down, right) of up to ``radius`` pixels, int64 ``M2``, the shortest first."""
    side = torch.arange(-radius, radius + 1)
    all_M2 = torch.cartesian_prod(side, side)
    return all_M2[all_M2.square().sum(-1).argsort(stable=True)].to(device)


def global_motion(frames_BTHWC: Tensor, radius: int = 8) -> Tensor:
    """How the whole picture moves between neighbours: int64 ``B(T-1)2`` (down, right) in pixels.

    The displacement of up to ``radius`` pixels with the least mean absolute difference over the middle of
    the frame; of equals the smallest.
    """
    grey = frames_BTHWC.float().mean(-1)
    H, W = grey.shape[2:]
    radius = min(radius, H // 4, W // 4)
    middle = grey[:, 1:, radius : H - radius, radius : W - radius]
    shifts_M2 = displacements(radius)
    costs = torch.stack(
        [
            (grey[:, :-1, radius - dy : H - radius - dy, radius - dx : W - radius - dx] - middle)
            .abs()
            .mean(dim=(-2, -1))
            for dy, dx in shifts_M2.tolist()
        ],
        dim=-1,
    )
    return shifts_M2[costs.cpu().argmin(-1)]


def player_motion(frames_BTHWC: Tensor) -> Tensor:
    """How the player moves between neighbours, as far as pixels tell: float64 ``B(T-1)2`` (down, right).

    Where the camera follows the player, the picture scrolls the other way. Where it is static, the player
    is what differs from the clip's background (its median frame), and moves as its middle does.
    """
    pixels = frames_BTHWC.float()
    changed_BT = ((pixels[:, 1:] - pixels[:, :-1]).abs().mean(-1) > 8).float().mean((2, 3)).cpu()
    scrolling = global_motion(frames_BTHWC).double()
    # A bright sprite alone can make a shift of the whole picture fit: but then most of it does not change.
    scrolls_BT = (scrolling.abs().sum(-1) > 0) & (changed_BT > 0.1)
    if float(scrolls_BT.double().mean()) >= 0.05:
        return -scrolling
    weight = (pixels - pixels.median(dim=1, keepdim=True).values).abs().mean(-1).cpu().double()
    weight = weight * (weight > 8)  # grey levels: compression and sampling noise is not the player
    H, W = weight.shape[2:]
    total = weight.sum((2, 3))
    down = (weight.sum(3) * torch.arange(H)).sum(2) / total
    right = (weight.sum(2) * torch.arange(W)).sum(2) / total
    middle = torch.stack([down, right], dim=-1)
    return (middle[:, 1:] - middle[:, :-1]).nan_to_num(0.0)
