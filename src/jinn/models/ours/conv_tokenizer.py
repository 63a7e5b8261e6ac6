"""A convolutional tokenizer that encodes each frame by itself: the one of our own recipes.

Frames of a game are edges and textures, which a convolution finds at every position at once and a transformer on
patches must learn at each position. At equal training time the convolutions reconstruct several decibels better
(docs/research-log.md). Frames pass through two grids: cells of ``cell`` x ``cell`` pixels, and tokens of 2 x 2 cells.

An encoder with a kernel of 1 sees each patch by itself, so the token of a patch changes only if its pixels do. With a
kernel of 3 whatever moves changes the tokens of half a frame, and the dynamics have to foretell how.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import to_float, to_uint8
from jinn.models.attention import KVCache
from jinn.models.quantize import FSQConfig, VQConfig
from jinn.models.tokenizer import Autoencoder

GROUPS = 8  # of the group norms


@dataclass(frozen=True)
class ConvConfig:
    """Sizes of an encoder or a decoder.

    Attributes:
        fine: channels on the grid of cells, a multiple of 8.
        coarse: channels on the grid of tokens, a multiple of 8.
        fine_blocks, coarse_blocks: residual blocks of two convolutions each.
        kernel: side of these convolutions, odd. With 1 each position is by itself, also in their normalisation.
    """

    fine: int = 64
    coarse: int = 128
    fine_blocks: int = 2
    coarse_blocks: int = 2
    kernel: int = 3

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"a kernel has an odd side of at least 1, got {self.kernel}")
        if self.fine % GROUPS or self.coarse % GROUPS or min(self.fine, self.coarse) < GROUPS:
            raise ValueError(f"channels come in multiples of {GROUPS}, got {self.fine} and {self.coarse}")
        if not 0 <= min(blocks := (self.fine_blocks, self.coarse_blocks)) <= max(blocks) <= 1000:
            raise ValueError(f"there are from 0 to 1000 blocks, got {blocks}")


@dataclass(frozen=True)
class ConvTokenizerConfig:
    """A convolutional tokenizer.

    Attributes:
        size_hw: height and width of the frames in pixels; a last token that is not full is padded with the
            pixels of the frame's edge.
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
            *(Residual(encoder.fine, encoder.kernel) for _ in range(encoder.fine_blocks)),
            nn.Conv2d(encoder.fine, encoder.coarse, 2, stride=2),
            *(Residual(encoder.coarse, encoder.kernel) for _ in range(encoder.coarse_blocks)),
            *active(encoder.coarse, encoder.kernel),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(self.quantizer.dim, decoder.coarse, 1),
            *(Residual(decoder.coarse, decoder.kernel) for _ in range(decoder.coarse_blocks)),
            nn.Conv2d(decoder.coarse, 4 * decoder.fine, 1),
            nn.PixelShuffle(2),
            *(Residual(decoder.fine, decoder.kernel) for _ in range(decoder.fine_blocks)),
            *active(decoder.fine, decoder.kernel),
            nn.Conv2d(decoder.fine, 3 * cell**2, 3, padding=1),
            nn.PixelShuffle(cell),
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):  # the memory layout in which convolutions on a CPU are fastest
                part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)

    def encode_pixels(self, pixels_BTHWC: Tensor) -> Tensor:
        """Float pixels in [0, 1] to the latents before quantisation, ``BTN(dim)``."""
        B, T, H, W, _ = pixels_BTHWC.shape
        x = pixels_BTHWC.flatten(0, 1).permute(0, 3, 1, 2) - 0.5
        padding_hw = self.grid_hw[0] * self.config.patch - H, self.grid_hw[1] * self.config.patch - W
        if any(padding_hw):
            x = F.pad(x, (0, padding_hw[1], 0, padding_hw[0]), mode="replicate")
        return self.to_latent(self.encoder(x).flatten(2).mT).unflatten(0, (B, T))

    def decode_latents(self, latents_BTNd: Tensor) -> Tensor:
        """Quantised latents to float pixels ``BTHWC``, nominally in [0, 1], not clamped."""
        B, T = latents_BTNd.shape[:2]
        x = self.decoder(latents_BTNd.flatten(0, 1).mT.unflatten(2, self.grid_hw)) + 0.5
        pixels_BTHWC = x.permute(0, 2, 3, 1).unflatten(0, (B, T))
        return pixels_BTHWC[:, :, : self.size_hw[0], : self.size_hw[1]]

    @torch.no_grad()
    def initialize_from_data(self, frames_BTHWC: Tensor, generator: torch.Generator) -> None:
        """As in `Autoencoder`; reconstructions start at the mean colour."""
        last = cast(nn.Conv2d, self.decoder[-2])
        mean_C = to_float(frames_BTHWC).mean(dim=(0, 1, 2, 3)) - 0.5
        cast(Tensor, last.bias).copy_(mean_C.repeat_interleave(self.config.cell**2))
        last.weight.mul_(0.1)
        super().initialize_from_data(frames_BTHWC, generator)

    @torch.no_grad()
    def prefill(self, tokens_BTN: Tensor) -> tuple[Tensor, None]:
        """`decode`; each frame is decoded by itself, so there is no cache."""
        return self.decode(tokens_BTN), None

    @torch.no_grad()
    def decode_next(self, tokens_BN: Tensor, cache: KVCache | None) -> tuple[Tensor, None]:
        """`decode` of one frame, uint8 ``BHWC``; there is no cache."""
        return to_uint8(self.decode_latents(self.quantizer.lookup(tokens_BN).unsqueeze(1)).squeeze(1)), None


def active(channels: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    """The normalisation and the activation before a convolution."""
    return (nn.GroupNorm(GROUPS, channels) if kernel > 1 else ChannelNorm(channels)), nn.SiLU()


class ChannelNorm(nn.LayerNorm):
    """Layer norm of each position of ``XCHW``."""

    def forward(self, x_XCHW: Tensor) -> Tensor:
        return super().forward(x_XCHW.movedim(1, -1)).movedim(-1, 1)


class Residual(nn.Module):
    """A residual block of two convolutions, initialised to the identity."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *active(channels, kernel),
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
            *active(channels, kernel),
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
        )
        nn.init.zeros_(self.path[-1].weight)  # type: ignore[arg-type]

    def forward(self, x_XCHW: Tensor) -> Tensor:
        return x_XCHW + self.path(x_XCHW)
