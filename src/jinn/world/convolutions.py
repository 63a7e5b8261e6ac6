"""A convolution in a graph as a matrix product, which ONNX Runtime is fast at in 8 bits; its 8-bit convolution is slow.

Each position of a picture becomes a row of the pixels below the kernel ("im2col"), and a row times a matrix is the
position's output. Our tokenizers' decoders have small pictures and many channels, for which this pays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

SMALLEST = 10_000  # weights of a kernel, for less the rows cost more than they save


def convolutions_to_products(model: ModelProto) -> ModelProto:
    """A graph whose convolutions with a stride of 1, equal size in and out, and large constant kernels are products.

    The last one stays, for it makes the picture: rounded to 8 bits it costs most of what all of them cost.

    Args:
        model: of float32 and static shapes; it stays as it is.
    """
    from onnx import numpy_helper, shape_inference

    model = shape_inference.infer_shapes(model)
    graph = model.graph
    kernels = {constant.name: constant for constant in graph.initializer if len(constant.dims) == 4}
    values = (*graph.value_info, *graph.input)
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values}
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in kernels]
    replaced = {node.output[0] for node in convolutions[:-1]}
    nodes: list[Any] = []
    for node in graph.node:
        shape = shapes.get(node.input[0], []) if node.output[0] in replaced else []
        if len(shape) == 4 and shape[0] == 1 and all(shape) and _is_same(node, kernels[node.input[1]].dims):
            kernel_OIHW = numpy_helper.to_array(kernels[node.input[1]])
            nodes += _product(graph, node, kernel_OIHW, *shape[2:])
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    constants = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    return model


def _is_same(node: NodeProto, dims: Any) -> bool:
    """Whether a convolution with a kernel of these dimensions is one that `_product` can replace."""
    from onnx import helper

    options = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    _, _, height, width = dims
    return (
        np.prod(dims) >= SMALLEST
        and options.get("group", 1) == 1
        and set(options.get("strides", [1])) | set(options.get("dilations", [1])) == {1}
        and options.get("auto_pad", b"NOTSET") == b"NOTSET"
        and list(options.get("pads", [0] * 4)) == [height // 2, width // 2] * 2
        and height % 2 == width % 2 == 1
    )


def _product(
    graph: GraphProto, node: NodeProto, kernel_OIHW: np.ndarray, height: int, width: int
) -> list[Any]:
    """The nodes that compute what a convolution does; their constants are added to the graph."""
    from onnx import helper, numpy_helper

    outputs, channels, rows, columns = kernel_OIHW.shape
    [result] = node.output
    made: list[Any] = []

    def constant(name: str, values: np.ndarray | list[int]) -> str:
        array = values if isinstance(values, np.ndarray) else np.array(values, np.int64)
        graph.initializer.append(numpy_helper.from_array(array, f"{result}/{name}"))
        return f"{result}/{name}"

    def compute(operation: str, *inputs: str, name: str = "", **options: Any) -> str:
        made.append(
            helper.make_node(
                operation, inputs, [name or f"{result}/{len(made)}"], f"{result}/{len(made)}", **options
            )
        )
        return str(made[-1].output[0])

    pixels = node.input[0]
    spreads, wide = rows * columns > 1, width + columns - 1
    if spreads:
        pixels = compute("Pad", pixels, constant("around", [0, 0, rows // 2, columns // 2] * 2))
    pixels = compute("Reshape", pixels, constant("flat", [channels, (height + rows - 1) * wide]))
    pixels = compute("Transpose", pixels, perm=[1, 0])
    if spreads:
        y, x, dy, dx = np.meshgrid(*map(np.arange, (height, width, rows, columns)), indexing="ij")
        below = ((y + dy) * wide + x + dx).reshape(-1).tolist()
        pixels = compute("Gather", pixels, constant("below", below), axis=0)
        pixels = compute("Reshape", pixels, constant("rows", [height * width, rows * columns * channels]))
    matrix = kernel_OIHW.transpose(2, 3, 1, 0).reshape(-1, outputs)
    product = compute("MatMul", pixels, constant("matrix", np.ascontiguousarray(matrix)))
    if len(node.input) > 2:
        product = compute("Add", product, node.input[2])
    product = compute("Transpose", product, perm=[1, 0])
    compute("Reshape", product, constant("shape", [1, outputs, height, width]), name=result)
    return made
