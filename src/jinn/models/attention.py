"""Attention over the tokens of a frame, over time, or over both at once, and the cache of past frames.

The paper leaves open what we chose as follows: QK-norm in all models (it names it for the dynamics), and rotary
embeddings of time, which depend on distances only, so the window can slide without end.

Keys are cached after their rotary embedding, by the number of their frame in the roll-out, so cached entries
never need to be rotated again. A cache may slide for ever: angles are computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    """What all kinds of transformers have in common.

    Attributes:
        layers: L, number of blocks.
        width: D, width of the residual stream.
        heads: attention heads, spatial and temporal alike.
        head_width: size of a head's query and key ("k/q size" in the paper); 0 means width / heads.
        feedforward: width of the hidden layer as a multiple of ``width``.
        window: how many frames attention over time spans, the present one included.
    """

    layers: int = 4
    width: int = 256
    heads: int = 8
    head_width: int = 0
    feedforward: float = 4.0
    window: int = 16

    def __post_init__(self) -> None:
        sizes = self.layers, self.width, self.heads, self.window
        if min(sizes) < 1:
            raise ValueError(f"layers, width, heads and window must be at least 1, got {sizes}")
        if max(self.layers, self.window) > 1000:  # a mistake that would take all time or memory
            raise ValueError(
                f"there are at most 1000 layers and a window of 1000, got {self.layers}, {self.window}"
            )
        if min(self.head_width, self.feedforward) < 0:
            raise ValueError("head_width and feedforward are not negative")
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

    def attention_layer(self) -> Attention:
        """An attention of these sizes."""
        return Attention(self.width, self.heads, self.query_width, self.value_width)

    def feedforward_layer(self) -> nn.Sequential:
        """A feed-forward of these sizes."""
        hidden = max(1, round(self.feedforward * self.width))
        return nn.Sequential(
            nn.Linear(self.width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, self.width, bias=False)
        )


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


def at_positions(x_BN: Tensor, wanted_BR: Tensor) -> Tensor:
    """The R positions of a tensor ``BN...`` that are wanted, ``BR...``; N of them are all, in their order."""
    if wanted_BR.shape[1] == x_BN.shape[1]:
        return x_BN
    return x_BN[torch.arange(len(x_BN), device=x_BN.device).unsqueeze(1), wanted_BR]


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
    """`attend` as two matrix products and a softmax, which computes in float32 inside whatever it returns."""
    scores = query @ (key * query.shape[-1] ** -0.5).transpose(-1, -2)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    with torch.autocast("cpu", enabled=False):  # which would keep the weights in float32, and copy them twice
        weights = scores.softmax(-1)
    return weights @ value


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

    def __init__(self, width: int, heads: int, query_width: int, value_width: int) -> None:
        super().__init__()
        self.query_width, self.value_width = query_width, value_width
        self.query = nn.Linear(width, heads * query_width, bias=False)
        self.key = nn.Linear(width, heads * query_width, bias=False)
        self.value = nn.Linear(width, heads * value_width, bias=False)
        self.out = nn.Linear(heads * value_width, width, bias=False)
        self.query_norm = nn.LayerNorm(query_width, bias=False)
        self.key_norm = nn.LayerNorm(query_width, bias=False)

    def project(self, x: Tensor, asking: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """``(..., D)`` to queries, keys and values ``(..., heads, C)``; ``asking`` may have the queries' own input."""
        # Widths, not the number of heads: with tensor parallelism a rank has some of the heads only.
        query = self.query(x if asking is None else asking).unflatten(-1, (-1, self.query_width))
        key = self.key(x).unflatten(-1, (-1, self.query_width))
        value = self.value(x).unflatten(-1, (-1, self.value_width))
        return self.query_norm(query), self.key_norm(key), value

    def spatial(self, x_BTND: Tensor, asking_BTRD: Tensor | None = None) -> Tensor:
        """Every token of a frame attends to every token of that frame; or only R of them do, ``asking_BTRD``."""
        B, T = x_BTND.shape[:2]
        query, key, value = (y.flatten(0, 1).transpose(1, 2) for y in self.project(x_BTND, asking_BTRD))
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
