"""The dynamics model (paper section 2.1): a MaskGIT on an ST-transformer.

    p(z_t | z_1..z_t-1, a~_1..a~_t-1)

Given the tokens of the frames so far and the latent action of each step, it predicts the tokens of the next
frame. In training, tokens are masked at random and the model predicts them. In play, the next frame starts as
masks only, and `jinn.models.maskgit.fill` reveals it in a few steps.

`jinn.models.ours.previous_frame` is our own dynamics model, and `jinn.models.ours.self_rollout` its last phase of
training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from jinn.contracts import Generators, to_device, uniform
from jinn.models.attention import KVCache
from jinn.models.digits import Digits, IndependentDigits
from jinn.models.embedding import TokenEmbedding
from jinn.models.maskgit import SamplingConfig, fill
from jinn.models.patches import position_embedding
from jinn.models.transformer import Loss, STTransformer, TransformerConfig


@dataclass(frozen=True)
class DynamicsConfig:
    """The paper's dynamics model. Codebook, token grid and number of actions come from the other two models.

    Attributes:
        transformer: sizes.
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)

    def build(self, levels: tuple[int, ...], grid_hw: tuple[int, int], num_actions: int) -> Dynamics:
        """The model itself; arguments as of `Dynamics`."""
        return Dynamics(self.transformer, levels, grid_hw, num_actions)


class Dynamics(nn.Module):
    """Tokens and actions to the tokens of the next frame.

    Args:
        transformer: sizes.
        levels: of the digits of a token; K is their product.
        grid_hw: rows and columns of tokens.
        num_actions: A.

    Attributes:
        mask_token: K, the first number after the codes.
        keep_first: whether the first frame of a roll-out never leaves the window, as in `KVCache.append`.
        digits: from the transformer's output to tokens, see `jinn.models.digits`.
    """

    def __init__(
        self,
        transformer: TransformerConfig,
        levels: tuple[int, ...],
        grid_hw: tuple[int, int],
        num_actions: int,
    ) -> None:
        super().__init__()
        width = transformer.width
        self.levels, self.keep_first = levels, False
        self.token_embed = TokenEmbedding(levels, width, std=0.5, mask=True)
        self.mask_token = self.token_embed.mask_token
        self.action_embed = nn.Embedding(num_actions, width)
        nn.init.normal_(self.action_embed.weight, std=0.5)
        self.position_ND = position_embedding(grid_hw[0] * grid_hw[1], width)
        self.transformer = STTransformer(transformer)
        self.digits: Digits = IndependentDigits(width, levels)

    def condition(self, previous_BTN: Tensor, actions_BT: Tensor) -> Tensor:
        """The conditioning of frames, added to the embeddings of their tokens (paper: the action alone).

        Args:
            previous_BTN: tokens of the frames before them, without masks.
            actions_BT: the actions that lead from those frames to them.

        Returns:
            ``BTND``, or ``BT1D`` where it is the same at every position.
        """
        return self.action_embed(actions_BT).unsqueeze(2)

    def embed(self, tokens_BTN: Tensor, actions_BTm1: Tensor, clean_BTN: Tensor) -> Tensor:
        """Clips to the transformer's input ``BTND``.

        Args:
            tokens_BTN: in [0, K], where K is the mask.
            actions_BTm1: ``actions_BTm1[:, t]`` leads from frame t to t + 1 and conditions frame t + 1.
            clean_BTN: the same tokens without masks.
        """
        x_BTND = self.token_embed(tokens_BTN) + self.position_ND
        condition_BTND = self.condition(clean_BTN[:, :-1], actions_BTm1)
        return torch.cat([x_BTND[:, :1], x_BTND[:, 1:] + condition_BTND], dim=1)

    def forward(self, tokens_BTN: Tensor, actions_BTm1: Tensor, clean_BTN: Tensor) -> Tensor:
        """``x_BTND`` of every position, masked or not, for the head `digits`; arguments as of `embed`."""
        return self.transformer(self.embed(tokens_BTN, actions_BTm1, clean_BTN))

    # Training: masked tokens are predicted.

    def perceive(self, actions_BTm1: Tensor, generators: Generators) -> Tensor:
        """The actions as training shows them: here as they are."""
        return actions_BTm1

    def sample_mask(self, frames: int, tokens: int, generators: Generators) -> Tensor:
        """Bool ``BTN`` on the CPU, True where training masks a token. Frame 0 is the prompt and stays whole.

        The paper masks all frames of a clip at one rate, drawn uniformly from [0.5, 1].
        """
        rate_BT1 = 0.5 + 0.5 * uniform(generators, 1, 1).repeat(1, frames, 1)
        rate_BT1[:, 0] = 0.0
        return uniform(generators, frames, tokens) < rate_BT1

    def loss(
        self,
        tokens_BTN: Tensor,
        actions_BTm1: Tensor,
        generators: Generators,
        first_BN: Tensor | None = None,
    ) -> Loss:
        """Cross-entropy of the masked tokens: the mean over each clip's, and then the mean over clips.

        So every clip counts the same whichever others share its batch, and a batch may be split.

        Args:
            tokens_BTN: int64 from the frozen tokenizer; these are the targets, and no mask ever touches them.
            actions_BTm1: int64 from the LAM. Indices carry no gradient: the paper's stop-gradient.
            generators: one per clip, for its masks.
            first_BN: tokens that the transformer sees in place of the first frame, as in play where the first frame
                of a roll-out stays in the window; what the second frame is conditioned on stays the first one.

        Returns:
            The loss, and for the log: ``nll`` in nats per token, and ``accuracy``, the fraction of masked
            tokens whose digits are all predicted right.
        """
        (B, T, N), device = tokens_BTN.shape, tokens_BTN.device
        perceived_BTm1 = self.perceive(actions_BTm1, generators)
        # Sampled and indexed on the CPU: asking a GPU which positions are masked means waiting for it.
        masked_BTN = self.sample_mask(T, N, generators)
        masked_X = masked_BTN.flatten().nonzero().squeeze(1)
        weight_B = 1 / (B * masked_BTN.sum((1, 2)).clamp_min(1))
        weight_X = to_device(weight_B[masked_X // (T * N)], device)
        masked_X, masked_BTN = to_device(masked_X, device), to_device(masked_BTN, device)
        inputs_BTN = tokens_BTN.masked_fill(masked_BTN, self.mask_token)
        if first_BN is not None:
            inputs_BTN[:, 0] = first_BN
        x_BTND = self(inputs_BTN, perceived_BTm1, tokens_BTN)
        nll_X, right_X = self.digits.nll(x_BTND.flatten(0, 2)[masked_X], tokens_BTN.flatten()[masked_X])
        nll = (nll_X * weight_X).sum()
        return nll, {"nll": nll.detach(), "accuracy": (right_X * weight_X).sum()}

    def call(self, loss: Callable[..., Loss], *arguments: Any) -> Loss:
        """``loss(self, *arguments)``, for losses that are not methods of this class.

        Where weights are sharded (FSDP), they are gathered inside registered methods only, and this is one.
        """
        return loss(self, *arguments)

    # Play: one frame at a time, with the past frames in a cache.

    def prefill(self, tokens_BTN: Tensor, actions_BTm1: Tensor) -> KVCache:
        """The cache after clean frames and the actions between them."""
        return self.transformer.prefill(self.embed(tokens_BTN, actions_BTm1, tokens_BTN))[1]

    def next_frame(
        self,
        tokens_BN: Tensor,
        condition_BND: Tensor,
        cache: KVCache,
        wanted_BR: Tensor | None = None,
    ) -> Tensor:
        """``x_BRD`` of the next frame, some of whose tokens may be masks, for the head `digits`: one MaskGIT step.

        Args:
            tokens_BN: as revealed so far.
            condition_BND: from `condition`, the same in all steps of a frame.
            cache: of the frames before.
            wanted_BR: the positions whose outputs are wanted; None is all of them.
        """
        x_BND = self.token_embed(tokens_BN) + self.position_ND + condition_BND
        if wanted_BR is None:
            return self.transformer.next_frame(x_BND, cache)[0]
        return self.transformer.next_outputs(x_BND, cache, wanted_BR)

    def sample_frame(
        self, condition_BND: Tensor, cache: KVCache, noise_SBNU: Tensor, sampling: SamplingConfig
    ) -> Tensor:
        """Int64 ``tokens_BN`` of the next frame, by `fill`; arguments as of `next_frame` and `fill`."""

        def sample(tokens_BN: Tensor, drawn_BR: Tensor, uniform_BRQ: Tensor) -> tuple[Tensor, Tensor]:
            x_BRD = self.next_frame(tokens_BN, condition_BND, cache, drawn_BR)
            return self.digits.sample(x_BRD, uniform_BRQ, sampling.temperature)

        return fill(sample, noise_SBNU, self.mask_token, sampling)

    def commit(self, tokens_BN: Tensor, condition_BND: Tensor, cache: KVCache) -> KVCache:
        """The cache once the frame is complete: the keys and values of its clean tokens join it."""
        x_BND = self.token_embed(tokens_BN) + self.position_ND + condition_BND
        _, keys_LBNHC, values_LBNHC = self.transformer.next_frame(x_BND, cache)
        return cache.append(keys_LBNHC, values_LBNHC, self.keep_first)
