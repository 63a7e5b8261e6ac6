"""Factorised token embeddings: one class for VQ, whose tokens are one digit, and FSQ, whose tokens are several.

The vector of a token is the sum of the vectors of its digits. For a VQ this is the ordinary embedding table. For an
FSQ it lets a token have any number of codes, and codes with nearly the same digits, which look nearly the same,
begin with nearly the same vector. `jinn.models.digits` is the way back, from a vector to the digits of a token.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.models.quantize import split_digits


class TokenEmbedding(nn.Module):
    """A vector for each token: the sum of the vectors of its digits.

    Args:
        levels: of the digits; their product is K, the number of codes.
        width: D.
        std: standard deviation of a token's vector at initialisation.
        mask: whether token K is the mask, with a vector of its own.
    """

    def __init__(self, levels: tuple[int, ...], width: int, std: float, mask: bool = False) -> None:
        super().__init__()
        self.levels, self.mask_token = levels, math.prod(levels)
        # Not randn, for the reason in `jinn.models.patches.position_embedding`.
        digit_FD = torch.empty(sum(levels), width).normal_()
        self.digit_FD = nn.Parameter(digit_FD * (std / math.sqrt(len(levels))))
        self.mask_D = nn.Parameter(torch.empty(width).normal_() * std) if mask else None

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 tokens of any shape to vectors ``(..., D)``."""
        first_row_Q = torch.tensor([0, *self.levels[:-1]], device=tokens.device).cumsum(0)
        vectors = F.embedding(split_digits(tokens, self.levels) + first_row_Q, self.digit_FD).sum(-2)
        if self.mask_D is None:
            return vectors
        return torch.where((tokens == self.mask_token).unsqueeze(-1), self.mask_D, vectors)
