"""Frames cut into square patches and put together again (paper section 2: the first layer of every model)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grid_of(size_hw: tuple[int, int], patch: int) -> tuple[int, int]:
    """Rows and columns of patches that cover a frame; the last patch may reach over the edge (90 / 4)."""
    return -(-size_hw[0] // patch), -(-size_hw[1] // patch)


def position_embedding(tokens: int, width: int) -> nn.Parameter:
    """The initial ``position_ND`` of a frame's patches, which the models learn."""
    # Not randn: without data (on the device meta) it takes a second to import what computes its shape.
    return nn.Parameter(torch.empty(tokens, width).normal_() * 0.02)


def patchify(pixels_BTHWC: Tensor, patch: int) -> Tensor:
    """``BTHWC`` to ``BTN(patch * patch * C)``, patches row by row, zero-padded beyond the edge."""
    B, T, H, W, C = pixels_BTHWC.shape
    rows, columns = grid_of((H, W), patch)
    x = F.pad(pixels_BTHWC, (0, 0, 0, columns * patch - W, 0, rows * patch - H))
    x = x.reshape(B, T, rows, patch, columns, patch, C)
    return x.transpose(3, 4).reshape(B, T, rows * columns, patch * patch * C)


def unpatchify(patches_BTNP: Tensor, patch: int, size_hw: tuple[int, int]) -> Tensor:
    """The inverse of `patchify`; the padding beyond the edge is cut off."""
    B, T = patches_BTNP.shape[:2]
    rows, columns = grid_of(size_hw, patch)
    x = patches_BTNP.reshape(B, T, rows, columns, patch, patch, -1)
    x = x.transpose(3, 4).reshape(B, T, rows * patch, columns * patch, -1)
    return x[:, :, : size_hw[0], : size_hw[1]]
