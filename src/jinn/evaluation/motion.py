"""How things move, measured on pixels alone: for naming actions, and for a distance that sees time.

FVD barely notices when the frames of a clip are shuffled (its network mostly recognises what it sees). The
features here see nothing but motion: after "Frechet Video Motion Distance" (arXiv 2407.16124), with block
matching instead of tracked points, so that no network and no weights are needed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8  # side of a block, pixels of the downsampled frame
RADIUS = 5  # search radius, pixels of the downsampled frame
# Grey levels by which the error must fall for each pixel of displacement: a region of one colour fits
# everywhere, and should not move.
PENALTY = 0.5
EDGES = (-2.5, -0.5, 0.5, 2.5)  # between the classes of a displacement: fast, slow, none, slow, fast


def displacements(radius: int, device: torch.device | str = "cpu") -> Tensor:
    """All displacements (down, right) of up to ``radius`` pixels, int64 ``M2``, the shortest first."""
    side = torch.arange(-radius, radius + 1)
    all_M2 = torch.cartesian_prod(side, side)
    return all_M2[all_M2.square().sum(-1).argsort(stable=True)].to(device)


def block_motion(frames_BTHWC: Tensor) -> Tensor:
    """Displacement of the content of each block: int64 ``B(T-1)YX2`` (down, right), pixels of the downsampled frame.

    Frames are made grey and downsampled by a whole number to at least 64 pixels a side, then each block of the
    newer frame is searched in the older one.
    """
    grey = downsampled_grey(frames_BTHWC)
    B, T, H, W = grey.shape
    rows, columns = max(H // BLOCK, 1), max(W // BLOCK, 1)
    grey = grey[:, :, : rows * BLOCK, : columns * BLOCK]
    now = F.pad(grey[:, :-1], (RADIUS, RADIUS, RADIUS, RADIUS), mode="replicate")
    then = grey[:, 1:]
    H, W = then.shape[2:]
    moves_M2 = displacements(RADIUS, grey.device)
    best = torch.full((B, T - 1, rows, columns), torch.inf, device=grey.device)
    which = torch.zeros_like(best, dtype=torch.long)
    for m, (down, right) in enumerate(moves_M2.tolist()):
        moved = now[:, :, RADIUS - down : RADIUS - down + H, RADIUS - right : RADIUS - right + W]
        cost = F.avg_pool2d((moved - then).abs(), min(BLOCK, H, W))
        cost = cost + PENALTY * (down * down + right * right) ** 0.5
        better = cost < best
        best, which = torch.where(better, cost, best), torch.where(better, m, which)
    return moves_M2[which]


def motion_features(frames_BTHWC: Tensor) -> Tensor:
    """A clip's motion, float32 ``B50``: percents of velocities in 5 x 5 classes, and of accelerations.

    A velocity is a block's displacement between two frames, an acceleration the change of it from one pair
    of frames to the next. Shuffled frames, static clips and jerks change both; colours and shapes neither.
    """
    velocity = block_motion(frames_BTHWC).float()
    acceleration = velocity[:, 1:] - velocity[:, :-1]
    return torch.cat([_percentages(velocity), _percentages(acceleration)], dim=1)


def _percentages(motion: Tensor) -> Tensor:
    edges = torch.tensor(EDGES, device=motion.device)
    classes = torch.bucketize(motion, edges)
    cells_BX = (classes[..., 0] * (len(EDGES) + 1) + classes[..., 1]).flatten(1)
    return 100 * F.one_hot(cells_BX, (len(EDGES) + 1) ** 2).float().mean(1)


def mean_change(frames_BTHWC: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring frames in grey levels, float32 ``B``."""
    return (frames_BTHWC[:, 1:].float() - frames_BTHWC[:, :-1].float()).abs().mean((1, 2, 3, 4))


def downsampled_grey(frames_BTHWC: Tensor) -> Tensor:
    """Float grey levels in 0..255, ``BTHW``, downsampled by a whole number to at least 64 pixels a side."""
    grey = frames_BTHWC.float().mean(-1)
    factor = max(1, min(grey.shape[2:]) // 64)
    return F.avg_pool2d(grey, factor) if factor > 1 else grey


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
