"""A world as an ONNX graph: one frame of play, from tensors to tensors.

The graph computes `World.next_frame` of one roll-out. The noise is an input, and the state (tokens, keys and
values) goes in and comes out, so it plays wherever ONNX Runtime does, and the same noise gives the same frame.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from jinn.contracts import JinnError
from jinn.files import replacing
from jinn.world.folder import is_saved
from jinn.world.graph import (
    INPUTS,
    OUTPUTS,
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

    "int8" keeps the weights of all matrix products as int8, one scale a column, and rounds their inputs to 8 bits on
    the fly, one scale a tensor (ONNX Runtime's dynamic quantisation). ``jinn eval --backend`` and
    ``benchmarks/play.py`` measure what it costs in quality. Raises `JinnError` if the packages for it are missing, or
    if the folder holds other weights.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 what torch.onnx exports with
    except ImportError as error:
        raise JinnError(f"exporting needs {error.name}: pip install 'jinn[export]'") from None
    if not is_saved(world, folder):
        raise JinnError(f"{folder} holds other weights than the world: save it there first")
    paths = []
    with tempfile.TemporaryDirectory(prefix="jinn-export-") as scratch, quiet():
        plain = Path(scratch) / "plain.onnx"
        _export(world, plain)
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


class _Frame(nn.Module):
    """`World.next_frame` with nothing but tensors in its signature, as exporters want it."""

    def __init__(self, world: World, names: list[str]) -> None:
        super().__init__()
        self.world, self.names = world, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arguments = group_tensors(dict(zip(self.names, inputs, strict=True)), INPUTS)
        return tuple(name_tensors(self.world.next_frame(*arguments), OUTPUTS).values())


def _export(world: World, path: Path) -> None:
    world = world.to("cpu").eval()
    state, _ = world.reset(world.prompts[:1, None])
    actions_B = torch.zeros(1, dtype=torch.long)
    arguments = [*state[:3], actions_B, world.noise(state)]
    if world.can_doubt:
        arguments.append(torch.zeros(1))
    inputs = name_tensors(arguments, INPUTS)
    outputs = [name for name in OUTPUTS if name.removeprefix("next_") in (*inputs, "frame_BHWC")]
    trace(_Frame(world, list(inputs)), inputs, outputs, path)


def trace(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path) -> None:
    """Write a module as a float32 graph with these inputs and the names of its outputs."""
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            # Cloned, because the exporter cannot trace tensors that were made in inference mode.
            tuple(x.clone() for x in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
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
    import onnxruntime

    folded = plain.with_name("folded.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    return folded


def quantize(folded: Path) -> Path:
    """Matrix products in 8 bits, see `export_onnx`; returns another file beside the given one."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(folded).graph
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
