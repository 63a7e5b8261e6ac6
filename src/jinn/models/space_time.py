"""One attention over space and time at once: the block of C-ViViT, which the paper compares its own with (section 3.4).

Every token sees all tokens of its frame and of the frames before it, so that the cost grows with the square of the
number of frames. `jinn.models.transformer.STTransformer` is built of these blocks where its config is a
`SpaceTimeConfig`; the interface is that of `STBlock` there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jinn.models.attention import Sizes, at_positions, attend, rotation_matrices


@dataclass(frozen=True)
class SpaceTimeConfig(Sizes):
    """Sizes of a transformer of such blocks."""

    def looks_back(self, number: int) -> bool:
        """Every block sees past frames."""
        return True

    def block(self, number: int) -> SpaceTimeBlock:
        """The block of this number; they are all alike."""
        return SpaceTimeBlock(self)


class SpaceTimeBlock(nn.Module):
    """Causal attention over all tokens of the window, and one feed-forward; each on a normalised input."""

    def __init__(self, config: SpaceTimeConfig) -> None:
        super().__init__()
        self.window = config.window
        self.attention_norm = nn.LayerNorm(config.width, bias=False)
        self.attention = config.attention_layer()
        self.feedforward_norm = nn.LayerNorm(config.width, bias=False)
        self.feedforward = config.feedforward_layer()

    def forward(self, x_BTND: Tensor) -> Tensor:
        """Whole clips."""
        return self.clip(x_BTND)[0]

    def clip(self, x_BTND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whole clips; also the keys (not rotated) and values ``BNHTC``."""
        y_BTND, key, value = self.attend_clip(self.attention_norm(x_BTND))
        x_BTND = x_BTND + y_BTND
        return x_BTND + self.feedforward(self.feedforward_norm(x_BTND)), key, value

    def attend_clip(self, x_BTND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The attention of `clip`: rotary embeddings tell frames apart, learned ones (of the model) positions."""
        T, N = x_BTND.shape[1:3]
        query, key, value = self.attention.project(x_BTND)
        frames_T = torch.arange(T, device=x_BTND.device)
        rotation_TCC = rotation_matrices(frames_T, query.shape[-1]).to(query.dtype)
        rotated = ((y.flatten(2, 3) @ rotation_TCC).view_as(y) for y in (query, key))
        query_BHXC, key_BHXC, value_BHXC = (y.flatten(1, 2).transpose(1, 2) for y in (*rotated, value))
        frame_X = frames_T.repeat_interleave(N)
        age_XX = frame_X[:, None] - frame_X
        y_BHXC = attend(query_BHXC, key_BHXC, value_BHXC, (age_XX >= 0) & (age_XX < self.window))
        y_BTND = self.attention.out(y_BHXC.transpose(1, 2).flatten(2)).unflatten(1, (T, N))
        return y_BTND, key.permute(0, 2, 3, 1, 4), value.permute(0, 2, 3, 1, 4)

    def next_frame(
        self, x_BND: Tensor, *past: Tensor, wanted_BR: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`clip` for one frame; its output at ``wanted_BR`` if given; ``past`` as in `Attention.temporal_next`."""
        keys_BNHPC, values_BNHPC, bias_BP, rotation_BCC = past
        normed_BND = self.attention_norm(x_BND)
        asking_BRD = None
        if wanted_BR is not None:
            x_BND, asking_BRD = at_positions(x_BND, wanted_BR), at_positions(normed_BND, wanted_BR)
        query, key, value = self.attention.project(normed_BND, asking_BRD)
        rotated = ((y.flatten(1, 2) @ rotation_BCC.to(y.dtype)).view_as(y) for y in (query, key))
        query_BHNC, own_BHNC, value_BHNC = (y.transpose(1, 2) for y in (*rotated, value))
        keys_BHXC = torch.cat([keys_BNHPC.transpose(1, 2).flatten(2, 3), own_BHNC], dim=2)
        values_BHXC = torch.cat([values_BNHPC.transpose(1, 2).flatten(2, 3), value_BHNC], dim=2)
        is_past_BX = (bias_BP == 0).repeat(1, key.shape[1])
        is_seen_BX = torch.cat([is_past_BX, torch.ones_like(is_past_BX[:, :1]).expand(-1, key.shape[1])], 1)
        y_BHNC = attend(query_BHNC, keys_BHXC, values_BHXC, is_seen_BX[:, None, None])
        x_BND = x_BND + self.attention.out(y_BHNC.transpose(1, 2).flatten(2))
        return x_BND + self.feedforward(self.feedforward_norm(x_BND)), key, value
