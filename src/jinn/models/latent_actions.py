"""The latent action model, LAM (paper section 2.1): what changed between two frames, as one of A codes.

    a~_1..a~_T = quantise(encoder(x_1..x_T+1))       x^_2..x^_T+1 = decoder(x_1..x_T, a~_1..a~_T)

The encoder sees frames 1..t+1 and outputs the code of the step from t to t+1. The decoder sees frames 1..t
and that code, and predicts frame t+1. The code is all that the decoder learns of the future, so it comes to
mean what the player did. After training only the encoder and the codebook are used, and for play not even
they: a code is an action that the player chooses.

Left to itself the model tends to collapse to one code: at first the decoder has no use for a random code, so
the encoder receives no gradient. `jinn.models.ours.motion_latent_actions` is our own model, which does not
collapse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from jinn.contracts import check_frames, to_float
from jinn.models.patches import grid_of, patchify, position_embedding, unpatchify
from jinn.models.quantize import VQ, VQConfig
from jinn.models.transformer import Loss, STTransformer, TransformerConfig


class LatentActionModel(nn.Module):
    """What all latent action models share: the codebook, the labels and the VQ-VAE objective.

    A kind of model adds `encode_pixels` and `predict_next`.

    Args:
        size_hw: height and width of the frames in pixels.
        quantizer: the codebook; its size A is the number of actions that a player has, 2 to 64.
    """

    quantizer: VQ

    def __init__(self, size_hw: tuple[int, int], quantizer: VQConfig) -> None:
        super().__init__()
        self.size_hw, self.num_actions = size_hw, quantizer.codes

    def preprocess(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to the float pixels in [0, 1] that the model works on."""
        return to_float(frames_BTHWC)

    def encode_pixels(self, pixels_BTHWC: Tensor) -> Tensor:
        """Preprocessed frames to the latents before quantisation, one for each step: ``B(T-1)(dim)``."""
        raise NotImplementedError

    def predict_next(self, pixels_BTHWC: Tensor, latents_BTd: Tensor) -> Tensor:
        """Frames 1..T and the latents of the steps that follow them to frames 2..T+1, in [0, 1]."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to int64 ``actions_BTm1`` in [0, A): the code of each step between neighbours.

        Raises:
            JinnError: frames are not uint8 BTHWC of the model's size.
        """
        check_frames(frames_BTHWC, self.size_hw)
        return self.quantizer(self.encode_pixels(self.preprocess(frames_BTHWC))).codes

    def loss(self, frames_BTHWC: Tensor, loss_scale: Tensor | None = None) -> Loss:
        """The VQ-VAE objective: squared error of the next frames plus the codebook's losses.

        The error is divided by ``loss_scale``, that of copying the last frame: otherwise it would be
        negligible beside the codebook losses, which are of order 1.

        Args:
            frames_BTHWC: uint8 clips of at least 2 frames.
            loss_scale: from `loss_scale`. None takes that of these frames, and then the loss of a clip
                depends on its batch.

        Returns:
            The loss, and for the log: ``mse`` of pixels in [0, 1], ``copy_mse`` of copying the last frame, and
            ``actions`` (int64 BTm1).
        """
        pixels_BTHWC = self.preprocess(frames_BTHWC)
        quantized = self.quantizer(self.encode_pixels(pixels_BTHWC))
        mse, report = self.prediction_error(pixels_BTHWC, quantized.latents)
        scale = self.loss_scale(frames_BTHWC) if loss_scale is None else loss_scale
        return mse / scale + quantized.loss, {**report, "actions": quantized.codes}

    def prediction_error(self, pixels_BTHWC: Tensor, latents_BTm1d: Tensor) -> Loss:
        """Mean squared error of `predict_next` on a preprocessed clip, and the part of the log about it."""
        past_BTHWC, next_BTHWC = pixels_BTHWC[:, :-1], pixels_BTHWC[:, 1:]
        mse = (self.predict_next(past_BTHWC, latents_BTm1d).float() - next_BTHWC).square().mean()
        return mse, {"mse": mse.detach(), "copy_mse": (next_BTHWC - past_BTHWC).square().mean()}

    def loss_scale(self, frames_BTHWC: Tensor) -> Tensor:
        """Normaliser of the squared error: that of copying the last frame, over these frames."""
        pixels_BTHWC = self.preprocess(frames_BTHWC)
        return (pixels_BTHWC[:, 1:] - pixels_BTHWC[:, :-1]).square().mean().clamp_min(1e-5)


def check_number_of_actions(num_actions: int) -> None:
    """Raise `ValueError` unless a player can have so many actions."""
    if not 2 <= num_actions <= 64:
        raise ValueError(f"a world has 2 to 64 actions, got {num_actions}")


@dataclass(frozen=True)
class LatentActionsConfig:
    """The paper's latent action model.

    Attributes:
        size_hw: height and width of the frames in pixels.
        patch: side of a patch in pixels.
        encoder: clips to latents.
        decoder: clips and latents to next frames.
        quantizer: the codebook; its size A is the number of actions that a player has, 2 to 64.
    """

    size_hw: tuple[int, int] = (64, 64)
    patch: int = 16
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)
    quantizer: VQConfig = field(default_factory=lambda: VQConfig(codes=8, dim=32))

    def __post_init__(self) -> None:
        check_number_of_actions(self.quantizer.codes)

    def build(self) -> STLatentActionModel:
        """The model itself."""
        return STLatentActionModel(self)


class STLatentActionModel(LatentActionModel):
    """The paper's model: two ST-transformers over the patches of a clip."""

    def __init__(self, config: LatentActionsConfig) -> None:
        super().__init__(config.size_hw, config.quantizer)
        self.config = config
        rows, columns = grid_of(config.size_hw, config.patch)
        pixels = config.patch**2 * 3
        self.embed = nn.Linear(pixels, config.encoder.width)
        self.encoder_position_ND = position_embedding(rows * columns, config.encoder.width)
        self.encoder = STTransformer(config.encoder)
        self.pooling = AttentionPooling(config.encoder.width, config.quantizer.dim)
        self.quantizer = VQ(config.quantizer)
        self.decoder_embed = nn.Linear(pixels, config.decoder.width)
        self.from_latent = nn.Linear(config.quantizer.dim, config.decoder.width)
        self.decoder_position_ND = position_embedding(rows * columns, config.decoder.width)
        self.decoder = STTransformer(config.decoder)
        self.to_pixels = nn.Linear(config.decoder.width, pixels)

    def encode_pixels(self, pixels_BTHWC: Tensor) -> Tensor:
        """Preprocessed frames to the latents before quantisation, one for each step: ``B(T-1)(dim)``."""
        x_BTND = self.embed(patchify(pixels_BTHWC, self.config.patch) - 0.5)
        x_BTND = self.encoder(x_BTND + self.encoder_position_ND)
        return self.pooling(x_BTND[:, 1:])  # the output at frame t+1 has seen frames 1..t+1

    def predict_next(self, pixels_BTHWC: Tensor, latents_BTd: Tensor) -> Tensor:
        """Frames 1..T and the latents of the steps that follow them to frames 2..T+1, in [0, 1]."""
        x_BTND = self.decoder_embed(patchify(pixels_BTHWC, self.config.patch) - 0.5)
        # Actions are added, not concatenated: the paper found this to be the better conditioning.
        x_BTND = x_BTND + self.decoder_position_ND + self.from_latent(latents_BTd).unsqueeze(2)
        patches_BTNP = self.to_pixels(self.decoder(x_BTND)).sigmoid()
        return unpatchify(patches_BTNP, self.config.patch, self.config.size_hw)


class AttentionPooling(nn.Module):
    """The tokens of a frame to one latent of unit scale. The paper leaves open how it pools.

    Few positions show what the player did. The weights of the mean over positions are learned, and start equal.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.to_score = nn.Linear(width, 1, bias=False)  # a softmax would not see a bias
        nn.init.zeros_(self.to_score.weight)
        self.to_latent = nn.Linear(width, dim)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)

    def forward(self, x_BTND: Tensor) -> Tensor:
        """``BTND`` to latents ``BT(dim)``."""
        weights_BTN1 = self.to_score(x_BTND).softmax(dim=2)
        return self.norm(self.to_latent((weights_BTN1 * x_BTND).sum(dim=2)))
