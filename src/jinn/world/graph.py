"""The file format of a frame as an ONNX graph: its inputs, its outputs, and the weights that it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from jinn.files import cache_folder, tensor_files
from jinn.models.attention import KVCache
from jinn.world.folder import BUILT_IN

GraphPrecision = Literal["float32", "int8"]

# tokens_BN, dynamics_cache, decoder_cache, and the new frame_BHWC: what `World.next_frame` returns.
Frame = tuple[Tensor, KVCache, KVCache | None, Tensor]

# The names of a graph's tensors, in the order of `World.next_frame`. "past" is the cache of the dynamics, "drawn"
# that of the tokenizer's decoder; a world whose decoder has none lacks the latter. Only worlds that were trained with
# doubt have the last input.
CACHES = ("past", "drawn")
STATE = ("tokens_BN", *(f"{cache}_{field}" for cache in CACHES for field in KVCache._fields))
INPUTS = (*STATE, "actions_B", "noise_SBNU", "doubt_B")
OUTPUTS = (*(f"next_{name}" for name in STATE), "frame_BHWC")

# Grows when graphs of the same weights become faster or better: those of before are made anew.
EDITION = 2

# The batch axis of each of these tensors.
STATE_AXES = (0, *(axis for _ in CACHES for axis in (1, 1, 0, 0)))
AXES = dict(zip((*INPUTS, *OUTPUTS), (*STATE_AXES, 0, 1, 0, *STATE_AXES, 0), strict=True))


def name_tensors(values: Sequence[Tensor | KVCache | None], names: Sequence[str]) -> dict[str, Tensor]:
    """The arguments or results of `World.next_frame` as tensors by their names in a graph: `INPUTS` or `OUTPUTS`."""
    tensors: list[Tensor | None] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        else:
            tensors += value or [None] * len(KVCache._fields)
    if names == INPUTS and len(tensors) == len(INPUTS) - 1:  # a world that cannot doubt
        tensors.append(None)
    return {name: x for name, x in zip(names, tensors, strict=True) if x is not None}


def group_tensors(named: dict[str, Tensor], names: Sequence[str]) -> tuple[Any, ...]:
    """The inverse of `name_tensors`."""
    width = len(KVCache._fields)
    caches = (
        KVCache(*(named[name] for name in names[first : first + width])) if names[first] in named else None
        for first in (1, 1 + width)
    )
    return (named[names[0]], *caches, *(named[name] for name in names[1 + 2 * width :] if name in named))


def onnx_path(folder: Path, precision: GraphPrecision) -> Path:
    """Where the graph of the world in a folder lies: in it, or in the user's cache if the world is built in."""
    if folder.resolve().parent == BUILT_IN.resolve():
        folder = cache_folder() / "graphs" / folder.name
    return folder / f"frame-{precision}.onnx"


def weights_digest(folder: Path) -> str:
    """SHA-256 of what a graph is made from: a graph of other weights, sampling or inputs must not be played."""
    # The doubt is left out: the config says whether a world has it, and graphs without it stay valid.
    digest = hashlib.sha256(" ".join((f"{EDITION}", *INPUTS[:-1], *OUTPUTS)).encode())
    for file in (*tensor_files(folder / "model.safetensors"), folder / "config.json"):
        digest.update(file.read_bytes())
    return digest.hexdigest()
