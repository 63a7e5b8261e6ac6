"""Cost volumes and moved pixels, for models of what moved between two frames (our own addition).

What a player does shows as motion, and motion is a product of two frames: a transformer on raw patches
discovers it late, long after the latent actions have collapsed. `matching_costs` computes it before the
encoder (the cost volume of optical flow networks), and `move` lets a decoder predict by moving the pixels of
the present frame (as in Finn et al. 2016) instead of painting every one anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.models.patches import grid_of, patchify
from jinn.models.transformer import TransformerConfig


@dataclass(frozen=True)
class MotionConfig:
    """What a model of motion reads of a clip, and the size of its encoder.

    Attributes:
        size_hw: height and width of the frames in pixels.
        patch: side of a patch in pixels of the downsampled frames.
        encoder: pairs of frames to what happened between them.
        search_radius: largest displacement that is matched (and moved by), in downsampled pixels, at least 1.
        downsample: side of the squares of pixels that are averaged first; 1 keeps the frames as they are.
    """

    size_hw: tuple[int, int] = (64, 64)
    patch: int = 8
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    search_radius: int = 4
    downsample: int = 2

    def __post_init__(self) -> None:
        if self.search_radius < 1 or self.downsample < 1:
            raise ValueError("search_radius and downsample are whole numbers of at least 1")

    @property
    def small_hw(self) -> tuple[int, int]:
        """Height and width of the downsampled frames."""
        return self.size_hw[0] // self.downsample, self.size_hw[1] // self.downsample

    @property
    def displacements(self) -> int:
        """M, the number of displacements that are matched."""
        return (2 * self.search_radius + 1) ** 2


def downsample(pixels_BTHWC: Tensor, side: int) -> Tensor:
    """The mean of each square of ``side`` pixels; what remains at the right and bottom edge is cut off."""
    H, W = pixels_BTHWC.shape[2] // side, pixels_BTHWC.shape[3] // side
    cropped = pixels_BTHWC[:, :, : H * side, : W * side]
    return cropped.unflatten(3, (W, side)).unflatten(2, (H, side)).mean(dim=(3, 5))


def stacked_pairs(pixels_BTHWC: Tensor, radius: int, patch: int) -> Tensor:
    """All that an encoder of motion reads of a clip: both frames of each step in one token, and `matching_costs`.

    Args:
        pixels_BTHWC: in [0, 1].
        radius: largest displacement that is matched, in pixels.
        patch: side of a patch.

    Returns:
        ``B(T-1)NP`` with ``P = 6 patch ** 2 + (2 radius + 1) ** 2``.
    """
    now, then = pixels_BTHWC[:, :-1], pixels_BTHWC[:, 1:]
    patches_BTNP = patchify(torch.cat([now, then], dim=-1), patch) - 0.5
    return torch.cat([patches_BTNP, matching_costs(now, then, radius, patch)], dim=-1)


def displaced(pixels_BTHWC: Tensor, radius: int) -> Tensor:
    """The frames moved by every displacement of up to ``radius`` pixels, edges repeated.

    Returns:
        ``BTMHWC`` with ``M = (2 radius + 1) ** 2``, row-major in (down, right); the middle one is no displacement.
    """
    B, T, H, W, C = pixels_BTHWC.shape
    x = pixels_BTHWC.permute(0, 1, 4, 2, 3).reshape(B, T * C, H, W)
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    x = x.view(B, T, C, H + 2 * radius, W + 2 * radius).permute(0, 1, 3, 4, 2)
    side = range(2 * radius, -1, -1)
    return torch.stack([x[:, :, dy : dy + H, dx : dx + W] for dy in side for dx in side], dim=2)


def matching_costs(now_BTHWC: Tensor, next_BTHWC: Tensor, radius: int, patch: int) -> Tensor:
    """How badly each displacement of the present explains each patch of the next frame.

    Returns:
        ``BTNM``, the mean absolute difference, standardised over M: flat patches, which say nothing about
        motion, stay near zero.
    """
    B, T, H, W, _ = now_BTHWC.shape
    now_XCHW, next_XCHW = (x.flatten(0, 1).permute(0, 3, 1, 2).contiguous() for x in (now_BTHWC, next_BTHWC))
    now_XCHW = F.pad(now_XCHW, (radius, radius, radius, radius), mode="replicate")
    rows, columns = grid_of((H, W), patch)
    padding = (0, columns * patch - W, 0, rows * patch - H)
    costs = []
    # One displacement after another, in the order of `displaced`: all at once do not fit into any cache.
    for dy, dx in product(range(2 * radius, -1, -1), repeat=2):
        error_X1HW = (now_XCHW[:, :, dy : dy + H, dx : dx + W] - next_XCHW).abs().mean(1, keepdim=True)
        costs.append(F.avg_pool2d(F.pad(error_X1HW, padding), patch).flatten(1))
    costs_BTNM = torch.stack(costs, dim=-1).unflatten(0, (B, T))
    centred = costs_BTNM - costs_BTNM.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True).sqrt() + 0.01)


def move(pixels_BTHWC: Tensor, weights_BTNM: Tensor, radius: int, patch: int) -> Tensor:
    """Predict each patch as a mixture of displaced frames.

    Args:
        pixels_BTHWC: the present frames.
        weights_BTNM: a distribution over the displacements of `displaced`, for each patch.
        radius: largest displacement in pixels.
        patch: side of a patch.
    """
    H, W = pixels_BTHWC.shape[2:4]
    rows, columns = grid_of((H, W), patch)
    weights = weights_BTNM.unflatten(2, (rows, columns))
    weights = weights.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[:, :, :H, :W]
    return torch.einsum("btmhwc,bthwm->bthwc", displaced(pixels_BTHWC, radius), weights)


def neighbourhood(patches_BTNP: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Each patch with the eight around it, ``BTN(9P)``, zero-padded beyond the edge."""
    rows, columns = grid_hw
    x = F.pad(patches_BTNP.unflatten(2, grid_hw), (0, 0, 1, 1, 1, 1))
    around = [x[:, :, dy : dy + rows, dx : dx + columns] for dy in range(3) for dx in range(3)]
    return torch.cat(around, dim=-1).flatten(2, 3)
