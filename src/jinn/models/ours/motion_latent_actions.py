"""Our own latent action model: motion is computed before the encoder and painted by moving pixels.

The paper's model (`jinn.models.latent_actions`) collapses to one code on our data: a transformer over raw
patches discovers motion long after the decoder has learned to do without the code. What this model does against
it, each with a row in docs/research-log.md:

* the encoder receives both frames of a step stacked in one token, with a cost volume that says how well every
  small displacement explains the next frame (`jinn.models.ours.motion`);
* the decoder predicts by moving pixels of the present frame and adding a difference to them;
* all of this happens on downsampled frames;
* the model first learns without quantisation (`MotionLatentActionModel.continuous_loss`), and then k-means
  turns its latents into codes (`jinn.training.stages`). With a codebook from the first step all latents are
  alike before the decoder has any use for them, and one code serves them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from jinn.contracts import to_float
from jinn.models.latent_actions import AttentionPooling, LatentActionModel, check_number_of_actions
from jinn.models.ours.motion import MotionConfig, downsample, move, neighbourhood, stacked_pairs
from jinn.models.patches import grid_of, patchify, position_embedding, unpatchify
from jinn.models.quantize import VQ, VQConfig
from jinn.models.transformer import Loss, STTransformer, TransformerConfig


@dataclass(frozen=True)
class MotionLatentActionsConfig(MotionConfig):
    """Our own latent action model.

    Attributes:
        decoder: clips and latents to next frames.
        quantizer: the codebook; its size A is the number of actions that a player has, 2 to 64.
        latent_noise: standard deviation of the noise on the latents while they are not quantised. It keeps the model
            from hiding the whole frame in a few exact numbers.
    """

    decoder: TransformerConfig = field(default_factory=TransformerConfig)
    quantizer: VQConfig = field(default_factory=lambda: VQConfig(codes=8, dim=4))
    latent_noise: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number_of_actions(self.quantizer.codes)

    def build(self) -> MotionLatentActionModel:
        """The model itself."""
        return MotionLatentActionModel(self)


class MotionLatentActionModel(LatentActionModel):
    """See the module's docstring."""

    def __init__(self, config: MotionLatentActionsConfig) -> None:
        super().__init__(config.size_hw, config.quantizer)
        self.config = config
        self.grid_hw = grid_of(config.small_hw, config.patch)
        tokens, pixels = math.prod(self.grid_hw), config.patch**2 * 3
        self.embed = nn.Linear(2 * pixels + config.displacements, config.encoder.width)
        self.encoder_position_ND = position_embedding(tokens, config.encoder.width)
        self.encoder = STTransformer(config.encoder)
        self.pooling = AttentionPooling(config.encoder.width, config.quantizer.dim)
        self.quantizer = VQ(config.quantizer)
        self.decoder_embed = nn.Linear(9 * pixels, config.decoder.width)
        self.from_latent = nn.Linear(config.quantizer.dim, config.decoder.width)
        self.decoder_position_ND = position_embedding(tokens, config.decoder.width)
        self.decoder = STTransformer(config.decoder)
        self.to_pixels = nn.Linear(config.decoder.width, pixels)
        self.to_moves = nn.Linear(config.decoder.width, config.displacements)
        # Start at "nothing moves": the middle displacement has e^2 times the weight of all others together,
        # and nothing is added to the moved pixels.
        for layer in (self.to_moves, self.to_pixels):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.to_moves.bias[config.displacements // 2] = math.log(config.displacements) + 2

    def preprocess(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to float pixels in [0, 1], downsampled."""
        return downsample(to_float(frames_BTHWC), self.config.downsample)

    def encode_pixels(self, pixels_BTHWC: Tensor) -> Tensor:
        """Preprocessed frames to the latents before quantisation, one for each step: ``B(T-1)(dim)``."""
        x_BTND = self.embed(stacked_pairs(pixels_BTHWC, self.config.search_radius, self.config.patch))
        return self.pooling(self.encoder(x_BTND + self.encoder_position_ND))

    def predict_next(self, pixels_BTHWC: Tensor, latents_BTd: Tensor) -> Tensor:
        """Frames 1..T and the latents of the steps that follow them to frames 2..T+1, nominally in [0, 1]."""
        config = self.config
        patches_BTNP = patchify(pixels_BTHWC, config.patch) - 0.5
        # What moves into a patch comes from the patches around it.
        x_BTND = self.decoder_embed(neighbourhood(patches_BTNP, self.grid_hw))
        x_BTND = x_BTND + self.decoder_position_ND + self.from_latent(latents_BTd).unsqueeze(2)
        x_BTND = self.decoder(x_BTND)
        weights_BTNM = self.to_moves(x_BTND).softmax(-1)
        moved_BTHWC = move(pixels_BTHWC, weights_BTNM, config.search_radius, config.patch)
        return moved_BTHWC + unpatchify(self.to_pixels(x_BTND), config.patch, config.small_hw)

    def continuous_loss(
        self, frames_BTHWC: Tensor, noise_BTm1d: Tensor, loss_scale: Tensor | None = None
    ) -> Loss:
        """Squared error of the next frames from noisy latents that are not quantised.

        Args:
            frames_BTHWC: uint8 clips of at least 2 frames.
            noise_BTm1d: standard normal noise; it is scaled by ``latent_noise``.
            loss_scale: as for `loss`.

        Returns:
            The loss, and for the log ``mse`` and ``copy_mse`` as of `loss`.
        """
        pixels_BTHWC = self.preprocess(frames_BTHWC)
        latents_BTm1d = self.encode_pixels(pixels_BTHWC) + self.config.latent_noise * noise_BTm1d
        mse, report = self.prediction_error(pixels_BTHWC, latents_BTm1d)
        return mse / (self.loss_scale(frames_BTHWC) if loss_scale is None else loss_scale), report
