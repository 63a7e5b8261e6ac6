"""Features of motion, measured on pixels alone: for a distance that sees time.

FVD barely notices when the frames of a clip are shuffled (its network mostly recognises what it sees). The
features here see nothing but motion: after "Frechet Video Motion Distance" (arXiv 2407.16124), with block
matching instead of tracked points, so that no network and no weights are needed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.world.motion import displacements

BLOCK = 8  # side of a block, pixels of the downsampled frame
RADIUS = 5  # search radius, pixels of the downsampled frame
# Grey levels by which the error must fall for each pixel of displacement: a region of one colour fits
# everywhere, and should not move.
PENALTY = 0.5
EDGES = (-2.5, -0.5, 0.5, 2.5)  # between the classes of a displacement: fast, slow, none, slow, fast


def block_motion(frames_BTHWC: Tensor) -> Tensor:
    """Displacement of the content of each block: int64 ``B(T-1)YX2`` (down, right), pixels of the downsampled frame.

    Frames are made grey and downsampled by a whole number to at least 64 pixels a side, then each block of the
    newer frame is searched in the older one.
    """
    grey = frames_BTHWC.float().mean(-1)
    grey = F.avg_pool2d(grey, max(1, min(grey.shape[2:]) // 64))
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
    classes = torch.bucketize(motion, torch.tensor(EDGES, device=motion.device))
    cells_BX = (classes[..., 0] * (len(EDGES) + 1) + classes[..., 1]).flatten(1)
    return 100 * F.one_hot(cells_BX, (len(EDGES) + 1) ** 2).float().mean(1)


def mean_change(frames_BTHWC: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring frames in grey levels, float32 ``B``."""
    return (frames_BTHWC[:, 1:].float() - frames_BTHWC[:, :-1].float()).abs().mean((1, 2, 3, 4))
