"""A world as an ONNX graph: one frame of play, from tensors to tensors.

The graph computes `World.next_frame` of one roll-out. The noise is an input, and the state (tokens, keys and
values) goes in and comes out, so it plays wherever ONNX Runtime does, and the same noise gives the same frame.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from jinn.contracts import JinnError
from jinn.files import check_writable, named, replacing, temporary_folder
from jinn.models.attention import KVCache
from jinn.world.centring import centred
from jinn.world.convolutions import convolutions_to_products
from jinn.world.folder import is_saved
from jinn.world.graph import (
    INPUTS,
    OUTPUTS,
    STATE,
    GraphPrecision,
    group_tensors,
    name_tensors,
    onnx_path,
    weights_digest,
)
from jinn.world.world import World

OPSET = 20


def export_onnx(world: World, folder: Path, *precisions: GraphPrecision) -> list[Path]:
    """Write the graph of a world, as its folder holds it, to `onnx_path` in each precision; returns the files.

    "int8" keeps the weights of all matrix products, as which most convolutions are computed too, as int8, one scale a
    column, and rounds their inputs to 8 bits on the fly, one scale a tensor (ONNX Runtime's dynamic quantisation).
    ``jinn eval --backend`` and ``benchmarks/play.py`` measure what it costs in quality. Raises `JinnError` if the
    packages for it are missing, or if the folder holds other weights.
    """
    check_exporter()
    import onnx

    if not is_saved(world, folder):
        raise JinnError(f"{folder} holds other weights than the world: save it there first")
    check_writable(onnx_path(folder, precisions[0]).parent)
    paths = []
    with temporary_folder("jinn-export") as scratch, quiet():
        plain = scratch / "plain.onnx"
        _export(centred(world.to("cpu").eval()), plain)
        folded = fold(plain)
        for precision in precisions:
            model = onnx.load(quantize(folded) if precision == "int8" else folded)
            entry = model.metadata_props.add()
            entry.key, entry.value = "weights", weights_digest(folder)
            paths.append(onnx_path(folder, precision))
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            with replacing(paths[-1]) as temporary:
                onnx.save(model, temporary)
    return paths


def export_start(world: World, folder: Path) -> list[Path]:
    """Write the graphs that make the first state from a picture, in float32, beside those of `export_onnx`.

    With them a program plays without PyTorch (docs/graphs.md): ``encode.onnx`` (``frame_BHWC -> tokens_BN``) and
    ``start.onnx`` (``tokens_BN ->`` the caches, and the picture as the world draws it). Returns the files; raises
    `JinnError` as `export_onnx`.
    """
    check_exporter()
    world = centred(world.to("cpu").eval())
    paths = []
    with temporary_folder("jinn-export") as scratch, quiet():
        for make in (trace_encode, trace_start):
            graph = make(world, scratch)
            paths.append(onnx_path(folder, "float32").with_name(graph.name))
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            with replacing(paths[-1]) as temporary:
                shutil.copyfile(graph, temporary)
    return paths


def check_exporter() -> None:
    """Raise `JinnError` if a package that exporting needs is missing."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401 what torch.onnx exports with
    except ImportError as error:
        raise JinnError(f"exporting needs {error.name}: pip install 'jinn[export]'") from None


class _Graph(nn.Module):
    """A function of a world and of named tensors as a module, as exporters want it."""

    def __init__(
        self, world: World, function: Callable[[World, dict[str, Tensor]], Any], names: list[str]
    ) -> None:
        super().__init__()
        self.world, self.function, self.names = world, function, names

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self.world, dict(zip(self.names, inputs, strict=True)))


def _frame(world: World, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return tuple(name_tensors(world.next_frame(*group_tensors(inputs, INPUTS)), OUTPUTS).values())


def _encode(world: World, inputs: dict[str, Tensor]) -> Tensor:
    return world.tokenizer.encode(inputs["frame_BHWC"].unsqueeze(1)).squeeze(1)


def _start(world: World, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    tokens_BTN = inputs["tokens_BN"].unsqueeze(1)
    actions_BTm1 = torch.zeros(len(tokens_BTN), 0, dtype=torch.long)
    dynamics_cache = world.dynamics.prefill(tokens_BTN, actions_BTm1)
    frames_BTHWC, decoder_cache = world.tokenizer.prefill(tokens_BTN)
    caches = name_tensors([dynamics_cache, decoder_cache], STATE[1:])
    return *caches.values(), frames_BTHWC.squeeze(1)


def trace_encode(world: World, scratch: Path) -> Path:
    """The graph ``encode.onnx`` of `export_start`, in a temporary folder."""
    trace(
        _Graph(world, _encode, ["frame_BHWC"]),
        {"frame_BHWC": world.prompts[:1]},
        ["tokens_BN"],
        scratch / "plain.onnx",
    )
    return fold(scratch / "plain.onnx").replace(scratch / "encode.onnx")


def trace_start(world: World, scratch: Path) -> Path:
    """The graph ``start.onnx`` of `export_start`, in a temporary folder."""
    tokens_BN = world.tokenizer.encode(world.prompts[:1, None])[:, 0]
    with torch.no_grad():
        has_decoder_cache = len(_start(world, {"tokens_BN": tokens_BN})) > len(KVCache._fields) + 1
    caches = STATE[1:] if has_decoder_cache else STATE[1 : 1 + len(KVCache._fields)]
    module = _Graph(world, _start, ["tokens_BN"])
    trace(module, {"tokens_BN": tokens_BN}, [*caches, "frame_BHWC"], scratch / "plain.onnx")
    return fold(scratch / "plain.onnx").replace(scratch / "start.onnx")


def _export(world: World, path: Path) -> None:
    state, _ = world.reset(world.prompts[:1, None])
    actions_B = torch.zeros(1, dtype=torch.long)
    arguments = [*state[:3], actions_B, world.noise(state)]
    if world.can_doubt:
        arguments.append(torch.zeros(1))
    inputs = name_tensors(arguments, INPUTS)
    outputs = [name for name in OUTPUTS if name.removeprefix("next_") in (*inputs, "frame_BHWC")]
    # The exporter's optimiser would take two thirds of the time, and `fold` does what matters here.
    trace(_Graph(world, _frame, list(inputs)), inputs, outputs, path, optimize=False)


def trace(
    module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path, optimize: bool = True
) -> None:
    """Write a module as a float32 graph with these inputs and the names of its outputs.

    Graphs with axes of length 0, as those of `export_start`, have to be optimised.
    """
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            # Cloned, because the exporter cannot trace tensors that were made in inference mode.
            tuple(x.clone() for x in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            optimize=optimize,
            verbose=False,
        )
    assert program is not None
    program.save(path)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence exporter and quantiser, whose messages do not concern the user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


def fold(plain: Path) -> Path:
    """Fold constants: only then does the quantiser below see constant matrices."""
    return optimize(plain, plain.with_name("folded.onnx"), "BASIC")


def optimize(graph: Path, out: Path, level: Literal["BASIC", "EXTENDED"]) -> Path:
    """What ONNX Runtime makes of a graph before it computes it, written to another file, which is returned."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what it cannot fold does not concern the user
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(out)
    try:
        onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception:
        with named(out):
            shutil.copyfile(graph, out)  # if there is no room, this says so; ONNX Runtime does not
        raise
    return out


def quantize(folded: Path) -> Path:
    """Matrix products in 8 bits, see `export_onnx`; returns another file beside the given one."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = convolutions_to_products(onnx.load(folded))
    graph = model.graph
    for node in graph.node:
        if node.op_type == "Gelu":
            # Twice as fast, and off by 0.0005 at most: a tenth of what rounding to 8 bits costs right behind it.
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))
    onnx.save(model, folded)
    ranks = {constant.name: len(constant.dims) for constant in graph.initializer}
    # Constants that are not matrices are no weights, such as a rotation; ONNX Runtime has no 8-bit product of them.
    others = [
        node.name for node in graph.node if node.op_type == "MatMul" and ranks.get(node.input[1], 2) != 2
    ]
    path = folded.with_name("int8.onnx")
    quantize_dynamic(
        folded,
        path,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=others,
        extra_options={"MatMulConstBOnly": True},
    )
    return path
