"""FLOPs of a call, as the formulas of its model count them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Scores and weighted values; a causal mask is not taken off."""
    *many, S, C = query
    return 2 * math.prod(many) * S * key[-2] * (C + value[-1])


def _attention_backward(_grad: Any, *arguments: Any, **named: Any) -> int:
    """Twice the forward: what a kernel computes again is its own affair."""
    return 2 * _attention(*arguments, **named)


def _none(*_: Any, **__: Any) -> int:
    """Batched products are ways of rotating and moving here, and not the model's work."""
    return 0


_KERNELS = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")


def count_flops(run: Callable[[], object]) -> int:
    """FLOPs of the matrix products and the attention in a call, as the model's formulas need them."""
    aten = torch.ops.aten
    formulas: dict[Any, Any] = {aten.bmm: _none, aten.baddbmm: _none}
    for kernel in _KERNELS:
        for suffix, formula in (("", _attention), ("_backward", _attention_backward)):
            name = f"_scaled_dot_product_{kernel}{suffix}"
            if hasattr(aten, name):
                formulas[getattr(aten, name)] = formula
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        run()
    return counter.get_total_flops()
