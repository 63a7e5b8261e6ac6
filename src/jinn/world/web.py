"""A world for a browser: three small ONNX graphs, and one file of the weights that they share.

    encode    frame_BHWC -> tokens_BN                                `Autoencoder.encode` of one frame
    start     tokens_BN -> the caches, frame_BHWC                    what `World.reset` makes of them
    frame     as of `jinn.world.graph`                               `World.next_frame`

All three have a batch of one. The frame's graph is that of the backend onnx-int8, and its matrix products are in 8
bits in ``start`` too. A page is downloaded, so weights are as small as they can be without harm: those of convolutions
have 8 bits and some scales in ``start`` and ``frame`` (they only draw the picture), and the encoder's, on
which every token depends, have 16. ONNX Runtime makes them float32 again when it loads them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from jinn.contracts import JinnError
from jinn.files import temporary_folder
from jinn.world.centring import centred
from jinn.world.export import optimize, quantize, quiet, trace_encode, trace_start
from jinn.world.graph import onnx_path, weights_digest
from jinn.world.world import World

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

GraphName = Literal["encode", "start", "frame"]

WEIGHTS = "weights.bin"  # what the graphs call the file
SMALL = 1024  # bytes of a constant that stays in its graph
LARGE = 2**16  # bytes of a weight that is rounded to 16 bits even where it has more
# Weights of a convolution from which on they have 8 bits with a scale for each output channel and position, and from
# which on with a scale for each channel. The nearer a convolution is to the picture, the smaller it is and the more its
# rounding shows: with one scale a channel for all, pictures of `platforms` lose 1.3 dB, and so less than 0.1 dB.
SCALE_EACH, SCALE_CHANNEL = 40_000, 100_000


class WebWorld(NamedTuple):
    """A world for a browser.

    Attributes:
        graphs: the ONNX files, whose weights lie in the file `WEIGHTS`.
        weights: that file.
    """

    graphs: dict[GraphName, bytes]
    weights: bytes


def export_web(world: World, folder: Path) -> WebWorld:
    """The world in a folder for a browser; raises `JinnError` if the packages for it are missing.

    The graph of a frame that ``jinn play`` has made of the same weights is taken as it is.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 what torch.onnx exports with
    except ImportError as error:
        raise JinnError(f"publishing needs {error.name}: pip install 'jinn[export]'") from None
    from jinn.world.export import export_onnx

    world = world.to("cpu").eval()
    path = onnx_path(folder, "int8")
    if not (path.exists() and _made_from(onnx.load(path)) == weights_digest(folder)):
        export_onnx(world, folder, "int8")
    world = centred(world)
    with temporary_folder("jinn-publish") as scratch, quiet():
        files: dict[GraphName, Path] = {
            "encode": trace_encode(world, scratch),
            "start": quantize(trace_start(world, scratch)),
            "frame": path,
        }
        # Neighbouring nodes become one, which would take a page a second to do.
        fused = scratch / "fused.onnx"
        models = {name: onnx.load(optimize(file, fused, "EXTENDED")) for name, file in files.items()}
    store = _Store()
    graphs: dict[GraphName, bytes] = {}
    for name, model in models.items():
        del model.metadata_props[:]
        _move_weights(model.graph, store, small_convolutions=name != "encode")
        graphs[name] = model.SerializeToString()
    return WebWorld(graphs, bytes(store.data))


def _made_from(model: ModelProto) -> str:
    return next((entry.value for entry in model.metadata_props if entry.key == "weights"), "")


class _Store:
    """The file of weights: equal ones lie there once."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.offsets: dict[str, int] = {}

    def put(self, values: np.ndarray) -> tuple[int, int]:
        """Where the bytes of an array lie, and how many they are."""
        data = np.ascontiguousarray(values).tobytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.offsets:
            self.data += bytes(-len(self.data) % 64)
            self.offsets[digest] = len(self.data)
            self.data += data
        return self.offsets[digest], len(data)


def _move_weights(graph: GraphProto, store: _Store, small_convolutions: bool) -> None:
    """Move a graph's large constants into the store, and add the nodes that make them float32 again."""
    from onnx import helper, numpy_helper

    kernels = (
        {node.input[1] for node in graph.node if node.op_type == "Conv"} if small_convolutions else set()
    )
    before: list[Any] = []
    kept: list[Any] = []
    for constant in graph.initializer:
        values, name = numpy_helper.to_array(constant), constant.name
        if values.nbytes < SMALL:
            kept.append(constant)
        elif values.dtype != np.float32:
            kept.append(_external(name, values, store))
        elif name in kernels and values.size >= SCALE_EACH:
            codes, scales = _to_int8(values)
            kept += [
                _external(f"{name}_{part}", x, store) for part, x in (("codes", codes), ("scales", scales))
            ]
            before += [
                helper.make_node("Cast", [f"{name}_codes"], [f"{name}_cast"], to=1),
                helper.make_node("Mul", [f"{name}_cast", f"{name}_scales"], [name]),
            ]
        elif _fits_float16(values):
            kept.append(_external(f"{name}_half", values.astype(np.float16), store))
            before.append(helper.make_node("Cast", [f"{name}_half"], [name], to=1))
        else:
            kept.append(_external(name, values, store))
    nodes = [*before, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    del graph.value_info[:]


def _fits_float16(values: np.ndarray) -> bool:
    """Whether a weight loses nothing with 16 bits, or is so large that every byte counts."""
    if float(np.abs(values).max()) > float(np.finfo(np.float16).max):
        return False
    return values.nbytes >= LARGE or bool((values.astype(np.float16).astype(np.float32) == values).all())


def _to_int8(kernel_OIHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A convolution's weights as int8, and their scales."""
    axes = (1, 2, 3) if kernel_OIHW.size >= SCALE_CHANNEL else 1
    scales = np.maximum(np.abs(kernel_OIHW).max(axes, keepdims=True), 1e-12) / 127
    return np.round(kernel_OIHW / scales).astype(np.int8), scales.astype(np.float32)


def _external(name: str, values: np.ndarray, store: _Store) -> Any:
    """A constant whose values lie in the store."""
    from onnx import TensorProto, helper

    offset, length = store.put(values)
    tensor = TensorProto(
        name=name, data_type=helper.np_dtype_to_tensor_dtype(values.dtype), dims=values.shape
    )
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ("location", WEIGHTS), ("offset", str(offset)), ("length", str(length)):
        tensor.external_data.add(key=key, value=value)
    return tensor
