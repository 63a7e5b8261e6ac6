"""Faster ways to compute a frame than the code that reads like the paper.

A `Backend` is a value that `World.step` uses in place of `World.next_frame`. What each gains in speed and costs in
quality is measured by ``benchmarks/play.py``; docs/benchmarks.md has the results.

    torch        `World.next_frame` itself
    onnx         ONNX Runtime on the float32 graph that ``jinn export`` writes
    onnx-int8    the same with 8-bit matrix products
    cuda-graph   a frame recorded once for each batch size and replayed as one CUDA graph
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from jinn.allocator import keep_freed_memory
from jinn.contracts import JinnError
from jinn.cpus import num_cpus
from jinn.models.attention import KVCache
from jinn.world.graph import (
    AXES,
    INPUTS,
    OUTPUTS,
    Frame,
    GraphPrecision,
    group_tensors,
    name_tensors,
    onnx_path,
    weights_digest,
)

BackendName = Literal["auto", "torch", "onnx", "onnx-int8", "cuda-graph"]

# tokens_BN, dynamics_cache, decoder_cache, actions_B, noise_SBNU and, if the world can doubt, doubt_B -> `Frame`: the
# signature of `World.next_frame`.
NextFrame = Callable[..., Frame]

# A CUDA graph, and the tensors that it reads and writes.
Recorded = tuple[torch.cuda.CUDAGraph, dict[str, Tensor], dict[str, Tensor]]


class Backend(NamedTuple):
    """How a world computes its frames.

    Attributes:
        name: as on the command line.
        threads: how many compute frames at a time. One computes all roll-outs as a batch, of several each computes one.
        next_frame: None computes `World.next_frame` itself.
    """

    name: str = "torch"
    threads: int = 1
    next_frame: NextFrame | None = None


def make_backend(
    name: BackendName, next_frame: NextFrame, device: torch.device, folder: Path | None, threads: int = 1
) -> Backend:
    """The named backend for `World.next_frame`; raises `JinnError` if something that the backend needs is missing.

    "auto" is the fastest that is at hand: a CUDA graph on a GPU, the graph in the world's folder (None if it was not
    loaded from one) on a CPU, else torch. ``threads`` are those of ONNX Runtime for one frame: one leaves the other
    cores to the server and the browser.
    """
    if name not in get_args(BackendName):
        raise JinnError(f"there is no backend {name!r}: choose one of {', '.join(get_args(BackendName))}")
    keep_freed_memory()
    name = fastest(device, folder) if name == "auto" else name
    if name == "torch":
        return Backend()
    if name == "cuda-graph":
        return Backend(name, 1, cuda_graph(next_frame, device))
    run = onnx(folder, "int8" if name == "onnx-int8" else "float32", threads)
    return Backend(name, max(1, num_cpus() // threads), run)


def while_unchanged(models: nn.Module, backend: Backend) -> NextFrame:
    """The backend's function, which raises `JinnError` once weights of the models have been loaded or trained."""
    owned = [(module._parameters, name) for module in models.modules() for name in module._parameters]
    weights = [(owner, name, x, version(x)) for owner, name in owned if (x := owner[name]) is not None]
    next_frame = backend.next_frame
    assert next_frame is not None

    def checked(*values: Tensor | KVCache | None) -> Frame:
        for owner, name, weight, before in weights:
            if owner[name] is not weight or version(weight) != before:
                raise JinnError(
                    f"the weights have changed since the backend {backend.name} was made: "
                    "choose a backend again (with_backend)"
                )
        return next_frame(*values)

    return checked


def version(weight: Tensor) -> int:
    """How often a tensor was changed in place, which PyTorch does not count of those made in inference mode."""
    return 0 if weight.is_inference() else weight._version


def fastest(device: torch.device, folder: Path | None) -> BackendName:
    """What "auto" means for a world."""
    if device.type == "cuda":
        return "cuda-graph"
    if folder is not None and importlib.util.find_spec("onnxruntime") is not None:
        if _session(folder, "int8"):
            return "onnx-int8"
        if _session(folder, "float32"):
            return "onnx"
    return "torch"


def onnx(folder: Path | None, precision: GraphPrecision, threads: int) -> NextFrame:
    """ONNX Runtime on the graph in the world's folder.

    The graph has a batch of one: roll-outs are computed one after the other, so that nobody's frame depends on
    who else plays (the scales of 8-bit inputs would).
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise JinnError("this backend needs ONNX Runtime: pip install 'jinn[play]'")
    if folder is None:
        raise JinnError("a world has a graph only in a folder: save it, run jinn export, and load it")
    session = _session(folder, precision, threads)
    if session is None:
        command = f"jinn export {folder} --precision {precision}"
        raise JinnError(f"{folder} has no {precision} graph of these weights: run {command}")
    names = {entry.name for entry in session.get_inputs()}  # exporting drops the inputs that nothing uses
    # A world without a decoder cache may have a graph that passes on an empty one.
    empty = {
        entry.name: np.zeros(entry.shape, np.bool_ if "bool" in entry.type else np.float32)
        for entry in session.get_inputs()
        if 0 in entry.shape
    }
    if "drawn_frames_B" in names:
        empty["drawn_frames_B"] = np.zeros(1, np.int64)
    outputs = [entry.name for entry in session.get_outputs()]

    def next_frame(*values: Tensor | KVCache | None) -> Frame:
        inputs = {name: x for name, x in name_tensors(values, INPUTS).items() if name in names}
        has_decoder_cache = values[2] is not None
        wanted = [name for name in outputs if has_decoder_cache or "drawn" not in name]
        rows = [x.split(1, dim=AXES[name]) for name, x in inputs.items()]
        results = [
            session.run(wanted, empty | {n: x.numpy() for n, x in zip(inputs, row, strict=True)})
            for row in zip(*rows, strict=True)
        ]
        batches = zip(wanted, zip(*results, strict=True), strict=True)
        joined = {n: torch.cat([torch.from_numpy(x) for x in xs], AXES[n]) for n, xs in batches}
        return group_tensors(joined, OUTPUTS)

    return next_frame


def _session(folder: Path, precision: GraphPrecision, threads: int = 1) -> Any:
    """The session of a folder's graph; None if there is none, or if it was made from other weights."""
    import onnxruntime

    path = onnx_path(folder, precision)
    if not path.exists():
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the core from torch, the server and the browser.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen types, all its own
        raise JinnError(f"{path} is damaged ({error}): run jinn export {folder}") from None
    current = session.get_modelmeta().custom_metadata_map.get("weights") == weights_digest(folder)
    return session if current else None


def cuda_graph(next_frame: NextFrame, device: torch.device) -> NextFrame:
    """Record a frame once for each batch size, then replay it: one launch instead of a thousand."""
    if device.type != "cuda":
        raise JinnError("the backend cuda-graph needs a world on a GPU: load it with device='cuda'")
    recorded: dict[int, Recorded] = {}

    def record(inputs: dict[str, Tensor]) -> Recorded:
        static = {name: x.clone() for name, x in inputs.items()}
        arguments = group_tensors(static, INPUTS)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries initialise themselves in their first calls, outside the graph
                next_frame(*arguments)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may load a world
            outputs = name_tensors(next_frame(*arguments), OUTPUTS)
        return graph, static, outputs

    def replay(*values: Tensor | KVCache | None) -> Frame:
        inputs = name_tensors(values, INPUTS)
        batch = len(inputs["tokens_BN"])
        if batch not in recorded:
            recorded[batch] = record(inputs)
        graph, static, outputs = recorded[batch]
        for name, value in inputs.items():
            static[name].copy_(value)
        graph.replay()
        # The next replay overwrites these tensors, but a state never changes: it gets copies.
        return group_tensors({name: x.clone() for name, x in outputs.items()}, OUTPUTS)

    return replay
