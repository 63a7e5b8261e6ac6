"""Vector quantisation (van den Oord et al. 2017) and finite scalar quantisation (Mentzer et al. 2023).

Both take latents ``(..., dim)`` and give a `Quantized`; gradients pass straight through to the latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Quantized(NamedTuple):
    """What a quantiser gives.

    Attributes:
        latents: like the input, but only values of the codebook; the gradient passes straight through.
        codes: int64, the input's shape less the last axis.
        loss: scalar to add to the objective (zero where the quantiser needs none).
    """

    latents: Tensor
    codes: Tensor
    loss: Tensor


@dataclass(frozen=True)
class VQConfig:
    """Vector quantisation, the paper's choice. The paper leaves the update rule and weights open.

    Attributes:
        codes: size of the codebook.
        dim: latent dimension (32 in the paper).
        commitment: weight of the pull of the latents towards their codes; codes are pulled with weight 1.
    """

    codes: int = 1024
    dim: int = 32
    commitment: float = 0.25

    def __post_init__(self) -> None:
        if self.codes < 2 or self.dim < 1:
            raise ValueError(f"a codebook needs 2 codes and 1 dimension at least: {self.codes}, {self.dim}")


@dataclass(frozen=True)
class FSQConfig:
    """Finite scalar quantisation: each latent dimension is rounded to one of a few levels.

    Nothing to learn and nothing to collapse: the codebook is the grid.

    Attributes:
        levels: levels of each dimension; their product is the codebook's size.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"every dimension needs 2 levels at least, got {self.levels}")


class VQ(nn.Module):
    """Nearest code by Euclidean distance, trained by the codebook and commitment losses."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.size, self.dim = config.codes, config.dim
        self.codebook_KD = nn.Parameter(torch.empty(config.codes, config.dim))
        nn.init.normal_(self.codebook_KD)

    def forward(self, latents: Tensor) -> Quantized:
        flat_ND = latents.reshape(-1, self.dim).float()
        with torch.no_grad():
            codes_N = torch.cdist(flat_ND, self.codebook_KD.float()).argmin(-1)
        chosen_ND = self.codebook_KD[codes_N]
        loss = F.mse_loss(chosen_ND, flat_ND.detach())
        loss = loss + self.config.commitment * F.mse_loss(flat_ND, chosen_ND.detach())
        through = flat_ND + (chosen_ND - flat_ND).detach()
        return Quantized(through.view_as(latents), codes_N.view(latents.shape[:-1]), loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes to latents ``(..., dim)``."""
        return self.codebook_KD[codes]

    @torch.no_grad()
    def cluster(self, latents: Tensor, generator: torch.Generator, rounds: int = 50, starts: int = 1) -> None:
        """Set the whole codebook to the k-means of the given latents ``(..., dim)``.

        Args:
            latents: of a few batches.
            generator: the chance of the seeds (k-means++).
            rounds: of moving each code to the mean of its latents.
            starts: the best of so many is kept: a start may give a rare but clear group, such as walking
                left, no code of its own (docs/research-log.md).
        """
        flat_ND = latents.reshape(-1, self.dim).float()
        best_KD: Tensor = self.codebook_KD
        least = float("inf")
        for _ in range(starts):
            codes_KD = spread(flat_ND, self.size, generator)
            for _ in range(rounds):
                nearest_N = torch.cdist(flat_ND, codes_KD).argmin(-1)
                sums_KD = torch.zeros_like(codes_KD).index_add_(0, nearest_N, flat_ND)
                counts_K = torch.bincount(nearest_N, minlength=self.size)
                used_K = counts_K > 0
                codes_KD[used_K] = sums_KD[used_K] / counts_K[used_K, None]
            error = float(torch.cdist(flat_ND, codes_KD).amin(-1).square().mean())
            if error < least:
                best_KD, least = codes_KD, error
        self.codebook_KD.copy_(best_KD)


def spread(points_ND: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` of the points, far from each other (k-means++ seeding)."""
    distance_N = torch.ones(len(points_ND), device=points_ND.device)
    chosen = []
    for _ in range(count):
        if not bool(distance_N.sum() > 0):  # fewer different points than places
            distance_N = torch.ones_like(distance_N)
        weights = distance_N.to(generator.device)
        place_D = points_ND[int(torch.multinomial(weights, 1, generator=generator))]
        distance_N = torch.minimum(distance_N, (points_ND - place_D).square().sum(-1))
        chosen.append(place_D)
    return torch.stack(chosen)


class FSQ(nn.Module):
    """Bound each dimension by tanh, round it to its levels, and read the levels as a number."""

    levels: Tensor

    def __init__(self, config: FSQConfig) -> None:
        super().__init__()
        self.config = config
        levels = torch.tensor(config.levels)
        self.size, self.dim = math.prod(config.levels), len(config.levels)
        self.register_buffer("levels", levels, persistent=False)

    def forward(self, latents: Tensor) -> Quantized:
        # In units of levels, between 0 and levels - 1. A level's cell is as wide at the ends as inside:
        # the bound lies half a level beyond (0.499: the outermost must never round outwards).
        half = (self.levels - 1) / 2
        bounded = torch.tanh(latents.float()) * (half + 0.499) + half
        levels = bounded.detach().round()
        through = bounded + (levels - bounded).detach()
        codes = join_digits(levels.long(), self.config.levels)
        return Quantized((through - half) / half, codes, latents.new_zeros(()))

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes to latents ``(..., dim)`` in [-1, 1]."""
        half = (self.levels - 1) / 2
        return (self.digits(codes) - half) / half

    def digits(self, codes: Tensor) -> Tensor:
        """Codes to the number of the level in each dimension, int64 ``(..., dim)``."""
        return split_digits(codes, self.config.levels)


def split_digits(codes: Tensor, levels: tuple[int, ...]) -> Tensor:
    """int64 codes to the number of the level in each dimension, ``(..., dim)``; the first counts ones."""
    digits = []
    for level in levels:
        digits.append(codes % level)
        codes = codes // level
    return torch.stack(digits, dim=-1)


def join_digits(digits: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The inverse of `split_digits`."""
    codes = torch.zeros_like(digits[..., 0])
    for place in reversed(range(len(levels))):
        codes = codes * levels[place] + digits[..., place]
    return codes


def digits_of(levels: tuple[int, ...]) -> Tensor:
    """The digits of every code of an FSQ as one-hot rows, float32 ``(codes, sum of levels)``."""
    fsq = FSQ(FSQConfig(levels))
    digits = fsq.digits(torch.arange(fsq.size)).unbind(-1)
    return torch.cat([F.one_hot(d, level) for d, level in zip(digits, levels, strict=True)], dim=-1).float()


def make_quantizer(config: VQConfig | FSQConfig) -> VQ | FSQ:
    """The quantiser of a config."""
    return VQ(config) if isinstance(config, VQConfig) else FSQ(config)


def perplexity(codes: Tensor, size: int) -> Tensor:
    """How many codes are in use: the exponential of their entropy, 1 after a collapse, at most ``size``."""
    ones_X = torch.ones(codes.numel(), device=codes.device)
    # Not bincount: it would wait for the GPU to learn the largest code.
    fractions_K = ones_X.new_zeros(size).scatter_add_(0, codes.flatten(), ones_X) / codes.numel()
    return torch.special.entr(fractions_K).sum().exp()
