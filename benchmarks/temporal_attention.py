"""Speed of implementations of temporal attention: ``python -m benchmarks.temporal_attention``.

Attention over the 16 to 64 frames of one position takes little arithmetic, so the implementations differ in how
often they read and write the clips. Every candidate takes queries, keys and values as projected (``BTNHC``, not
normalised) and does what `Attention.temporal` does with them: QK-norm, rotary positions, causal softmax over
a window of 16 frames. Forward, and forward and backward, in the precision of training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.measure import RESULTS, Row, interleaved, save
from jinn.allocator import keep_freed_memory
from jinn.models.attention import causal_attention, rotate, rotation_matrices
from jinn.training.optim import autocast, fastest_precision

WINDOW = 16
CURRENT = "sdpa"  # what `Attention.temporal` does

# query, key, value BTNHC and the two gains to the output BTNHC
Way = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def norms(query: Tensor, key: Tensor, query_gain: Tensor, key_gain: Tensor) -> tuple[Tensor, Tensor]:
    """QK-norm."""
    width = (query.shape[-1],)
    return F.layer_norm(query, width, query_gain), F.layer_norm(key, width, key_gain)


def window_mask(T: int, device: torch.device) -> Tensor:
    """Bool ``TT``, True where row t attends."""
    age = torch.arange(T, device=device)[:, None] - torch.arange(T, device=device)
    return (age >= 0) & (age < WINDOW)


def rotated(query: Tensor, key: Tensor, value: Tensor, q_gain: Tensor, k_gain: Tensor) -> tuple[Tensor, ...]:
    """Normalised, rotated by matrices, positions and heads as one axis: ``BXTC``."""
    query, key = norms(query, key, q_gain, k_gain)
    turn = rotation_matrices(torch.arange(query.shape[1], device=query.device), query.shape[-1])
    turn = turn.to(query.dtype)
    flat = (query.flatten(2, 3) @ turn, key.flatten(2, 3) @ turn, value.flatten(2, 3))
    return tuple(y.transpose(1, 2) for y in flat)


def elementwise(query: Tensor, key: Tensor, value: Tensor, q_gain: Tensor, k_gain: Tensor) -> Tensor:
    """Rotation channel by channel in the permuted layout, then SDPA: the former implementation."""
    B, T, N = query.shape[:3]
    query, key = norms(query, key, q_gain, k_gain)
    q, k, v = (y.permute(0, 2, 3, 1, 4) for y in (query, key, value))
    positions = torch.arange(T, device=query.device)
    q, k = rotate(q, positions).flatten(0, 1), rotate(k, positions).flatten(0, 1)
    mask = window_mask(T, query.device) if T > WINDOW else None
    y = F.scaled_dot_product_attention(q, k, v.flatten(0, 1), attn_mask=mask, is_causal=mask is None)
    return y.unflatten(0, (B, N)).permute(0, 3, 1, 2, 4)


def sdpa(query: Tensor, key: Tensor, value: Tensor, q_gain: Tensor, k_gain: Tensor) -> Tensor:
    """The current implementation: rotation as a matrix product, scaled_dot_product_attention without copies."""
    return causal_attention(*norms(query, key, q_gain, k_gain), value, WINDOW)


def matmul(query: Tensor, key: Tensor, value: Tensor, q_gain: Tensor, k_gain: Tensor) -> Tensor:
    """Batched matrix products and a softmax."""
    q, k, v = rotated(query, key, value, q_gain, k_gain)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores.masked_fill(~window_mask(query.shape[1], query.device), float("-inf"))
    y_BXTC = scores.softmax(-1).to(v.dtype) @ v
    return y_BXTC.transpose(1, 2).unflatten(2, query.shape[2:4])


def flex_way(T: int, device: torch.device) -> Way:
    """FlexAttention with a mask of blocks, compiled."""

    def seen(_b: Tensor, _h: Tensor, now: Tensor, then: Tensor) -> Tensor:
        return (then <= now) & (now - then < WINDOW)

    mask = create_block_mask(seen, None, None, T, T, device=device)
    compiled = torch.compile(flex_attention, dynamic=False)

    def flex(query: Tensor, key: Tensor, value: Tensor, q_gain: Tensor, k_gain: Tensor) -> Tensor:
        q, k, v = rotated(query, key, value, q_gain, k_gain)
        y_BXTC = compiled(q.to(v.dtype), k.to(v.dtype), v, block_mask=mask)
        assert isinstance(y_BXTC, Tensor)
        return y_BXTC.transpose(1, 2).unflatten(2, query.shape[2:4])

    return flex


def ways(T: int, device: torch.device, compiling: bool) -> dict[str, Way]:
    """The candidates that this device may know."""
    known: dict[str, Way] = {"elementwise": elementwise, CURRENT: sdpa, "matmul": matmul}
    if compiling:
        torch.compiler.reset()
        known |= {"compiled sdpa": torch.compile(sdpa, dynamic=False)}
        known |= {"compiled matmul": torch.compile(matmul, dynamic=False)}
        known |= {"flex": flex_way(T, device)}
    return known


def measure_shape(
    shape: tuple[int, int, int, int, int], device: torch.device, repeats: int, compiling: bool
) -> tuple[list[Row], list[str]]:
    """Time all candidates at one shape ``BTNHC``.

    Returns:
        A row for the forward and one for forward and backward, in milliseconds; a sentence for each
        candidate that does not run here.
    """
    B, T, N, H, C = shape
    torch.manual_seed(0)
    with autocast(device, fastest_precision(device)):  # the dtype that the projections leave
        dtype = (torch.ones(1, 1, device=device) @ torch.ones(1, 1, device=device)).dtype
    inputs = [torch.randn(shape, device=device).to(dtype).requires_grad_() for _ in range(3)]
    inputs += [torch.ones(C, device=device, requires_grad=True) for _ in range(2)]
    grad = torch.randn(shape, device=device).to(dtype)

    def forward(way: Way) -> Tensor:
        with autocast(device, fastest_precision(device)):
            return way(*inputs)

    def both(way: Way) -> object:
        return torch.autograd.grad(forward(way), inputs, grad)

    excuses, candidates = [], {}
    wanted = both(elementwise)
    assert isinstance(wanted, tuple)
    for name, way in ways(T, device, compiling).items():
        try:
            given = both(way)
            assert isinstance(given, tuple)
            # In bfloat16 the ways round at different places: a few hundredths of the largest gradient.
            worst = max(
                float((a.float() - b.float()).abs().max() / b.float().abs().max())
                for a, b in zip(given, wanted, strict=True)
            )
            if worst > (0.05 if dtype is torch.bfloat16 else 1e-3):
                raise ArithmeticError(f"its gradients are off by {worst:.1e} of the largest")
        except Exception as error:  # of any type, from a compiler: the others are still measured
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            excuses.append(f"`{name}` is left out at T {T}, width {C}: {type(error).__name__}: {reason}")
            continue
        candidates[name] = way

    source = torch.empty(shape, device=device, dtype=dtype)
    goal = torch.empty_like(source)
    rows: list[Row] = []
    # What has to be read and written. Forward: q, k, v, y. Backward: q, k, v, the gradient of y, three gradients.
    for passes, tensors, run in (("forward", 4, forward), ("forward and backward", 11, both)):
        timed = {name: partial(run, way) for name, way in candidates.items()}
        seconds = interleaved({"copy": lambda: goal.copy_(source), **timed}, repeats, device, warmup=2)
        bandwidth = 2 * source.nbytes / seconds.pop("copy")
        best = min(seconds, key=lambda name: seconds[name])
        row: Row = {"B": B, "T": T, "N": N, "heads": f"{H} x {C}", "pass": passes, "dtype": str(dtype)[6:]}
        row |= {f"{name}, ms": 1e3 * taken for name, taken in seconds.items()}
        row |= {"fastest": best, f"gain over {CURRENT}": seconds[CURRENT] / seconds[best]}
        row["its bytes/s over a copy's"] = tensors * source.nbytes / seconds[best] / bandwidth
        rows.append(row)
    return rows, excuses


def verdict(rows: list[Row]) -> str:
    """A line about each shape: the fastest in training (forward and backward)."""
    trained = [row for row in rows if row["pass"] == "forward and backward"]
    lines = [
        f"T {row['T']}, {row['heads']}: {row['fastest']} is fastest, {row[f'gain over {CURRENT}']:.2f} x"
        for row in trained
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=0, help="0: 7 on a CPU, 30 on a GPU")
    parser.add_argument(
        "--smallest", action="store_true", help="one small shape, nothing compiled: a rehearsal"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    gpu = device.type == "cuda"
    keep_freed_memory()
    tokens = 2**17 if gpu else 2**12
    # d 512 as in the paper's CoinRun study, d 192 as in coinrun_cpu, and on a GPU the head width of 811M.
    heads = [(8, 64), (6, 32), *([(20, 128)] if gpu else [])]
    shapes = [(tokens // (T * 256), T, 256, H, C) for H, C in heads for T in (16, 32, 64)]
    if not gpu:
        shapes = [(tokens // (T * 64), T, 64, H, C) for H, C in heads for T in (16, 32, 64)]
    if options.smallest:
        shapes = [(1, 5, 4, 2, 32)]
    rows: list[Row] = []
    excuses: list[str] = []
    for shape in shapes:
        # On a CPU compiling takes longer than all the measuring: one length will do.
        compiling = not options.smallest and (gpu or shape[1] == 16)
        more, why = measure_shape(shape, device, options.repeats or (30 if gpu else 7), compiling)
        rows += more
        excuses += why
        for row in more:
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    note = (
        "Times are in milliseconds. The last column is the rate at which the fastest reads and writes its inputs and "
        "outputs, divided by the rate of a copy."
    )
    note = " ".join([note, *(excuse.rstrip(".") + "." for excuse in dict.fromkeys(excuses))])
    print("\n".join(excuses), verdict(rows), sep="\n")
    save("temporal-attention", rows, device, note, options.out)
    return rows


if __name__ == "__main__":
    main()
