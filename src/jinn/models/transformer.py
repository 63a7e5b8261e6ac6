"""The ST-transformer (paper section 2, figure 4): the one building block of all three models.

Each block is spatial attention over the N tokens of one frame, causal temporal attention over the T
tokens at one position, and ONE feed-forward: the feed-forward after the spatial layer is left out, as in
the paper. The cost is linear in the number of frames.

The paper leaves open what we chose as follows: pre-norm LayerNorm without bias, a learned embedding of the position in
the frame (added by the models), GELU; what concerns attention is in `jinn.models.attention`.

There are two paths through the same weights:

* `STTransformer.forward` takes whole clips. It serves training and encoding.
* `STTransformer.next_frame` takes one frame and the `KVCache`, the keys and values of the frames before it,
  so that a roll-out computes every frame once. The tests hold the two paths together to 1e-4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.models.attention import KVCache, Sizes, at_positions, rotate
from jinn.models.space_time import SpaceTimeBlock, SpaceTimeConfig

# What the loss of a model returns: a scalar to minimise, and values for the log.
Loss = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class TransformerConfig(Sizes):
    """Sizes of one ST-transformer.

    Attributes:
        temporal_every: a block has temporal attention if its number (from 1) is a multiple of this;
            1 is the paper's, 0 means none: every frame for itself.
    """

    temporal_every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temporal_every < 0:
            raise ValueError("temporal_every is not negative")

    def looks_back(self, number: int) -> bool:
        """Whether the block of this number, from 1, has temporal attention."""
        return bool(self.temporal_every) and number % self.temporal_every == 0

    def block(self, number: int) -> STBlock:
        """The block of this number, from 1."""
        return STBlock(self, self.looks_back(number))


class STBlock(nn.Module):
    """Spatial attention, temporal attention (if any), one feed-forward; each on a normalised input."""

    def __init__(self, config: TransformerConfig, temporal: bool) -> None:
        super().__init__()
        self.window = config.window
        self.spatial_norm = nn.LayerNorm(config.width, bias=False)
        self.spatial = config.attention_layer()
        self.temporal_norm = nn.LayerNorm(config.width, bias=False) if temporal else None
        self.temporal = config.attention_layer() if temporal else None
        self.feedforward_norm = nn.LayerNorm(config.width, bias=False)
        self.feedforward = config.feedforward_layer()

    def forward(self, x_BTND: Tensor) -> Tensor:
        """Whole clips."""
        return self.clip(x_BTND)[0]

    def clip(self, x_BTND: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Whole clips; also the temporal keys (not rotated) and values ``BNHTC``, if it has any."""
        key = value = None
        x_BTND = x_BTND + self.spatial.spatial(self.spatial_norm(x_BTND))
        if self.temporal is not None and self.temporal_norm is not None:
            y, key, value = self.temporal.temporal(self.temporal_norm(x_BTND), self.window)
            x_BTND = x_BTND + y
        return x_BTND + self.feedforward(self.feedforward_norm(x_BTND)), key, value

    def next_frame(
        self, x_BND: Tensor, *past: Tensor, wanted_BR: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """`clip` for one frame; ``past`` as in `Attention.temporal_next`, if any.

        With ``wanted_BR`` all that it returns is of these positions, and little is computed for the others.
        """
        key = value = None
        normed_B1ND = self.spatial_norm(x_BND).unsqueeze(1)
        asking_B1RD = None
        if wanted_BR is not None:
            x_BND = at_positions(x_BND, wanted_BR)
            asking_B1RD = at_positions(normed_B1ND.squeeze(1), wanted_BR).unsqueeze(1)
        x_BND = x_BND + self.spatial.spatial(normed_B1ND, asking_B1RD).squeeze(1)
        if self.temporal is not None and self.temporal_norm is not None:
            keys_BNHPC, values_BNHPC, *others = past
            if wanted_BR is not None:
                keys_BNHPC, values_BNHPC = (at_positions(y, wanted_BR) for y in (keys_BNHPC, values_BNHPC))
            y, key, value = self.temporal.temporal_next(
                self.temporal_norm(x_BND), keys_BNHPC, values_BNHPC, *others
            )
            x_BND = x_BND + y
        return x_BND + self.feedforward(self.feedforward_norm(x_BND)), key, value


Block = STBlock | SpaceTimeBlock
AnyTransformerConfig = TransformerConfig | SpaceTimeConfig


class STTransformer(nn.Module):
    """L blocks and a last norm. The module's docstring explains the two paths through it."""

    def __init__(self, config: AnyTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(config.block(number) for number in range(1, config.layers + 1))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal(0, 1/sqrt(fan in)); layers that write to the residual stream start at 1/sqrt(2 L) of that."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                scale = module.in_features**-0.5
                if name.endswith(("out", "feedforward.2")):
                    scale *= (2 * self.config.layers) ** -0.5
                nn.init.normal_(module.weight, std=scale)

    def forward(self, x_BTND: Tensor) -> Tensor:
        """Whole clips: frame t sees frames ``t - window + 1`` to ``t``."""
        for block in self.blocks:
            x_BTND = block(x_BTND)
        return self.norm(x_BTND)

    def prefill(self, x_BTND: Tensor) -> tuple[Tensor, KVCache]:
        """`forward`, and the `KVCache` for the frame after the clip."""
        B, T, N, _ = x_BTND.shape
        slots = self.config.window - 1
        kept = min(T, slots)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for block in cast(Iterable[Block], self.blocks):
            x_BTND, key, value = block.clip(x_BTND)
            if key is not None and value is not None:
                keys.append(key)
                values.append(value)

        def cached(per_layer: list[Tensor], rotated: bool) -> Tensor:
            if not per_layer:
                return x_BTND.new_zeros(0, B, N, self.config.heads, slots, 2)
            stacked = torch.stack(per_layer)
            if rotated:
                stacked = rotate(stacked, torch.arange(T, device=x_BTND.device))
            return F.pad(stacked[..., T - kept :, :], (0, 0, slots - kept, 0))

        valid_BP = torch.arange(slots, device=x_BTND.device).expand(B, slots) >= slots - kept
        frames_B = torch.full((B,), T, device=x_BTND.device)
        return self.norm(x_BTND), KVCache(cached(keys, True), cached(values, False), valid_BP, frames_B)

    def next_frame(self, x_BND: Tensor, cache: KVCache) -> tuple[Tensor, Tensor, Tensor]:
        """One frame after those in the cache.

        Returns:
            The output ``BND``, and this frame's keys and values ``LBNHC`` for `KVCache.append`.
        """
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for block, past in self._with_past(cache):
            x_BND, key, value = block.next_frame(x_BND, *past)
            if key is not None and value is not None:
                keys.append(key)
                values.append(value)
        if not keys:
            none = x_BND.new_zeros(0, *x_BND.shape[:2], self.config.heads, 2)
            return self.norm(x_BND), none, none
        return self.norm(x_BND), torch.stack(keys), torch.stack(values)

    def next_outputs(self, x_BND: Tensor, cache: KVCache, wanted_BR: Tensor) -> Tensor:
        """The output of `next_frame` at the wanted positions, ``BRD``: the last block computes no other."""
        *earlier, (last, last_past) = self._with_past(cache)
        for block, past in earlier:
            x_BND, _, _ = block.next_frame(x_BND, *past)
        x_BRD, _, _ = last.next_frame(x_BND, *last_past, wanted_BR=wanted_BR)
        return self.norm(x_BRD)

    def _with_past(self, cache: KVCache) -> Iterator[tuple[Block, tuple[Tensor, ...]]]:
        """The blocks, each with what its `next_frame` reads of the past."""
        bias_BP = torch.zeros(cache.valid_BP.shape, device=cache.valid_BP.device)
        bias_BP = bias_BP.masked_fill(~cache.valid_BP, float("-inf"))
        rotation_BCC = cache.rotation(self.config.query_width)
        layers = iter(zip(cache.keys_LBNHPC, cache.values_LBNHPC, strict=True))
        for block in cast(Iterable[Block], self.blocks):
            looks_back = isinstance(block, SpaceTimeBlock) or block.temporal is not None
            yield block, (*next(layers), bias_BP, rotation_BCC) if looks_back else ()
