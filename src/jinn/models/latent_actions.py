"""The latent action model, LAM (paper section 2.1): what changed between two frames, as one of A codes.

The encoder sees frames 1..t+1 and gives the code of the step from t to t+1; the decoder sees frames
1..t and that code and must draw frame t+1. The code is all that the decoder learns of the future, so
it comes to mean what the player did. After training only encoder and codebook are of use, and for
play not even they: a code is a key.

Left to itself the LAM collapses to one code: at the start the decoder has no use for a random code, so
the encoder gets no gradient. What stands against it here (all off in the paper's recipes):

* ``pairs`` the encoder gets both frames stacked in one token, so that motion lies in front of it;
* ``predict_change`` the decoder draws the difference to the frame it has;
* ``reach`` the encoder is shown how well every small displacement explains the next frame, and the
  decoder draws by moving pixels (`jinn.models.motion`); ``shrink`` does all of this on smaller frames;
* it learns without quantisation first, and k-means then makes codes of the latents (driven by
  `jinn.training.stages`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from jinn.contracts import check_frames, to_float
from jinn.models.motion import matching_costs, move, neighbourhood
from jinn.models.quantize import VQ, VQConfig
from jinn.models.transformer import STTransformer, TransformerConfig, grid_of, patchify, unpatchify


@dataclass(frozen=True)
class LatentActionsConfig:
    """A latent action model.

    Attributes:
        size_hw: height and width of the frames in pixels.
        patch: side of a patch in pixels.
        encoder: clips to latents.
        decoder: clips and latents to next frames.
        quantizer: the codebook; its size A is the number of keys that a player has, 2 to 64.
        pairs: stack frames t and t+1 in the encoder's tokens, instead of one frame a token (paper).
        predict_change: predict the difference to the present frame, instead of a sigmoid's pixels (paper).
        reach: displacements of up to so many (shrunk) pixels are matched and drawn; 0 is none (paper).
            Needs ``pairs`` and ``predict_change``.
        shrink: frames are averaged over squares of this many pixels first; 1 is none (paper).
        latent_noise: standard deviation of the noise on the latent while it is not yet quantised; keeps
            the model from hiding the whole picture in a few exact numbers.
    """

    size_hw: tuple[int, int] = (64, 64)
    patch: int = 16
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)
    quantizer: VQConfig = field(default_factory=lambda: VQConfig(codes=8, dim=32))
    pairs: bool = False
    predict_change: bool = False
    reach: int = 0
    shrink: int = 1
    latent_noise: float = 0.5

    @property
    def seen_hw(self) -> tuple[int, int]:
        """Height and width of the frames after shrinking."""
        return self.size_hw[0] // self.shrink, self.size_hw[1] // self.shrink

    @property
    def displacements(self) -> int:
        """M, how many displacements are matched."""
        return (2 * self.reach + 1) ** 2 if self.reach else 0

    def __post_init__(self) -> None:
        if not 2 <= self.quantizer.codes <= 64:
            raise ValueError(f"a world has 2 to 64 latent actions, got {self.quantizer.codes}")
        if self.reach and not (self.pairs and self.predict_change):
            raise ValueError(
                "reach needs pairs and predict_change: it is about what moved between two frames"
            )


class LatentActionModel(nn.Module):
    """Encoder, codebook and decoder of latent actions."""

    def __init__(self, config: LatentActionsConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = grid_of(config.seen_hw, config.patch)
        pixels = config.patch**2 * 3
        self.num_actions = config.quantizer.codes
        self.embed = nn.Linear(
            pixels * (2 if config.pairs else 1) + config.displacements, config.encoder.width
        )
        self.encoder_place_ND = nn.Parameter(torch.randn(rows * columns, config.encoder.width) * 0.02)
        self.encoder = STTransformer(config.encoder)
        self.to_attention = nn.Linear(config.encoder.width, 1)
        nn.init.zeros_(self.to_attention.weight)
        self.to_latent = nn.Linear(config.encoder.width, config.quantizer.dim)
        self.latent_norm = nn.LayerNorm(config.quantizer.dim, elementwise_affine=False)
        self.quantizer = VQ(config.quantizer)
        self.decoder_embed = nn.Linear(pixels * (9 if config.reach else 1), config.decoder.width)
        self.from_latent = nn.Linear(config.quantizer.dim, config.decoder.width)
        self.decoder_place_ND = nn.Parameter(torch.randn(rows * columns, config.decoder.width) * 0.02)
        self.decoder = STTransformer(config.decoder)
        self.to_pixels = nn.Linear(config.decoder.width, pixels)
        if config.reach:
            self.to_moves = nn.Linear(config.decoder.width, config.displacements)
            # Begin with "nothing moves": the middle displacement has e^2 times the weight of all others.
            nn.init.zeros_(self.to_moves.weight)
            nn.init.zeros_(self.to_moves.bias)
            with torch.no_grad():
                self.to_moves.bias[config.displacements // 2] = math.log(config.displacements) + 2
        if config.predict_change:
            nn.init.zeros_(self.to_pixels.weight)
            nn.init.zeros_(self.to_pixels.bias)

    def see(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to the float pixels in [0, 1], shrunk, that the model works on."""
        pixels_BTHWC = to_float(frames_BTHWC)
        if self.config.shrink == 1:
            return pixels_BTHWC
        H, W = self.config.seen_hw
        k = self.config.shrink
        cut = pixels_BTHWC[:, :, : H * k, : W * k]
        return cut.unflatten(3, (W, k)).unflatten(2, (H, k)).mean(dim=(3, 5))

    def latents(self, pixels_BTHWC: Tensor) -> Tensor:
        """What `see` gives to one latent for each pair of neighbours, ``B(T-1)(dim)``, of unit scale."""
        config = self.config
        if config.pairs:
            now, then = pixels_BTHWC[:, :-1], pixels_BTHWC[:, 1:]
            patches_BTNP = patchify(torch.cat([now, then], dim=-1), config.patch) - 0.5
            if config.reach:
                costs = matching_costs(now, then, config.reach, config.patch)
                patches_BTNP = torch.cat([patches_BTNP, costs], dim=-1)
            x_BTND = self.encoder(self.embed(patches_BTNP) + self.encoder_place_ND)
        else:
            x_BTND = self.embed(patchify(pixels_BTHWC, config.patch) - 0.5) + self.encoder_place_ND
            x_BTND = self.encoder(x_BTND)[:, 1:]
        # Few places tell what was done: the model learns which. It begins as the plain mean.
        weights_BTN1 = self.to_attention(x_BTND).softmax(dim=2)
        return self.latent_norm(self.to_latent((weights_BTN1 * x_BTND).sum(dim=2)))

    def next_pixels(self, pixels_BTHWC: Tensor, latents_BTd: Tensor) -> Tensor:
        """Frames 1..T in [0, 1] and the latents of the steps that follow them: frames 2..T+1."""
        config = self.config
        patches_BTNP = patchify(pixels_BTHWC, config.patch) - 0.5
        if config.reach:  # what moves into a patch comes from beside it
            patches_BTNP = neighbourhood(patches_BTNP, grid_of(config.seen_hw, config.patch))
        x_BTND = self.decoder_embed(patches_BTNP)
        # Added, not concatenated: the paper found this to be the better conditioning.
        x_BTND = x_BTND + self.decoder_place_ND + self.from_latent(latents_BTd).unsqueeze(2)
        x_BTND = self.decoder(x_BTND)
        painted_BTHWC = unpatchify(self.to_pixels(x_BTND), config.patch, config.seen_hw)
        if config.reach:
            weights_BTNM = self.to_moves(x_BTND).softmax(-1)
            return move(pixels_BTHWC, weights_BTNM, config.reach, config.patch) + painted_BTHWC
        return pixels_BTHWC + painted_BTHWC if config.predict_change else painted_BTHWC.sigmoid()

    @torch.no_grad()
    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to int64 ``actions_BTm1`` in [0, A): the code of each step between neighbours.

        Raises:
            JinnError: frames are not uint8 BTHWC of the model's size.
        """
        check_frames(frames_BTHWC, self.config.size_hw)
        return self.quantizer(self.latents(self.see(frames_BTHWC))).codes

    def unit(self, frames_BTHWC: Tensor) -> Tensor:
        """What a squared error is counted in: that of a frozen picture, over all these frames."""
        pixels_BTHWC = self.see(frames_BTHWC)
        return (pixels_BTHWC[:, 1:] - pixels_BTHWC[:, :-1]).square().mean().clamp_min(1e-5)

    def loss(
        self, frames_BTHWC: Tensor, noise_BTm1d: Tensor | None = None, unit: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the next frames plus the codebook's losses.

        Args:
            frames_BTHWC: uint8 clips of at least 2 frames.
            noise_BTm1d: standard normal noise: then the latents are not quantised but blurred by it
                instead. None is the paper's objective.
            unit: of `unit`; None takes that of these frames. A clip's share of the loss is its own only if
                all batches of a run have the same.

        Returns:
            The loss, with the error as a share of that of a frozen picture: beside the codebook's losses,
            which are of order 1, a plain error would not be heard. For the log: ``mse`` of the pixels in
            [0, 1], ``frozen_mse`` of a frozen picture, ``actions`` (int64 BTm1) and ``latents`` (detached,
            before quantisation).
        """
        pixels_BTHWC = self.see(frames_BTHWC)
        past_BTHWC, next_BTHWC = pixels_BTHWC[:, :-1], pixels_BTHWC[:, 1:]
        latents_BTm1d = self.latents(pixels_BTHWC)
        quantized = self.quantizer(latents_BTm1d)
        if noise_BTm1d is None:
            used_BTm1d, codebook_loss = quantized.latents, quantized.loss
        else:
            used_BTm1d = latents_BTm1d + self.config.latent_noise * noise_BTm1d
            codebook_loss = quantized.loss * 0.0
        mse = (self.next_pixels(past_BTHWC, used_BTm1d).float() - next_BTHWC).square().mean()
        frozen_mse = (next_BTHWC - past_BTHWC).square().mean()
        report = {
            "mse": mse.detach(),
            "frozen_mse": frozen_mse,
            "actions": quantized.codes,
            "latents": latents_BTm1d.detach(),
        }
        unit = self.unit(frames_BTHWC) if unit is None else unit
        return mse / unit + codebook_loss, report
