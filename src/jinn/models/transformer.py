"""The ST-transformer (paper section 2, figure 4): the one building block of all three models.

Each block is spatial attention over the N tokens of one frame, causal temporal attention over the T
tokens at one position, and ONE feed-forward: the feed-forward after the spatial layer is left out, as in
the paper. The cost is linear in the number of frames.

The paper leaves open what we chose as follows: pre-norm LayerNorm without bias, QK-norm, rotary embeddings
of time (they depend on distances only, so the window can slide without end), a learned embedding of the
position in the frame (added by the models), GELU.

There are two paths through the same weights:

* `STTransformer.forward` takes whole clips. It serves training and encoding.
* `STTransformer.next_frame` takes one frame and the `KVCache`, the keys and values of the frames before it,
  so that a roll-out computes every frame once. The tests hold the two paths together to 1e-4.

Keys are cached after their rotary embedding, by the number of their frame in the roll-out, so cached entries
never need to be rotated again. A cache may slide for ever: angles are computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What the loss of a model returns: a scalar to minimise, and values for the log.
Loss = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of one ST-transformer.

    Attributes:
        layers: L, number of blocks.
        width: D, width of the residual stream.
        heads: attention heads, spatial and temporal alike.
        head_width: size of a head's query and key ("k/q size" in the paper); 0 means width / heads.
        feedforward: width of the hidden layer as a multiple of ``width``.
        temporal_every: a block has temporal attention if its number (from 1) is a multiple of this;
            1 is the paper's, 0 means none: every frame for itself.
        window: how many frames temporal attention spans, the present one included.
    """

    layers: int = 4
    width: int = 256
    heads: int = 8
    head_width: int = 0
    feedforward: float = 4.0
    temporal_every: int = 1
    window: int = 16

    def __post_init__(self) -> None:
        sizes = self.layers, self.width, self.heads, self.window
        if min(sizes) < 1:
            raise ValueError(f"layers, width, heads and window must be at least 1, got {sizes}")
        if max(self.layers, self.window) > 1000:  # a mistake that would take all time or memory
            raise ValueError(
                f"there are at most 1000 layers and a window of 1000, got {self.layers}, {self.window}"
            )
        if min(self.head_width, self.feedforward, self.temporal_every) < 0:
            raise ValueError("head_width, feedforward and temporal_every are not negative")
        if not self.head_width and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads: set head_width")
        if self.query_width % 2:
            raise ValueError(f"a head's width must be even for rotary positions, got {self.query_width}")

    @property
    def query_width(self) -> int:
        """Width of one head's query and key."""
        return self.head_width or self.width // self.heads

    @property
    def value_width(self) -> int:
        """Width of one head's value: the heads together are about as wide as the stream."""
        return -(-self.width // self.heads)


class KVCache(NamedTuple):
    """Keys and values of the past frames, for the L layers that have temporal attention.

    Attributes:
        keys_LBNHPC: rotated by the number of their frame, oldest first; P = window - 1, C the query width.
        values_LBNHPC: C is the value width.
        valid_BP: False where there is no past frame yet (slots fill from the right).
        frames_B: int64, how many frames there have been, which is the number of the present frame.
    """

    keys_LBNHPC: Tensor
    values_LBNHPC: Tensor
    valid_BP: Tensor
    frames_B: Tensor

    def rotation(self, width: int) -> Tensor:
        """The rotary embedding of the present frame, as matrices ``BCC``."""
        return rotation_matrices(self.frames_B, width)

    def append(self, keys_LBNHC: Tensor, values_LBNHC: Tensor, keep_first: bool = False) -> KVCache:
        """The cache one frame later: the oldest frame leaves, the given one (not rotated yet) is the newest.

        With ``keep_first`` the first frame stays in the oldest place of a full cache, as if it were always as many
        frames ago, and the second oldest leaves.
        """
        slots, width = self.valid_BP.shape[1], keys_LBNHC.shape[-1]

        def slide(old: Tensor, new: Tensor, on_CC: Tensor | None = None) -> Tensor:
            kept = old[:, :, :, :, 1:]
            if keep_first and slots > 1:
                first = old[:, :, :, :, :1] if on_CC is None else old[:, :, :, :, :1] @ on_CC
                is_full_B1111 = self.valid_BP[:, :1].view(-1, 1, 1, 1, 1)
                oldest = torch.where(is_full_B1111, first, kept[:, :, :, :, :1])
                kept = torch.cat([oldest, kept[:, :, :, :, 1:]], dim=4)
            return torch.cat([kept, new.unsqueeze(4)], dim=4) if slots else old

        rotation_BCC = self.rotation(width).to(keys_LBNHC.dtype)
        one_frame_CC = rotation_matrices(torch.ones_like(self.frames_B[:1]), width)[0].to(keys_LBNHC.dtype)
        rotated_LBNHC = (keys_LBNHC.flatten(2, 3) @ rotation_BCC).view_as(keys_LBNHC)
        return KVCache(
            slide(self.keys_LBNHPC, rotated_LBNHC, one_frame_CC),
            slide(self.values_LBNHPC, values_LBNHC),
            torch.cat([self.valid_BP[:, 1:], torch.ones_like(self.valid_BP[:, :1])], dim=1),
            self.frames_B + 1,
        )


def rotate(x: Tensor, positions: Tensor, base: float = 100.0) -> Tensor:
    """Rotary position embedding (Su et al. 2021) over the last axis.

    Args:
        x: ``(..., P, C)``, C even.
        positions: ``(P,)`` in frames, of any sign; only differences matter to attention.
        base: longest wave length over 2 pi, in frames. Windows are tens of frames: 100 keeps every
            pair of channels useful.
    """
    half = x.shape[-1] // 2
    # In float64: an angle after a hundred thousand frames is to be as exact as after one.
    frequencies = base ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angles = positions.to(torch.float64)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def rotation_matrices(positions: Tensor, width: int) -> Tensor:
    """`rotate` as float64 matrices ``PCC``: ``x[..., p, :] @ matrices[p]`` is ``rotate(x, positions)``.

    A rotation is linear, so its matrix is its image of the identity. As one matrix product over whole clips
    it takes a fifth of the time of the element-wise formula, forward and backward, on a CPU
    (docs/benchmarks.md), because the latter reads and writes many half-rows of 16 or 32 numbers.
    """
    identity_CC = torch.eye(width, dtype=torch.float64, device=positions.device)
    identity_CPC = identity_CC[:, None].expand(width, len(positions), width)
    return rotate(identity_CPC, positions).transpose(0, 1)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """scaled_dot_product_attention over ``(..., positions, C)``, queries and values of any two widths.

    PyTorch's fast CUDA kernels want one width for all three, a multiple of 8; otherwise the matrix of scores
    is materialised. The paper's large models have values of 103 beside queries of 128, so we pad with zeros:
    they add nothing to a score, and their columns of the output are cut off.

    On a CPU in bfloat16 its backward pass is slow: with plain matrix products and a softmax between them, which is what
    we compute there, a step of training takes two thirds of the time (docs/research-log.md).
    """
    C, V = query.shape[-1], value.shape[-1]
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        return attend_by_products(query, key, value, mask, causal)
    if C == V:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    wide = -(-max(C, V) // 8) * 8
    query, key, value = (F.pad(x, (0, wide - x.shape[-1])) for x in (query, key, value))
    y = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=C**-0.5)
    return y[..., :V]


def attend_by_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """`attend` as two matrix products, with the softmax in float32."""
    scores = query @ (key * query.shape[-1] ** -0.5).transpose(-1, -2)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


def causal_attention(query_BTNHC: Tensor, key_BTNHC: Tensor, value_BTNHC: Tensor, window: int) -> Tensor:
    """Attention over T at each position and head, with rotary embeddings, over the last ``window`` frames.

    Returns:
        ``BTNHC``, C the value's.
    """
    T, N = query_BTNHC.shape[1:3]
    positions = torch.arange(T, device=query_BTNHC.device)
    rotation_TCC = rotation_matrices(positions, query_BTNHC.shape[-1]).to(query_BTNHC.dtype)
    age = positions[:, None] - positions
    mask = (age >= 0) & (age < window) if window < T else None
    # Positions and heads are both batch axes here: one axis, X = N * H, and nothing is copied for it.
    y_BXTC = attend(
        (query_BTNHC.flatten(2, 3) @ rotation_TCC).transpose(1, 2),
        (key_BTNHC.flatten(2, 3) @ rotation_TCC).transpose(1, 2),
        value_BTNHC.flatten(2, 3).transpose(1, 2),
        mask,
        causal=mask is None,
    )
    return y_BXTC.transpose(1, 2).unflatten(2, (N, -1))


class Attention(nn.Module):
    """Multi-head attention with QK-norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.query_width, self.value_width = config.query_width, config.value_width
        self.query = nn.Linear(config.width, config.heads * config.query_width, bias=False)
        self.key = nn.Linear(config.width, config.heads * config.query_width, bias=False)
        self.value = nn.Linear(config.width, config.heads * config.value_width, bias=False)
        self.out = nn.Linear(config.heads * config.value_width, config.width, bias=False)
        self.query_norm = nn.LayerNorm(config.query_width, bias=False)
        self.key_norm = nn.LayerNorm(config.query_width, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(..., D)`` to queries, keys and values ``(..., heads, C)``."""
        # Widths, not the number of heads: with tensor parallelism a rank has some of the heads only.
        query = self.query(x).unflatten(-1, (-1, self.query_width))
        key = self.key(x).unflatten(-1, (-1, self.query_width))
        value = self.value(x).unflatten(-1, (-1, self.value_width))
        return self.query_norm(query), self.key_norm(key), value

    def spatial(self, x_BTND: Tensor) -> Tensor:
        """Every token of a frame attends to every token of that frame."""
        B, T = x_BTND.shape[:2]
        query, key, value = (y.flatten(0, 1).transpose(1, 2) for y in self.project(x_BTND))
        y = attend(query, key, value)
        return self.out(y.transpose(1, 2).flatten(2)).unflatten(0, (B, T))

    def temporal(self, x_BTND: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
        """Every token attends to its own position in this frame and the ``window - 1`` frames before.

        Returns:
            The output, and the keys (not rotated) and values ``BNHTC`` for a `KVCache`.
        """
        query_BTNHC, key_BTNHC, value_BTNHC = self.project(x_BTND)
        y_BTNHC = causal_attention(query_BTNHC, key_BTNHC, value_BTNHC, window)
        y_BTND = self.out(y_BTNHC.flatten(3))
        return y_BTND, key_BTNHC.permute(0, 2, 3, 1, 4), value_BTNHC.permute(0, 2, 3, 1, 4)

    def temporal_next(
        self, x_BND: Tensor, keys_BNHPC: Tensor, values_BNHPC: Tensor, bias_BP: Tensor, rotation_BCC: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`temporal` for one frame: cached keys are rotated already, the query is rotated by ``rotation_BCC``.

        Returns:
            The output ``BND``, and this frame's keys (not rotated) and values ``BNHC``.
        """
        query, key, value = self.project(x_BND)
        scale = query.shape[-1] ** -0.5
        rotated_BNHC = (query.flatten(1, 2) @ rotation_BCC.to(query.dtype)).view_as(query)
        past_BNHP = torch.matmul(keys_BNHPC, rotated_BNHC.unsqueeze(-1)).squeeze(-1)
        own_BNH1 = (query * key).sum(-1, keepdim=True)  # the same angle on both sides cancels
        scores = torch.cat([past_BNHP * scale + bias_BP[:, None, None, :], own_BNH1 * scale], dim=-1)
        weights = scores.float().softmax(-1).to(value.dtype)
        y = torch.matmul(weights[..., None, :-1], values_BNHPC).squeeze(-2) + weights[..., -1:] * value
        return self.out(y.flatten(-2)), key, value


class STBlock(nn.Module):
    """Spatial attention, temporal attention (if any), one feed-forward; each on a normalised input."""

    def __init__(self, config: TransformerConfig, temporal: bool) -> None:
        super().__init__()
        self.window = config.window
        hidden = max(1, round(config.feedforward * config.width))
        self.spatial_norm = nn.LayerNorm(config.width, bias=False)
        self.spatial = Attention(config)
        self.temporal_norm = nn.LayerNorm(config.width, bias=False) if temporal else None
        self.temporal = Attention(config) if temporal else None
        self.feedforward_norm = nn.LayerNorm(config.width, bias=False)
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, hidden, bias=False),
            nn.GELU(),
            nn.Linear(hidden, config.width, bias=False),
        )

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
        """`clip` for one frame, its output at ``wanted_BR``; ``past`` as in `Attention.temporal_next`, if any."""
        key = value = None
        x_BND = x_BND + self.spatial.spatial(self.spatial_norm(x_BND[:, None])).squeeze(1)
        if self.temporal is not None and self.temporal_norm is not None:
            y, key, value = self.temporal.temporal_next(self.temporal_norm(x_BND), *past)
            x_BND = x_BND + y
        if wanted_BR is not None and wanted_BR.shape[1] < x_BND.shape[1]:
            x_BND = torch.take_along_dim(x_BND, wanted_BR.unsqueeze(-1), dim=1)
        return x_BND + self.feedforward(self.feedforward_norm(x_BND)), key, value


class STTransformer(nn.Module):
    """L blocks and a last norm. The module's docstring explains the two paths through it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        every = config.temporal_every
        self.blocks = nn.ModuleList(
            STBlock(config, temporal=bool(every) and (i + 1) % every == 0) for i in range(config.layers)
        )
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
        for block in cast(Iterable[STBlock], self.blocks):
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

    def next_frame(
        self, x_BND: Tensor, cache: KVCache, wanted_BR: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One frame after those in the cache; ``wanted_BR`` are the positions whose outputs are wanted, None all.

        Returns:
            The output ``BRD``, and this frame's keys and values ``LBNHC`` for `KVCache.append`.
        """
        keys: list[Tensor] = []
        values: list[Tensor] = []
        bias_BP = torch.zeros(cache.valid_BP.shape, device=x_BND.device)
        bias_BP = bias_BP.masked_fill(~cache.valid_BP, float("-inf"))
        rotation_BCC = cache.rotation(self.config.query_width)
        for block in cast(Iterable[STBlock], self.blocks):
            layer = len(keys)
            past: tuple[Tensor, ...] = ()
            if block.temporal is not None:
                past = cache.keys_LBNHPC[layer], cache.values_LBNHPC[layer], bias_BP, rotation_BCC
            is_last = block is self.blocks[-1]
            x_BND, key, value = block.next_frame(x_BND, *past, wanted_BR=wanted_BR if is_last else None)
            if key is not None and value is not None:
                keys.append(key)
                values.append(value)
        if not keys:
            none = x_BND.new_zeros(0, *x_BND.shape[:2], self.config.heads, 2)
            return self.norm(x_BND), none, none
        return self.norm(x_BND), torch.stack(keys), torch.stack(values)
