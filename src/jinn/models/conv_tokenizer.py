"""A tokenizer of convolutions that sees each frame by itself: the one of our own recipes.

Ours, not the paper's. A picture of a game is edges and textures, which a convolution finds in every place
at once and a transformer on patches must find in each: at equal seconds it draws several decibels better
(docs/research-log.md). Frames pass through two grids: cells of ``cell`` x ``cell`` pixels, and tokens of
2 x 2 cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import to_float, to_uint8
from jinn.models.quantize import FSQConfig, VQConfig
from jinn.models.tokenizer import Autoencoder
from jinn.models.transformer import Past


@dataclass(frozen=True)
class ConvConfig:
    """Sizes of an encoder or a decoder.

    Attributes:
        fine: channels on the grid of cells; a multiple of 8, as the other.
        coarse: channels on the grid of tokens.
        fine_blocks, coarse_blocks: residual blocks of two convolutions each.
    """

    fine: int = 64
    coarse: int = 128
    fine_blocks: int = 2
    coarse_blocks: int = 2

    def __post_init__(self) -> None:
        if self.fine % GROUPS or self.coarse % GROUPS or min(self.fine, self.coarse) < GROUPS:
            raise ValueError(f"channels come in multiples of {GROUPS}, got {self.fine} and {self.coarse}")


@dataclass(frozen=True)
class ConvTokenizerConfig:
    """A tokenizer of convolutions.

    Attributes:
        size_hw: height and width of the frames in pixels; what does not fill a token is filled up with the
            frame's edge.
        cell: side of a cell in pixels; a token covers 2 x 2 cells.
        encoder, decoder: their sizes.
        quantizer: FSQ, or VQ as in the paper.
    """

    size_hw: tuple[int, int] = (64, 64)
    cell: int = 4
    encoder: ConvConfig = field(default_factory=ConvConfig)
    decoder: ConvConfig = field(default_factory=lambda: ConvConfig(coarse_blocks=3))
    quantizer: VQConfig | FSQConfig = field(default_factory=FSQConfig)

    @property
    def patch(self) -> int:
        """Side of the square of pixels that becomes one token."""
        return 2 * self.cell

    def build(self) -> ConvTokenizer:
        """The tokenizer itself."""
        return ConvTokenizer(self)


class ConvTokenizer(Autoencoder):
    """See the module's docstring."""

    def __init__(self, config: ConvTokenizerConfig) -> None:
        encoder, decoder, cell = config.encoder, config.decoder, config.cell
        super().__init__(config.size_hw, config.patch)
        self.config = config
        self.add_quantizer(config.quantizer, encoder.coarse)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, encoder.fine, cell, stride=cell),
            *(Residual(encoder.fine) for _ in range(encoder.fine_blocks)),
            nn.Conv2d(encoder.fine, encoder.coarse, 2, stride=2),
            *(Residual(encoder.coarse) for _ in range(encoder.coarse_blocks)),
            *active(encoder.coarse),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(self.quantizer.dim, decoder.coarse, 1),
            *(Residual(decoder.coarse) for _ in range(decoder.coarse_blocks)),
            nn.Conv2d(decoder.coarse, 4 * decoder.fine, 1),
            nn.PixelShuffle(2),
            *(Residual(decoder.fine) for _ in range(decoder.fine_blocks)),
            *active(decoder.fine),
            nn.Conv2d(decoder.fine, 3 * cell**2, 3, padding=1),
            nn.PixelShuffle(cell),
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):  # what convolutions on a CPU are fastest with
                part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)

    def latents(self, pixels_BTHWC: Tensor) -> Tensor:
        B, T, H, W, _ = pixels_BTHWC.shape
        x = pixels_BTHWC.flatten(0, 1).permute(0, 3, 1, 2) - 0.5
        beyond = self.grid_hw[1] * self.config.patch - W, self.grid_hw[0] * self.config.patch - H
        if any(beyond):
            x = F.pad(x, (0, beyond[0], 0, beyond[1]), mode="replicate")
        return self.to_latent(self.encoder(x).flatten(2).mT).unflatten(0, (B, T))

    def pixels(self, latents_BTNd: Tensor) -> Tensor:
        B, T = latents_BTNd.shape[:2]
        x = self.decoder(latents_BTNd.flatten(0, 1).mT.unflatten(2, self.grid_hw)) + 0.5
        pixels_BTHWC = x.permute(0, 2, 3, 1).unflatten(0, (B, T))
        return pixels_BTHWC[:, :, : self.size_hw[0], : self.size_hw[1]]

    @torch.no_grad()
    def begin(self, frames_BTHWC: Tensor, generator: torch.Generator) -> None:
        """As of `Autoencoder`; frames are drawn as the mean colour."""
        paint = cast(nn.Conv2d, self.decoder[-2])
        mean_C = to_float(frames_BTHWC).mean(dim=(0, 1, 2, 3)) - 0.5
        cast(Tensor, paint.bias).copy_(mean_C.repeat_interleave(self.config.cell**2))
        paint.weight.mul_(0.1)
        super().begin(frames_BTHWC, generator)

    @torch.no_grad()
    def prefill(self, tokens_BTN: Tensor) -> tuple[Tensor, Past]:
        """`decode`; there is nothing to look back on."""
        B, T, N = tokens_BTN.shape
        nothing = torch.zeros(0, B, N, 1, 0, 2, device=tokens_BTN.device)
        frames_B = torch.full((B,), T, device=tokens_BTN.device)
        valid_BP = torch.zeros(B, 0, dtype=torch.bool, device=tokens_BTN.device)
        return self.decode(tokens_BTN), Past(nothing, nothing, valid_BP, frames_B)

    @torch.no_grad()
    def decode_next(self, tokens_BN: Tensor, past: Past) -> tuple[Tensor, Past]:
        pixels_B1HWC = self.pixels(self.quantizer.lookup(tokens_BN).unsqueeze(1))
        return to_uint8(pixels_B1HWC.squeeze(1)), past._replace(frames_B=past.frames_B + 1)


GROUPS = 8


def active(channels: int) -> tuple[nn.Module, nn.Module]:
    """Normalise and bend, before a convolution."""
    return nn.GroupNorm(GROUPS, channels), nn.SiLU()


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the stream; at the beginning they leave it as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *active(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            *active(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        nn.init.zeros_(self.path[-1].weight)  # type: ignore[arg-type]

    def forward(self, x_XCHW: Tensor) -> Tensor:
        return x_XCHW + self.path(x_XCHW)
