"""Temporal attention in one pass on a GPU: QK-norm, rotary positions and windowed causal softmax, in Triton.

`fused_temporal` computes what `jinn.models.transformer.Attention.temporal` does between its projections and
its output layer; that method is the text to read, this one only a faster way where it is one. Over 16 to 64
frames attention is hardly any arithmetic: time goes into reading and writing the clips. The plain way passes
over queries and keys some ten times (two norms, casts, two rotations, attention); here every program loads
the T rows of one head at one place straight from the layout ``BTNHC`` in which the projections leave them,
and writes the result there. The way back computes the forward again instead of keeping anything of it.

Nothing imports this module unless ``JINN_FUSED_TEMPORAL=1`` is set: it has been tested with Triton's
interpreter only, and is not the default before ``python -m benchmarks.temporal_attention --device cuda`` has
shown on a GPU that it wins.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rows of a program's tiles; attention over more frames belongs to a kernel that walks over blocks of keys.
LONGEST = 64


def usable(query_BTNHC: Tensor, value_BTNHC: Tensor) -> bool:
    """Whether the kernel knows these shapes and can run here; if not, the plain way is taken."""
    widths = query_BTNHC.shape[-1], value_BTNHC.shape[-1]
    here = query_BTNHC.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    tiles = all(width in (32, 64, 128) for width in widths)
    return here and tiles and query_BTNHC.shape[1] <= LONGEST


def fused_temporal(
    query_BTNHC: Tensor,
    key_BTNHC: Tensor,
    value_BTNHC: Tensor,
    query_gain_C: Tensor,
    key_gain_C: Tensor,
    window: int,
    eps: float = 1e-5,
    base: float = 100.0,
) -> Tensor:
    """Norm, rotation and windowed causal attention over T, for every place and head by itself.

    Args:
        query_BTNHC: as projected, not normalised; float32 or bfloat16 (arithmetic but for the matrix
            products is float32).
        key_BTNHC: likewise.
        value_BTNHC: its C may differ.
        query_gain_C: of the LayerNorm without bias over a head's query.
        key_gain_C: of its key.
        window: a frame sees itself and ``window - 1`` frames before.
        eps: of the LayerNorms.
        base: as in `jinn.models.transformer.rotate`.

    Returns:
        ``BTNHC`` with the value's width, in the value's dtype.
    """
    half = query_BTNHC.shape[-1] // 2
    T, device = query_BTNHC.shape[1], query_BTNHC.device
    frequencies = base ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
    angles = torch.arange(T, device=device, dtype=torch.float32)[:, None] * frequencies
    return _FusedTemporal.apply(
        query_BTNHC, key_BTNHC, value_BTNHC, query_gain_C, key_gain_C, angles.cos(), angles.sin(), window, eps
    )


class _FusedTemporal(torch.autograd.Function):
    """The two kernels as one differentiable function."""

    @staticmethod
    def forward(ctx, query, key, value, query_gain, key_gain, cos, sin, window, eps):
        inputs = tuple(x.contiguous() for x in (query, key, value, query_gain, key_gain, cos, sin))
        ctx.save_for_backward(*inputs)
        ctx.window, ctx.eps = window, eps
        out = torch.empty_like(inputs[2])
        grid, sizes = _launch(query, value)
        _forward[grid](*inputs, out, window, eps, **sizes)
        return out

    @staticmethod
    def backward(ctx, grad):
        inputs = ctx.saved_tensors
        query, key, value, query_gain, key_gain = inputs[:5]
        grads = [torch.empty_like(x) for x in (query, key, value)]
        grid, sizes = _launch(query, value)
        # Each program's share of the gains' gradients; summed below in a fixed order, unlike by atomics.
        shares = query.new_empty((2, grid[0], query.shape[-1]), dtype=torch.float32)
        _backward[grid](*inputs, grad.contiguous(), *grads, *shares, ctx.window, ctx.eps, **sizes)
        gains = shares.sum(1)
        return (*grads, gains[0].to(query_gain.dtype), gains[1].to(key_gain.dtype), None, None, None, None)


def _launch(query: Tensor, value: Tensor) -> tuple[tuple[int], dict[str, int]]:
    """One program a head of a place of a clip, and the kernels' sizes."""
    B, T, N, H, C = query.shape
    rows = max(16, triton.next_power_of_2(T))  # 16 is the least that matrix units take
    sizes = {"T": T, "X": N * H, "ROWS": rows, "HALF": C // 2, "WIDTH": value.shape[-1]}
    # So many warps that the way back keeps its tiles in registers, as ptxas counts them for Hopper.
    return (B * N * H,), {**sizes, "num_warps": min(8, max(1, rows * C // 512))}


@triton.jit
def _rows(T, X, ROWS: tl.constexpr, WIDTH: tl.constexpr, FIRST: tl.constexpr, ROW_WIDTH: tl.constexpr):
    """Offsets of WIDTH columns from FIRST on of this program's T rows in ``BTXC``; which rows exist."""
    program = tl.program_id(0).to(tl.int64)
    t = tl.arange(0, ROWS)
    start = (program // X * T + t) * X + program % X
    columns = FIRST + tl.arange(0, WIDTH)
    return start[:, None] * ROW_WIDTH + columns[None, :], (t < T)[:, None]


@triton.jit
def _normalise(place, T, X, eps, ROWS: tl.constexpr, HALF: tl.constexpr):
    """Load T rows as halves a and b; subtract the mean, divide by the spread."""
    at_a, there = _rows(T, X, ROWS, HALF, 0, 2 * HALF)
    at_b, _ = _rows(T, X, ROWS, HALF, HALF, 2 * HALF)
    a = tl.load(place + at_a, mask=there, other=0.0).to(tl.float32)
    b = tl.load(place + at_b, mask=there, other=0.0).to(tl.float32)
    mean = (tl.sum(a, 1) + tl.sum(b, 1)) / (2 * HALF)
    a -= mean[:, None]
    b -= mean[:, None]
    scale = 1.0 / tl.sqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / (2 * HALF) + eps)[:, None]
    return a * scale, b * scale, scale


@triton.jit
def _turn(a, b, gain, cos, sin, HALF: tl.constexpr):
    """Multiply normalised halves by the gain and rotate them."""
    column = tl.arange(0, HALF)
    a *= tl.load(gain + column).to(tl.float32)[None, :]
    b *= tl.load(gain + HALF + column).to(tl.float32)[None, :]
    return a * cos - b * sin, a * sin + b * cos


@triton.jit
def _unturn(da, db, a, b, scale, gain, share, cos, sin, HALF: tl.constexpr):
    """Gradients of what `_turn` gives to those of what `_normalise` loaded; writes the gain's share."""
    column = tl.arange(0, HALF)
    da, db = da * cos + db * sin, db * cos - da * sin
    share += tl.program_id(0).to(tl.int64) * 2 * HALF
    tl.store(share + column, tl.sum(da * a, 0))
    tl.store(share + HALF + column, tl.sum(db * b, 0))
    da *= tl.load(gain + column).to(tl.float32)[None, :]
    db *= tl.load(gain + HALF + column).to(tl.float32)[None, :]
    mean = ((tl.sum(da, 1) + tl.sum(db, 1)) / (2 * HALF))[:, None]
    along = ((tl.sum(da * a, 1) + tl.sum(db * b, 1)) / (2 * HALF))[:, None]
    return (da - mean - a * along) * scale, (db - mean - b * along) * scale


@triton.jit
def _angles(cos, sin, T, ROWS: tl.constexpr, HALF: tl.constexpr):
    """The tables' rows; beyond the clip no rotation."""
    t = tl.arange(0, ROWS)[:, None]
    at = t * HALF + tl.arange(0, HALF)[None, :]
    return tl.load(cos + at, mask=t < T, other=1.0), tl.load(sin + at, mask=t < T, other=0.0)


@triton.jit
def _weights(qa, qb, ka, kb, T, window, ROWS: tl.constexpr, HALF: tl.constexpr):
    """Softmax of the scores of rotated queries and keys, over the window of each row."""
    scores = tl.dot(qa, tl.trans(ka), input_precision="ieee")
    scores = tl.dot(qb, tl.trans(kb), scores, input_precision="ieee") * (2.0 * HALF) ** -0.5
    now = tl.arange(0, ROWS)[:, None]
    then = tl.arange(0, ROWS)[None, :]
    # A row beyond the clip sees itself: a softmax over nothing would not be a number.
    seen = (then <= now) & (now - then < window)
    scores = tl.where(seen, scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def _forward(
    query, key, value, query_gain, key_gain, cos_table, sin_table, out, window, eps,
    T, X, ROWS: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    cos, sin = _angles(cos_table, sin_table, T, ROWS, HALF)
    qa, qb, _ = _normalise(query, T, X, eps, ROWS, HALF)
    ka, kb, _ = _normalise(key, T, X, eps, ROWS, HALF)
    at, there = _rows(T, X, ROWS, WIDTH, 0, WIDTH)
    v = tl.load(value + at, mask=there, other=0.0)
    qa, qb = _turn(qa, qb, query_gain, cos, sin, HALF)
    ka, kb = _turn(ka, kb, key_gain, cos, sin, HALF)
    # Matrix products take the dtype that the projections left: bfloat16 in mixed precision.
    d = v.dtype
    weights = _weights(qa.to(d), qb.to(d), ka.to(d), kb.to(d), T, window, ROWS, HALF)
    y = tl.dot(weights.to(d), v, input_precision="ieee")
    tl.store(out + at, y.to(d), mask=there)


@triton.jit
def _backward(
    query, key, value, query_gain, key_gain, cos_table, sin_table, grad,
    query_grad, key_grad, value_grad, query_share, key_share, window, eps,
    T, X, ROWS: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    cos, sin = _angles(cos_table, sin_table, T, ROWS, HALF)
    qa, qb, query_scale = _normalise(query, T, X, eps, ROWS, HALF)
    ka, kb, key_scale = _normalise(key, T, X, eps, ROWS, HALF)
    at, there = _rows(T, X, ROWS, WIDTH, 0, WIDTH)
    v = tl.load(value + at, mask=there, other=0.0)
    dy = tl.load(grad + at, mask=there, other=0.0).to(v.dtype)
    d = v.dtype
    turned_qa, turned_qb = _turn(qa, qb, query_gain, cos, sin, HALF)
    turned_ka, turned_kb = _turn(ka, kb, key_gain, cos, sin, HALF)
    turned_qa, turned_qb = turned_qa.to(d), turned_qb.to(d)
    turned_ka, turned_kb = turned_ka.to(d), turned_kb.to(d)
    weights = _weights(turned_qa, turned_qb, turned_ka, turned_kb, T, window, ROWS, HALF)

    dv = tl.dot(tl.trans(weights.to(d)), dy, input_precision="ieee")
    tl.store(value_grad + at, dv.to(d), mask=there)

    pull = tl.dot(dy, tl.trans(v), input_precision="ieee")
    pull = weights * (pull - tl.sum(weights * pull, 1)[:, None]) * (2.0 * HALF) ** -0.5
    pull = pull.to(d)
    at_a, there = _rows(T, X, ROWS, HALF, 0, 2 * HALF)
    at_b, _ = _rows(T, X, ROWS, HALF, HALF, 2 * HALF)

    da = tl.dot(pull, turned_ka, input_precision="ieee")
    db = tl.dot(pull, turned_kb, input_precision="ieee")
    da, db = _unturn(da, db, qa, qb, query_scale, query_gain, query_share, cos, sin, HALF)
    tl.store(query_grad + at_a, da.to(d), mask=there)
    tl.store(query_grad + at_b, db.to(d), mask=there)

    pull = tl.trans(pull)
    da = tl.dot(pull, turned_qa, input_precision="ieee")
    db = tl.dot(pull, turned_qb, input_precision="ieee")
    da, db = _unturn(da, db, ka, kb, key_scale, key_gain, key_share, cos, sin, HALF)
    tl.store(key_grad + at_a, da.to(d), mask=there)
    tl.store(key_grad + at_b, db.to(d), mask=there)
