"""A latent action model that sees tokens in place of pixels: the paper tries both, and keeps pixels (section 3.4).

It is the paper's model (`jinn.models.latent_actions`) on the quantised latents of the tokenizer, a vector for each
position: what the tokenizer leaves out, such as small motions, no action can say. `jinn.studies.latent_inputs` compares
the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from jinn.models.latent_actions import AttentionPooling, LatentActionModel, check_number_of_actions
from jinn.models.patches import position_embedding
from jinn.models.quantize import VQ, VQConfig
from jinn.models.transformer import STTransformer, TransformerConfig


@dataclass(frozen=True)
class TokenLatentActionsConfig:
    """The paper's latent action model on tokens.

    Attributes:
        size_hw: height and width of the frames in pixels.
        encoder: clips to latents.
        decoder: clips and latents to the tokens' vectors of the next frames.
        quantizer: the codebook; its size A is the number of actions that a player has, 2 to 64.
    """

    size_hw: tuple[int, int] = (64, 64)
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)
    quantizer: VQConfig = field(default_factory=lambda: VQConfig(codes=8, dim=32))

    def __post_init__(self) -> None:
        check_number_of_actions(self.quantizer.codes)

    def build(self, positions: int, channels: int) -> TokenLatentActionModel:
        """The model itself, for frames of so many tokens with vectors of so many numbers."""
        return TokenLatentActionModel(self, positions, channels)


class TokenLatentActionModel(LatentActionModel):
    """Two ST-transformers over the tokens of a clip; where `LatentActionModel` says frames, it takes their vectors.

    These are float ``BTNC``, from the tokenizer's `lookup`.
    """

    def __init__(self, config: TokenLatentActionsConfig, positions: int, channels: int) -> None:
        super().__init__(config.size_hw, config.quantizer)
        self.config = config
        self.embed = nn.Linear(channels, config.encoder.width)
        self.encoder_position_ND = position_embedding(positions, config.encoder.width)
        self.encoder = STTransformer(config.encoder)
        self.pooling = AttentionPooling(config.encoder.width, config.quantizer.dim)
        self.quantizer = VQ(config.quantizer)
        self.decoder_embed = nn.Linear(channels, config.decoder.width)
        self.from_latent = nn.Linear(config.quantizer.dim, config.decoder.width)
        self.decoder_position_ND = position_embedding(positions, config.decoder.width)
        self.decoder = STTransformer(config.decoder)
        self.to_vectors = nn.Linear(config.decoder.width, channels)

    def preprocess(self, vectors_BTNC: Tensor) -> Tensor:
        """The vectors as they are."""
        return vectors_BTNC.float()

    def encode_pixels(self, vectors_BTNC: Tensor) -> Tensor:
        """Vectors to the latents before quantisation, one for each step: ``B(T-1)(dim)``."""
        x_BTND = self.encoder(self.embed(vectors_BTNC) + self.encoder_position_ND)
        return self.pooling(x_BTND[:, 1:])  # the output at frame t+1 has seen frames 1..t+1

    def predict_next(self, vectors_BTNC: Tensor, latents_BTd: Tensor) -> Tensor:
        """Vectors of frames 1..T and the latents of the steps that follow them to vectors of frames 2..T+1."""
        x_BTND = self.decoder_embed(vectors_BTNC) + self.decoder_position_ND
        return self.to_vectors(self.decoder(x_BTND + self.from_latent(latents_BTd).unsqueeze(2)))

    @torch.no_grad()
    def encode(self, vectors_BTNC: Tensor) -> Tensor:
        """Vectors to int64 ``actions_BTm1`` in [0, A): the code of each step between neighbours."""
        return self.quantizer(self.encode_pixels(self.preprocess(vectors_BTNC))).codes
