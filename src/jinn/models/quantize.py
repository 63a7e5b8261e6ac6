"""Vector quantisation (van den Oord et al. 2017) and finite scalar quantisation (Mentzer et al. 2023).

Both map latents ``(..., dim)`` to a `Quantized`. Gradients reach the latents by the straight-through estimator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Weight of the commitment loss, as van den Oord et al. chose it; the paper does not print its own.
COMMITMENT = 0.25


class Quantized(NamedTuple):
    """What a quantiser returns.

    Attributes:
        latents: shaped like the input, but with values of the codebook only (straight-through).
        codes: int64, the input's shape without the last axis.
        loss: scalar to add to the objective (zero where the quantiser needs none).
    """

    latents: Tensor
    codes: Tensor
    loss: Tensor


@dataclass(frozen=True)
class VQConfig:
    """Vector quantisation, the paper's choice. The paper leaves the update rule and the weights open.

    Attributes:
        codes: size of the codebook.
        dim: latent dimension (32 in the paper).
    """

    codes: int = 1024
    dim: int = 32

    def __post_init__(self) -> None:
        if self.codes < 2 or self.dim < 1:
            raise ValueError(f"a codebook has at least 2 codes and 1 dimension, got {self.codes}, {self.dim}")


@dataclass(frozen=True)
class FSQConfig:
    """Each latent dimension is rounded to one of a few levels: nothing is learned, and nothing can collapse.

    Attributes:
        levels: levels of each dimension; their product is the size of the codebook.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"every dimension needs at least 2 levels, got {self.levels}")


class VQ(nn.Module):
    """Nearest code by Euclidean distance, trained by the codebook loss and the commitment loss.

    Attributes:
        size, levels: K, and ``(K,)``: a token is one digit.
    """

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.size, self.dim, self.levels = config.codes, config.dim, (config.codes,)
        self.codebook_KD = nn.Parameter(torch.empty(config.codes, config.dim))
        nn.init.normal_(self.codebook_KD)

    def forward(self, latents: Tensor) -> Quantized:
        flat_ND = latents.reshape(-1, self.dim).float()
        with torch.no_grad():
            codes_N = torch.cdist(flat_ND, self.codebook_KD.float()).argmin(-1)
        chosen_ND = self.codebook_KD[codes_N]
        loss = F.mse_loss(chosen_ND, flat_ND.detach())
        loss = loss + COMMITMENT * F.mse_loss(flat_ND, chosen_ND.detach())
        straight_through = flat_ND + (chosen_ND - flat_ND).detach()
        return Quantized(straight_through.view_as(latents), codes_N.view(latents.shape[:-1]), loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes to latents ``(..., dim)``."""
        return self.codebook_KD[codes]

    @torch.no_grad()
    def cluster(self, latents: Tensor, generator: torch.Generator, rounds: int = 50, starts: int = 1) -> None:
        """Set the whole codebook to the k-means of the given latents ``(..., dim)``.

        Args:
            latents: from a few batches.
            generator: for the initial centres (k-means++).
            rounds: iterations of Lloyd's algorithm.
            starts: number of initialisations, of which the one with the lowest error is kept. A single one may give a
                rare but distinct group, such as walking left, no code of its own (docs/research-log.md).
        """
        flat_ND = latents.reshape(-1, self.dim).float()
        errors, codebooks = [], []
        for _ in range(starts):
            codes_KD = initial_centres(flat_ND, self.size, generator)
            for _ in range(rounds):
                nearest_N = torch.cdist(flat_ND, codes_KD).argmin(-1)
                sums_KD = torch.zeros_like(codes_KD).index_add_(0, nearest_N, flat_ND)
                counts_K = torch.bincount(nearest_N, minlength=self.size)
                used_K = counts_K > 0
                codes_KD[used_K] = sums_KD[used_K] / counts_K[used_K, None]
            errors.append(float(torch.cdist(flat_ND, codes_KD).amin(-1).square().mean()))
            codebooks.append(codes_KD)
        self.codebook_KD.copy_(codebooks[errors.index(min(errors))])


def initial_centres(points_ND: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Sample ``count`` of the points, far from each other (k-means++ seeding)."""
    distance_N = torch.ones(len(points_ND), device=points_ND.device)
    centres = []
    for _ in range(count):
        if not bool(distance_N.sum() > 0):  # there are fewer distinct points than centres
            distance_N = torch.ones_like(distance_N)
        weights = distance_N.to(generator.device)
        centre_D = points_ND[int(torch.multinomial(weights, 1, generator=generator))]
        distance_N = torch.minimum(distance_N, (points_ND - centre_D).square().sum(-1))
        centres.append(centre_D)
    return torch.stack(centres)


class FSQ(nn.Module):
    """Bound each dimension by tanh, round it to its levels, and read the levels as the digits of a number.

    Attributes:
        size, levels: K, and the levels of each dimension, whose product it is.
    """

    levels_Q: Tensor

    def __init__(self, config: FSQConfig) -> None:
        super().__init__()
        self.config = config
        self.size, self.dim, self.levels = math.prod(config.levels), len(config.levels), config.levels
        self.register_buffer("levels_Q", torch.tensor(config.levels), persistent=False)

    def forward(self, latents: Tensor) -> Quantized:
        # In units of levels, between 0 and levels - 1. The bound lies half a level beyond both ends, so that
        # the outermost levels are as wide as the others (0.499, so that they never round outwards).
        half_Q = (self.levels_Q - 1) / 2
        bounded = torch.tanh(latents.float()) * (half_Q + 0.499) + half_Q
        rounded = bounded.detach().round()
        straight_through = bounded + (rounded - bounded).detach()
        codes = join_digits(rounded.long(), self.levels)
        return Quantized((straight_through - half_Q) / half_Q, codes, latents.new_zeros(()))

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes to latents ``(..., dim)`` in [-1, 1]."""
        half_Q = (self.levels_Q - 1) / 2
        return (split_digits(codes, self.levels) - half_Q) / half_Q


def split_digits(codes: Tensor, levels: tuple[int, ...]) -> Tensor:
    """int64 codes to their digits, int64 ``(..., Q)`` with digit q in ``[0, levels[q])``, lowest first."""
    digits = []
    for level in levels:
        digits.append(codes % level)
        codes = codes // level
    return torch.stack(digits, dim=-1)


def join_digits(digits: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The inverse of `split_digits`."""
    codes = torch.zeros_like(digits[..., 0])
    for q in reversed(range(len(levels))):
        codes = codes * levels[q] + digits[..., q]
    return codes


def make_quantizer(config: VQConfig | FSQConfig) -> VQ | FSQ:
    """The quantiser of a config."""
    return VQ(config) if isinstance(config, VQConfig) else FSQ(config)


def perplexity(codes: Tensor, size: int) -> Tensor:
    """How many codes are in use: the exponential of their entropy, 1 after a collapse, at most ``size``."""
    ones_X = torch.ones(codes.numel(), device=codes.device)
    # Not bincount: it would wait for the GPU to learn the largest code.
    fractions_K = ones_X.new_zeros(size).scatter_add_(0, codes.flatten(), ones_X) / codes.numel()
    return torch.special.entr(fractions_K).sum().exp()
