"""The video tokenizer (paper section 2.1, "ST-ViViT"): a VQ-VAE whose encoder and decoder are
ST-transformers, so that the tokens of frame t know frames 1..t.

With ``temporal_every=0`` in both transformers it becomes a per-frame ViT: the paper measures that a
little worse and it is several times cheaper. `jinn.models.conv_tokenizer` has another of that kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import check_frames, to_float, to_uint8
from jinn.models.quantize import FSQ, VQ, FSQConfig, VQConfig, make_quantizer
from jinn.models.transformer import (
    Past,
    STTransformer,
    TransformerConfig,
    grid_of,
    patchify,
    unpatchify,
)


class Autoencoder(nn.Module):
    """What tokenizers have in common: latents that are quantised, and pixels that are drawn from them.

    Fulfils `jinn.contracts.Tokenizer`. A kind of tokenizer adds the two ways, `latents` and `pixels`, and the
    same for a frame after a past, `prefill` and `decode_next`.

    Args:
        size_hw: height and width of the frames in pixels.
        patch: side of the square of pixels that becomes one token.
    """

    quantizer: VQ | FSQ
    to_latent: nn.Linear
    codebook_size: int

    def __init__(self, size_hw: tuple[int, int], patch: int) -> None:
        super().__init__()
        self.size_hw, self.grid_hw = size_hw, grid_of(size_hw, patch)

    def add_quantizer(self, config: VQConfig | FSQConfig, width: int) -> None:
        """Make the quantiser, and the layer that leads to it from an encoder of this width."""
        self.quantizer = make_quantizer(config)
        self.codebook_size = self.quantizer.size
        self.to_latent = nn.Linear(width, self.quantizer.dim)

    def latents(self, pixels_BTHWC: Tensor) -> Tensor:
        """Float pixels in [0, 1] to what the quantiser rounds, ``BTN(dim)``."""
        raise NotImplementedError

    def pixels(self, latents_BTNd: Tensor) -> Tensor:
        """Quantised latents to float pixels, nominally in [0, 1], not clamped."""
        raise NotImplementedError

    def prefill(self, tokens_BTN: Tensor) -> tuple[Tensor, Past]:
        """`decode`, and the `Past` on which the decoder of the next frame looks back."""
        raise NotImplementedError

    def decode_next(self, tokens_BN: Tensor, past: Past) -> tuple[Tensor, Past]:
        """`decode` for one frame after a past: uint8 ``BHWC``, and the past one frame later."""
        raise NotImplementedError

    @torch.no_grad()
    def begin(self, frames_BTHWC: Tensor, generator: torch.Generator) -> None:
        """Set the first weights by the first frames; to be called once, before training.

        The latents begin with mean 0 and spread 1, over the whole codebook, and the drawing at the mean of
        the frames. Otherwise the first thing that training finds is that all frames are darker than grey: it
        moves all latents the same way at once, into the flat ends of FSQ's tanh or away from all codes but
        one, and finds out only late (if ever) that patches differ. The paper does not say how its weights
        begin.

        Args:
            frames_BTHWC: uint8, a batch of training frames.
            generator: the chance of a VQ's first codes.
        """
        latents_Xd = self.latents(to_float(frames_BTHWC)).flatten(0, 2).float()
        mean_d, std_d = latents_Xd.mean(0), latents_Xd.std(0).clamp_min(1e-6)
        self.to_latent.weight.div_(std_d[:, None])
        self.to_latent.bias.sub_(mean_d).div_(std_d)
        if isinstance(self.quantizer, VQ):
            self.quantizer.cluster((latents_Xd - mean_d) / std_d, generator)

    @torch.no_grad()
    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to int64 ``tokens_BTN``; tokens of frame t depend on frames 0..t.

        Raises:
            JinnError: frames are not uint8 BTHWC of the tokenizer's size.
        """
        check_frames(frames_BTHWC, self.size_hw)
        return self.quantizer(self.latents(to_float(frames_BTHWC))).codes

    @torch.no_grad()
    def decode(self, tokens_BTN: Tensor) -> Tensor:
        """int64 tokens to uint8 ``frames_BTHWC``; frame t depends on the tokens of 0..t."""
        return to_uint8(self.pixels(self.quantizer.lookup(tokens_BTN)))

    def unit(self, frames_BTHWC: Tensor) -> Tensor:
        """What a squared error is counted in beside a codebook: the variance of all these pixels."""
        return to_float(frames_BTHWC).var().clamp_min(1e-5)

    def loss(self, frames_BTHWC: Tensor, unit: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the pixels plus the quantiser's own loss.

        Beside a codebook the error is counted as a share of the pixels' variance (as in van den Oord's
        program): the pull on the latents is of order 1, and would drown an error of a hundredth.

        Args:
            frames_BTHWC: uint8 clips.
            unit: of `unit`; None takes that of these frames. A clip's share of the loss is its own only if
                all batches of a run have the same.

        Returns:
            The loss, and for the log: ``mse`` of pixels in [0, 1], ``codes`` of the batch
            (int64 BTN) and ``latents`` (detached, before quantisation).
        """
        target_BTHWC = to_float(frames_BTHWC)
        latents_BTNd = self.latents(target_BTHWC)
        quantized = self.quantizer(latents_BTNd)
        mse = F.mse_loss(self.pixels(quantized.latents).float(), target_BTHWC)
        report = {"mse": mse.detach(), "codes": quantized.codes, "latents": latents_BTNd.detach()}
        if isinstance(self.quantizer, VQ):
            unit = self.unit(frames_BTHWC) if unit is None else unit
            return mse / unit + quantized.loss, report
        return mse, report


@dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer.

    Attributes:
        size_hw: height and width of the frames in pixels.
        patch: side of the square of pixels that becomes one token.
        encoder: frames to latents.
        decoder: latents to frames. Scaling it pays more than scaling the encoder (paper, table 7).
        quantizer: VQ as in the paper, or FSQ.
    """

    size_hw: tuple[int, int] = (64, 64)
    patch: int = 4
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)
    quantizer: VQConfig | FSQConfig = field(default_factory=VQConfig)

    def build(self) -> VideoTokenizer:
        """The tokenizer itself."""
        return VideoTokenizer(self)


class VideoTokenizer(Autoencoder):
    """The paper's tokenizer."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config.size_hw, config.patch)
        self.config = config
        places, pixels = self.grid_hw[0] * self.grid_hw[1], config.patch**2 * 3
        self.embed = nn.Linear(pixels, config.encoder.width)
        self.encoder_place_ND = nn.Parameter(torch.randn(places, config.encoder.width) * 0.02)
        self.encoder = STTransformer(config.encoder)
        self.add_quantizer(config.quantizer, config.encoder.width)
        self.from_latent = nn.Linear(self.quantizer.dim, config.decoder.width)
        self.decoder_place_ND = nn.Parameter(torch.randn(places, config.decoder.width) * 0.02)
        self.decoder = STTransformer(config.decoder)
        self.to_pixels = nn.Linear(config.decoder.width, pixels)

    @torch.no_grad()
    def begin(self, frames_BTHWC: Tensor, generator: torch.Generator) -> None:
        """As of `Autoencoder`; frames are drawn as the mean patch, and seen as differing from it."""
        mean_P = patchify(to_float(frames_BTHWC), self.config.patch).mean(dim=(0, 1, 2)) - 0.5
        self.embed.bias.copy_(-self.embed.weight @ mean_P)
        self.to_pixels.bias.copy_(mean_P)
        self.to_pixels.weight.mul_(0.1)
        super().begin(frames_BTHWC, generator)

    def latents(self, pixels_BTHWC: Tensor) -> Tensor:
        """Float pixels in [0, 1] to what the quantiser rounds, ``BTN(dim)``."""
        x_BTND = self.embed(patchify(pixels_BTHWC, self.config.patch) - 0.5)
        return self.to_latent(self.encoder(x_BTND + self.encoder_place_ND))

    def pixels(self, latents_BTNd: Tensor) -> Tensor:
        """Quantised latents to float pixels, nominally in [0, 1], not clamped."""
        return self._paint(self.decoder(self.from_latent(latents_BTNd) + self.decoder_place_ND))

    def _paint(self, x_BTND: Tensor) -> Tensor:
        return unpatchify(self.to_pixels(x_BTND) + 0.5, self.config.patch, self.config.size_hw)

    @torch.no_grad()
    def prefill(self, tokens_BTN: Tensor) -> tuple[Tensor, Past]:
        """`decode`, and the `Past` on which the decoder of the next frame looks back."""
        x_BTND = self.from_latent(self.quantizer.lookup(tokens_BTN)) + self.decoder_place_ND
        x_BTND, past = self.decoder.prefill(x_BTND)
        return to_uint8(self._paint(x_BTND)), past

    @torch.no_grad()
    def decode_next(self, tokens_BN: Tensor, past: Past) -> tuple[Tensor, Past]:
        """`decode` for one frame after a past: uint8 ``BHWC``, and the past one frame later."""
        x_BND = self.from_latent(self.quantizer.lookup(tokens_BN)) + self.decoder_place_ND
        x_BND, keys_LBNHC, values_LBNHC = self.decoder.next_frame(x_BND, past)
        frame_BHWC = to_uint8(self._paint(x_BND.unsqueeze(1)).squeeze(1))
        return frame_BHWC, past.append(keys_LBNHC, values_LBNHC)
