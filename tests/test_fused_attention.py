"""The fused kernel against the plain path: output and all gradients, by Triton's interpreter, no GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="the fused kernel needs Triton, which comes with PyTorch for CUDA")

# In a process of its own: Triton reads its variable when it is imported, jinn reads the switch likewise.
PROGRAM = """
import torch
from jinn.models import transformer
from jinn.models.transformer import Attention, TransformerConfig

fused = transformer.FUSED_ATTENTION
torch.manual_seed(0)
calls = []
original = fused.fused_temporal
fused.fused_temporal = lambda *arguments: calls.append(1) or original(*arguments)
for T, window, head_width, value_width in [
    (5, 3, 32, 32), (16, 16, 64, 64), (7, 9, 128, 128), (20, 16, 32, 64), (33, 16, 64, 32),
]:
    heads = 2
    attention = Attention(TransformerConfig(width=heads * value_width, heads=heads, head_width=head_width))
    torch.nn.init.normal_(attention.query_norm.weight, 1.0, 0.3)
    torch.nn.init.normal_(attention.key_norm.weight, 1.0, 0.3)
    x_BTND = torch.randn(2, T, 2, heads * value_width, requires_grad=True)
    inputs = [x_BTND, *attention.parameters()]
    grad = torch.randn_like(x_BTND)
    results = []
    for transformer.FUSED_ATTENTION in (None, fused):
        y, key, value = attention.temporal(x_BTND, window)
        results.append((y, key, value, *torch.autograd.grad(y, inputs, grad, retain_graph=True)))
    plain, fast = results
    torch.testing.assert_close(fast[:3], plain[:3], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)
    print(T, window, head_width, value_width, "agree")
assert len(calls) == 5
"""


def test_the_fused_kernel_is_the_plain_path() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "JINN_FUSED_TEMPORAL": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agree") == 5


@pytest.mark.parametrize("kernel", ["_forward", "_backward"])
def test_the_kernels_compile_for_a_gpu(kernel: str) -> None:
    """The interpreter takes more than the compiler does: to Hopper's machine code, which needs no GPU."""
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from jinn.models import fused_attention

    function = getattr(fused_attention, kernel)
    sizes = {"ROWS": 16, "HALF": 32, "WIDTH": 64}
    float32 = {"query_gain", "key_gain", "cos_table", "sin_table", "query_share", "key_share"}
    scalars = {"T": "i32", "X": "i32", "window": "i32", "eps": "fp32", **dict.fromkeys(sizes, "constexpr")}
    signature = {
        name: scalars.get(name, "*fp32" if name in float32 else "*bf16") for name in function.arg_names
    }
    source = ASTSource(function, signature, sizes)
    compiled = compile_kernel(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 2})
    assert "mma" in compiled.asm["ptx"]
