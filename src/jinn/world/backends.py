"""Other ways to compute a frame than the one that reads like the paper.

Each is a function from a world to something with the signature of `World.next_frame`; `use_backend` hangs
it into the world, and `World.step` calls it. What each gains in speed and costs in quality is measured by
``benchmarks/play.py``; docs/benchmarks.md has the figures.

    torch             `World.next_frame` as it stands
    onnx              ONNX Runtime on the graph that ``jinn export`` writes, in float32
    onnx-int8         the same with 8-bit matrix products
    cuda-graph        a frame recorded once for each number of players and replayed as one CUDA graph
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.memory import keep_freed_memory
from jinn.models.transformer import Past
from jinn.world.export import INPUTS, Precision, flat, onnx_path, unflat, weights_digest
from jinn.world.rollout import Frame, NextFrame, World

Backend = Literal["auto", "torch", "onnx", "onnx-int8", "cuda-graph"]

# Which axis counts the players: of the state's tensors (tokens, past, drawn), then of actions and noise, or
# of the new frame.
STATE_AXES = (0, 1, 1, 0, 0, 1, 1, 0, 0)
INPUT_AXES, OUTPUT_AXES = (*STATE_AXES, 0, 1), (*STATE_AXES, 0)


def use_backend(world: World, name: Backend = "auto", threads: int = 1) -> World:
    """Have a world compute its frames in the named way.

    Args:
        world: as loaded; it is changed and returned.
        name: see the module's docstring. "auto" is what measured fastest among what is at hand: a CUDA
            graph on a GPU, the graph in the world's folder on a CPU, else torch.
        threads: of ONNX Runtime. One leaves the other cores to the server and the browser.

    Raises:
        JinnError: what the backend needs is not there.
    """
    keep_freed_memory()
    name = choose(world) if name == "auto" else name
    world.backend_name, world.backend_threads = name, 1
    if name.startswith("onnx"):
        world.backend = onnx(world, "int8" if name == "onnx-int8" else "float32", threads)
        world.backend_threads = max(1, (os.cpu_count() or 1) // threads)
    else:
        world.backend = cuda_graph(world) if name == "cuda-graph" else None
    return world


def choose(world: World) -> Backend:
    """What "auto" means for a world here."""
    if world.prompts.is_cuda:
        return "cuda-graph"
    if world.folder is not None and importlib.util.find_spec("onnxruntime") is not None:
        if _graph_of(world.folder, "int8"):
            return "onnx-int8"
        if _graph_of(world.folder, "float32"):
            return "onnx"
    return "torch"


def onnx(world: World, precision: Precision, threads: int) -> NextFrame:
    """ONNX Runtime on the graph in the world's folder.

    The graph is one player's: a batch is computed one after the other, so that nobody's frame depends on
    who else plays (the scales of 8-bit inputs would).
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise JinnError("this backend needs ONNX Runtime: pip install 'jinn[play]'")
    if world.folder is None:
        raise JinnError("a world has a graph only in a folder: save it, run jinn export, and load it")
    session = _graph_of(world.folder, precision, threads)
    if session is None:
        raise JinnError(
            f"{world.folder} has no {precision} graph of these weights: "
            f"run jinn export {world.folder} --precision {precision}"
        )
    taken = {entry.name for entry in session.get_inputs()}  # a world without a past needs not all

    def next_frame(tokens_BN: Tensor, past: Past, drawn: Past, *given: Tensor) -> Frame:
        inputs = flat((tokens_BN, past, drawn, *given))
        singles = [x.split(1, dim=axis) for x, axis in zip(inputs, INPUT_AXES, strict=True)]
        players = []
        for player in zip(*singles, strict=True):
            feed = {name: x.numpy() for name, x in zip(INPUTS, player, strict=True) if name in taken}
            players.append(session.run(None, feed))
        outputs = [[torch.from_numpy(array) for array in arrays] for arrays in zip(*players, strict=True)]
        return unflat([torch.cat(x, dim=axis) for x, axis in zip(outputs, OUTPUT_AXES, strict=True)])

    return next_frame


def _graph_of(folder: Path, precision: Precision, threads: int = 1) -> Any:
    """The session of a folder's graph; None if there is none, or if it was made of other weights."""
    import onnxruntime

    place = onnx_path(folder, precision)
    if not place.exists():
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the core from torch, the server and the browser.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(place), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen kinds, all its own
        raise JinnError(f"{place} is damaged ({error}): run jinn export {folder}") from None
    current = session.get_modelmeta().custom_metadata_map.get("weights") == weights_digest(folder)
    return session if current else None


def cuda_graph(world: World) -> NextFrame:
    """Record a frame once for each number of players, then replay it: one launch instead of a thousand."""
    if not world.prompts.is_cuda:
        raise JinnError("the backend cuda-graph needs a world on a GPU: load it with device='cuda'")
    recorded: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor]]] = {}

    def record(inputs: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor]]:
        def frame() -> list[Tensor]:
            return flat(world.next_frame(*unflat(kept)))

        kept = [x.clone() for x in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up in their first calls, outside the graph
            for _ in range(3):
                frame()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = frame()
        return graph, kept, outputs

    def replay(tokens_BN: Tensor, past: Past, drawn: Past, *given: Tensor) -> Frame:
        inputs = flat((tokens_BN, past, drawn, *given))
        if len(tokens_BN) not in recorded:
            recorded[len(tokens_BN)] = record(inputs)
        graph, kept, outputs = recorded[len(tokens_BN)]
        for place, value in zip(kept, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        # The next replay writes to the same places: a state is never changed, so it gets its own.
        return unflat([x.clone() for x in outputs])

    return replay
