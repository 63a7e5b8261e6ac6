"""The dynamics model (paper section 2.1): a MaskGIT on an ST-transformer.

Given the tokens of the frames so far and the latent action of each step, it predicts the tokens of the
next frame. Training masks tokens at random and asks for them; play starts from a frame of masks and
fills it in a few steps (`jinn.models.sampling`).

The paper masks all frames of a clip at one rate in [0.5, 1], and shows them clean in play. Two changes
of our own, off in the paper's recipes, train as one plays:

* ``clean_frames``: every frame has its own rate, and a share of the frames is not masked at all;
* ``previous_frame``: each place is told the token that stood there one frame before. Most of a frame
  does not move, and a model that need not fetch it by attention learns the rest sooner.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.models.transformer import LookBack, Past, STTransformer, TransformerConfig


@dataclass(frozen=True)
class DynamicsConfig:
    """A dynamics model. Codebook, token grid and number of actions come from the other two models.

    Attributes:
        transformer: sizes.
        clean_frames: share of frames that stay unmasked in training, each of the others having a rate of
            its own in [min_rate, 1]. 0 is the paper's: one rate for the whole clip.
        min_rate: lowest rate of masking.
        previous_frame: add an embedding of the token one frame before, at each place.
        context_noise: share of the context's tokens replaced by random ones in training, drawn anew from
            [0, context_noise] for every clip; against drift in long roll-outs. 0 is the paper's.
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    clean_frames: float = 0.0
    min_rate: float = 0.5
    previous_frame: bool = False
    context_noise: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.clean_frames < 1 and 0 <= self.min_rate <= 1 and 0 <= self.context_noise < 1):
            raise ValueError("clean_frames, min_rate and context_noise are shares between 0 and 1")


class Dynamics(nn.Module):
    """Tokens and actions to logits of tokens."""

    def __init__(
        self, config: DynamicsConfig, codebook_size: int, grid_hw: tuple[int, int], num_actions: int
    ) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = codebook_size
        self.mask_token = codebook_size
        width = config.transformer.width
        self.token_embed = nn.Embedding(codebook_size + 1, width)
        self.action_embed = nn.Embedding(num_actions, width)
        if config.previous_frame:
            self.previous_embed = nn.Embedding(codebook_size, width)
        self.place_ND = nn.Parameter(torch.randn(grid_hw[0] * grid_hw[1], width) * 0.02)
        self.transformer = STTransformer(config.transformer)
        self.to_logits = nn.Linear(width, codebook_size, bias=False)
        for embedding in (self.token_embed, self.action_embed, getattr(self, "previous_embed", None)):
            if embedding is not None:
                nn.init.normal_(embedding.weight, std=0.5)
        nn.init.normal_(self.to_logits.weight, std=0.5 * width**-0.5)

    def embed(self, tokens_BTN: Tensor, actions_BTm1: Tensor, seen_BTN: Tensor) -> Tensor:
        """Clips to the transformer's input.

        Args:
            tokens_BTN: in [0, K], K being the mask.
            actions_BTm1: ``actions_BTm1[:, t]`` leads from frame t to t + 1; added to all of frame t + 1.
            seen_BTN: the tokens without masks, for the embedding of the previous frame.
        """
        x_BTND = self.token_embed(tokens_BTN) + self.place_ND
        change_BTND = self.action_embed(actions_BTm1).unsqueeze(2)
        if self.config.previous_frame:
            change_BTND = change_BTND + self.previous_embed(seen_BTN[:, :-1])
        return torch.cat([x_BTND[:, :1], x_BTND[:, 1:] + change_BTND], dim=1)

    def forward(self, tokens_BTN: Tensor, actions_BTm1: Tensor, seen_BTN: Tensor) -> Tensor:
        """``logits_BTNK`` of every place, masked or not; arguments as in `embed`."""
        return self.to_logits(self.transformer(self.embed(tokens_BTN, actions_BTm1, seen_BTN)))

    def prefill(self, tokens_BTN: Tensor, actions_BTm1: Tensor) -> Past:
        """Clean frames to the `Past` that the next frame looks back on."""
        return self.transformer.prefill(self.embed(tokens_BTN, actions_BTm1, tokens_BTN))[1]

    def embed_next(self, tokens_BN: Tensor, actions_B: Tensor, previous_BN: Tensor) -> Tensor:
        """`embed` for the one frame that follows ``previous_BN``."""
        x_BND = self.token_embed(tokens_BN) + self.place_ND + self.action_embed(actions_B).unsqueeze(1)
        return x_BND + self.previous_embed(previous_BN) if self.config.previous_frame else x_BND

    def next_logits(
        self, tokens_BN: Tensor, actions_B: Tensor, previous_BN: Tensor, back: LookBack
    ) -> Tensor:
        """``logits_BNK`` of the next frame, some of whose tokens may be masks: one MaskGIT step."""
        x_BND = self.embed_next(tokens_BN, actions_B, previous_BN)
        return self.to_logits(self.transformer.next_frame(x_BND, back)[0])

    def commit(
        self, tokens_BN: Tensor, actions_B: Tensor, previous_BN: Tensor, past: Past, back: LookBack
    ) -> Past:
        """The `Past` once the frame is finished: its clean tokens' keys and values join."""
        x_BND = self.embed_next(tokens_BN, actions_B, previous_BN)
        _, keys_LBNHC, values_LBNHC = self.transformer.next_frame(x_BND, back)
        return past.append(keys_LBNHC, values_LBNHC)

    def draw_mask(self, tokens_BTN: Tensor, generator: torch.Generator) -> Tensor:
        """Bool ``BTN``, True where training hides the token. Frame 0 is the prompt and stays whole."""
        B, T, N = tokens_BTN.shape

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=generator.device).to(tokens_BTN.device)

        low = self.config.min_rate
        if self.config.clean_frames:
            rate_BT1 = low + (1 - low) * uniform(B, T, 1)
            clean_BT1 = uniform(B, T, 1) < self.config.clean_frames
            # The last frame is nobody's context: clean, it would teach nothing.
            clean_BT1[:, -1] = False
            rate_BT1 = rate_BT1.masked_fill(clean_BT1, 0.0)
        else:
            rate_BT1 = (low + (1 - low) * uniform(B, 1, 1)).expand(B, T, 1).clone()
        rate_BT1[:, 0] = 0.0
        return uniform(B, T, N) < rate_BT1

    def loss(
        self, tokens_BTN: Tensor, actions_BTm1: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the hidden tokens.

        Args:
            tokens_BTN: int64 from the frozen tokenizer; these are the targets, and no mask ever
                touches them.
            actions_BTm1: int64 from the LAM. Indices carry no gradient: the paper's stop-gradient.
            generator: the chance of masks and noise.

        Returns:
            The loss, and for the log: ``nll`` in nats a token, ``accuracy`` of the likeliest token.
        """
        hidden_BTN = self.draw_mask(tokens_BTN, generator)
        seen_BTN = tokens_BTN
        if self.config.context_noise:
            draw = torch.rand((2, *tokens_BTN.shape), generator=generator, device=generator.device).to(
                tokens_BTN.device
            )
            rate_B11 = torch.rand(len(tokens_BTN), 1, 1, generator=generator, device=generator.device)
            replaced = draw[0] < self.config.context_noise * rate_B11.to(tokens_BTN.device)
            seen_BTN = torch.where(replaced, (draw[1] * self.codebook_size).long(), tokens_BTN)
        inputs_BTN = seen_BTN.masked_fill(hidden_BTN, self.mask_token)
        x_BTND = self.transformer(self.embed(inputs_BTN, actions_BTm1, seen_BTN))
        logits_XK = self.to_logits(x_BTND[hidden_BTN]).float()
        target_X = tokens_BTN[hidden_BTN]
        nll = F.cross_entropy(logits_XK, target_X)
        accuracy = (logits_XK.detach().argmax(-1) == target_X).float().mean()
        return nll, {"nll": nll.detach(), "accuracy": accuracy}
