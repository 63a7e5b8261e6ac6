"""A world as an ONNX graph: one frame of play, from tensors to tensors.

The graph computes `World.next_frame` for one player. It holds no chance (the noise is an input) and no
state (tokens, keys and values go in and come out), so it plays wherever ONNX Runtime does, and the same
noise gives the same frame.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from jinn.contracts import JinnError
from jinn.models.transformer import Past
from jinn.world.rollout import World

Precision = Literal["float32", "int8"]
STATE = ("tokens_BN", *(f"{past}_{x}" for past in ("past", "drawn") for x in Past._fields))
INPUTS = (*STATE, "actions_B", "noise_SBNU")
OUTPUTS = (*(f"next_{name}" for name in STATE), "frame_BHWC")
OPSET = 20


def flat(values: Iterable[Tensor | Past]) -> list[Tensor]:
    """What `World.next_frame` takes or gives as a plain list of tensors."""
    return [x for value in values for x in (value if isinstance(value, Past) else (value,))]


def unflat(tensors: Sequence[Tensor]) -> Any:
    """The inverse of `flat`: tokens, past, drawn, and what comes after them."""
    n = len(Past._fields)
    past, drawn = Past(*tensors[1 : 1 + n]), Past(*tensors[1 + n : 1 + 2 * n])
    return (tensors[0], past, drawn, *tensors[1 + 2 * n :])


def onnx_path(folder: Path, precision: Precision) -> Path:
    """Where a world's folder keeps its graph."""
    return folder / f"frame-{precision}.onnx"


def weights_digest(folder: Path) -> str:
    """SHA-256 of what a graph is made of: one of other weights, sampling or inputs must not be played."""
    digest = hashlib.sha256(" ".join((*INPUTS, *OUTPUTS)).encode())
    for name in ("model.safetensors", "config.json"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def export_onnx(world: World, folder: Path, *precisions: Precision) -> list[Path]:
    """Write the graph of a world beside its weights, once in each precision.

    Args:
        world: as it was saved in the folder.
        folder: of the world.
        precisions: "int8" keeps the weights of all matrix products as int8, one scale a column, and rounds
            their inputs to 8 bits on the fly, one scale a tensor (ONNX Runtime's dynamic quantisation).
            What it costs in quality is measured by ``jinn eval --backend`` and ``benchmarks/play.py``.

    Raises:
        JinnError: the packages for it are missing.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 what torch.onnx exports with
    except ImportError as error:
        raise JinnError(f"exporting needs {error.name}: pip install 'jinn[export]'") from None
    places = []
    with tempfile.TemporaryDirectory(prefix="jinn-export-") as scratch, _quiet():
        plain = Path(scratch) / "plain.onnx"
        _export(world, plain)
        folded = _fold(plain)
        for precision in precisions:
            model = onnx.load(_quantize(folded) if precision == "int8" else folded)
            entry = model.metadata_props.add()
            entry.key, entry.value = "weights", weights_digest(folder)
            place = onnx_path(folder, precision)
            temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
            onnx.save(model, temporary)
            os.replace(temporary, place)
            places.append(place)
    return places


class _Frame(nn.Module):
    """`World.next_frame` with nothing but tensors in its signature, as exporters want it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(flat(self.world.next_frame(*unflat(inputs))))


def _export(world: World, place: Path) -> None:
    world = world.to("cpu").eval()
    state, _ = world.reset(world.prompts[:1, None])
    inputs = flat((*state[:3], torch.zeros(1, dtype=torch.long), world.noise(state)))
    with torch.no_grad():
        program = torch.onnx.export(
            _Frame(world),
            tuple(x.clone() for x in inputs),  # made in inference mode, which the exporter cannot trace
            dynamo=True,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=OUTPUTS,
            verbose=False,
        )
    assert program is not None
    program.save(place)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporter and quantiser talk at length about what does not concern the user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _fold(plain: Path) -> Path:
    """Compute what depends on weights alone once: the quantiser below sees constant matrices only then."""
    import onnxruntime

    folded = plain.with_name("folded.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    return folded


def _quantize(folded: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    place = folded.with_name("int8.onnx")
    quantize_dynamic(
        folded,
        place,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"MatMulConstBOnly": True},
    )
    return place
