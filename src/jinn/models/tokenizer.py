"""The video tokenizer (paper section 2.1, "ST-ViViT"): a VQ-VAE on ST-transformers.

    z_1..z_T = quantise(encoder(x_1..x_T))       x^_1..x^_T = decoder(z_1..z_T)

Encoder and decoder are causal, so the tokens of frame t depend on frames 1..t. With ``temporal_every=0`` in
both it becomes a per-frame ViT, which the paper measures as a little worse (section 3.4) and which is several times
cheaper; with `SpaceTimeConfig` it is a C-ViViT. Our own tokenizer is `jinn.models.ours.conv_tokenizer`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import check_frames, to_float, to_uint8
from jinn.models.attention import KVCache
from jinn.models.patches import grid_of, patchify, position_embedding, unpatchify
from jinn.models.quantize import FSQ, VQ, FSQConfig, VQConfig, make_quantizer
from jinn.models.transformer import AnyTransformerConfig, Loss, STTransformer, TransformerConfig


class Autoencoder(nn.Module):
    """What all tokenizers share: latents are quantised, and pixels are reconstructed from them.

    It fulfils `jinn.contracts.Tokenizer`. A kind of tokenizer adds `encode_pixels` and `decode_latents`, and
    the decoding of one frame after a cache, `prefill` and `decode_next`.

    Args:
        size_hw: height and width of the frames in pixels.
        patch: side of the square of pixels that becomes one token.
    """

    quantizer: VQ | FSQ
    to_latent: nn.Linear

    def __init__(self, size_hw: tuple[int, int], patch: int) -> None:
        super().__init__()
        self.size_hw, self.grid_hw = size_hw, grid_of(size_hw, patch)

    def add_quantizer(self, config: VQConfig | FSQConfig, width: int) -> None:
        """Make the quantiser, and the layer from an encoder of this width to its latents."""
        self.quantizer = make_quantizer(config)
        self.to_latent = nn.Linear(width, self.quantizer.dim)

    @property
    def codebook_size(self) -> int:
        """K; tokens lie in [0, K)."""
        return self.quantizer.size

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the digits of a token; their product is K."""
        return self.quantizer.levels

    def encode_pixels(self, pixels_BTHWC: Tensor) -> Tensor:
        """Float pixels in [0, 1] to the latents before quantisation, ``BTN(dim)``."""
        raise NotImplementedError

    def decode_latents(self, latents_BTNd: Tensor) -> Tensor:
        """Quantised latents to float pixels ``BTHWC``, nominally in [0, 1], not clamped."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to int64 ``tokens_BTN``; the tokens of frame t depend on frames 0..t.

        Raises:
            JinnError: frames are not uint8 BTHWC of the tokenizer's size.
        """
        check_frames(frames_BTHWC, self.size_hw)
        return self.quantizer(self.encode_pixels(to_float(frames_BTHWC))).codes

    @torch.no_grad()
    def decode(self, tokens_BTN: Tensor) -> Tensor:
        """int64 tokens to uint8 ``frames_BTHWC``; frame t depends on the tokens of frames 0..t."""
        return to_uint8(self.decode_latents(self.quantizer.lookup(tokens_BTN)))

    def loss(self, frames_BTHWC: Tensor, loss_scale: Tensor | None = None) -> Loss:
        """The VQ-VAE objective: mean squared error of the pixels plus the quantiser's own loss.

        With a VQ the error is divided by ``loss_scale``, the variance of the pixels (as in van den Oord's
        program): the commitment loss is of order 1, and an error of a hundredth would be lost beside it.

        Args:
            frames_BTHWC: uint8 clips.
            loss_scale: from `loss_scale`. None takes that of these frames, and then the loss of a clip
                depends on its batch.

        Returns:
            The loss, and for the log ``mse``, the error of pixels in [0, 1].
        """
        target_BTHWC = to_float(frames_BTHWC)
        quantized = self.quantizer(self.encode_pixels(target_BTHWC))
        mse = F.mse_loss(self.decode_latents(quantized.latents).float(), target_BTHWC)
        if isinstance(self.quantizer, FSQ):
            return mse, {"mse": mse.detach()}
        scale = self.loss_scale(frames_BTHWC) if loss_scale is None else loss_scale
        return mse / scale + quantized.loss, {"mse": mse.detach()}

    def loss_scale(self, frames_BTHWC: Tensor) -> Tensor:
        """Normaliser of the reconstruction loss beside a VQ loss: the pixel variance of these frames."""
        return to_float(frames_BTHWC).var().clamp_min(1e-5)

    @torch.no_grad()
    def initialize_from_data(self, frames_BTHWC: Tensor, generator: torch.Generator) -> None:
        """Adapt the initial weights to the first frames. Call it once, before training.

        Latents start with mean 0 and standard deviation 1, over the whole codebook, and reconstructions start at the
        mean of the frames. Otherwise training first discovers that all frames are darker than grey, moves all latents
        in the same direction at once, into the flat ends of the tanh of an FSQ or away from all codes of a VQ but one,
        and discovers only late (if ever) that patches differ. The paper does not say how its weights are initialised.

        Args:
            frames_BTHWC: uint8, a batch of training frames.
            generator: for the first codes of a VQ.
        """
        latents_Xd = self.encode_pixels(to_float(frames_BTHWC)).flatten(0, 2).float()
        mean_d, std_d = latents_Xd.mean(0), latents_Xd.std(0).clamp_min(1e-6)
        self.to_latent.weight.div_(std_d[:, None])
        self.to_latent.bias.sub_(mean_d).div_(std_d)
        if isinstance(self.quantizer, VQ):
            self.quantizer.cluster((latents_Xd - mean_d) / std_d, generator)

    # Play: one frame at a time.

    def prefill(self, tokens_BTN: Tensor) -> tuple[Tensor, KVCache | None]:
        """`decode`, and the decoder's cache for the next frame; None if it decodes each frame by itself."""
        raise NotImplementedError

    def decode_next(self, tokens_BN: Tensor, cache: KVCache | None) -> tuple[Tensor, KVCache | None]:
        """`decode` of one frame after those in the cache: uint8 ``BHWC``, and the cache one frame later."""
        raise NotImplementedError


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
    encoder: AnyTransformerConfig = field(default_factory=TransformerConfig)
    decoder: AnyTransformerConfig = field(default_factory=TransformerConfig)
    quantizer: VQConfig | FSQConfig = field(default_factory=VQConfig)

    def build(self) -> VideoTokenizer:
        """The tokenizer itself."""
        return VideoTokenizer(self)


class VideoTokenizer(Autoencoder):
    """The paper's tokenizer: a transformer over patches on either side of the quantiser."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config.size_hw, config.patch)
        self.config = config
        tokens, pixels = self.grid_hw[0] * self.grid_hw[1], config.patch**2 * 3
        self.embed = nn.Linear(pixels, config.encoder.width)
        self.encoder_position_ND = position_embedding(tokens, config.encoder.width)
        self.encoder = STTransformer(config.encoder)
        self.add_quantizer(config.quantizer, config.encoder.width)
        self.from_latent = nn.Linear(self.quantizer.dim, config.decoder.width)
        self.decoder_position_ND = position_embedding(tokens, config.decoder.width)
        self.decoder = STTransformer(config.decoder)
        self.to_pixels = nn.Linear(config.decoder.width, pixels)

    def encode_pixels(self, pixels_BTHWC: Tensor) -> Tensor:
        """Float pixels in [0, 1] to the latents before quantisation, ``BTN(dim)``."""
        x_BTND = self.embed(patchify(pixels_BTHWC, self.config.patch) - 0.5)
        return self.to_latent(self.encoder(x_BTND + self.encoder_position_ND))

    def decode_latents(self, latents_BTNd: Tensor) -> Tensor:
        """Quantised latents to float pixels ``BTHWC``, nominally in [0, 1], not clamped."""
        x_BTND = self.decoder(self.from_latent(latents_BTNd) + self.decoder_position_ND)
        return self._unpatchify(x_BTND)

    def _unpatchify(self, x_BTND: Tensor) -> Tensor:
        return unpatchify(self.to_pixels(x_BTND) + 0.5, self.config.patch, self.config.size_hw)

    @torch.no_grad()
    def initialize_from_data(self, frames_BTHWC: Tensor, generator: torch.Generator) -> None:
        """As in `Autoencoder`; inputs are centred on the mean patch, and reconstructions start there."""
        mean_P = patchify(to_float(frames_BTHWC), self.config.patch).mean(dim=(0, 1, 2)) - 0.5
        self.embed.bias.copy_(-self.embed.weight @ mean_P)
        self.to_pixels.bias.copy_(mean_P)
        self.to_pixels.weight.mul_(0.1)
        super().initialize_from_data(frames_BTHWC, generator)

    # Play: one frame at a time.

    @torch.no_grad()
    def prefill(self, tokens_BTN: Tensor) -> tuple[Tensor, KVCache]:
        """`decode`, and the decoder's cache for the next frame."""
        x_BTND = self.from_latent(self.quantizer.lookup(tokens_BTN)) + self.decoder_position_ND
        x_BTND, cache = self.decoder.prefill(x_BTND)
        return to_uint8(self._unpatchify(x_BTND)), cache

    @torch.no_grad()
    def decode_next(self, tokens_BN: Tensor, cache: KVCache | None) -> tuple[Tensor, KVCache]:
        """`decode` of one frame after those in the cache: uint8 ``BHWC``, and the cache one frame later."""
        assert cache is not None
        x_BND = self.from_latent(self.quantizer.lookup(tokens_BN)) + self.decoder_position_ND
        x_BND, keys_LBNHC, values_LBNHC = self.decoder.next_frame(x_BND, cache)
        frame_BHWC = to_uint8(self._unpatchify(x_BND.unsqueeze(1)).squeeze(1))
        return frame_BHWC, cache.append(keys_LBNHC, values_LBNHC)
