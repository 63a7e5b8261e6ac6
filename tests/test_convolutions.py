"""Convolutions of a graph as matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jinn.world.convolutions import convolutions_to_products

onnx = pytest.importorskip("onnx", reason="graphs need the extra 'export'")
onnxruntime = pytest.importorskip("onnxruntime", reason="graphs need the extra 'export'")
helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT

KERNELS = {  # name -> shape, padding, stride
    "wide": ((40, 40, 3, 3), 1, 1),
    "uneven": ((40, 40, 1, 7), None, 1),
    "point": ((120, 120, 1, 1), 0, 1),
    "strided": ((40, 40, 3, 3), 1, 2),
    "valid": ((40, 40, 3, 3), 0, 1),
    "small": ((40, 4, 3, 3), 1, 1),
}


def graph(name: str) -> Any:
    """The convolution of this name, and a last one."""
    shape, padding, stride = KERNELS[name]
    pads = [0, 3, 0, 3] if padding is None else [padding] * 4
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(0, 0.1, shape),
        "bias": rng.normal(0, 1, shape[0]),
        "last": rng.normal(0, 0.1, (40, shape[0], 3, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["y"], pads=pads, strides=[stride] * 2),
        helper.make_node("Conv", ["y", "last"], ["z"], pads=[1] * 4),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [1, shape[1], 8, 10])],
        [helper.make_tensor_value_info("z", FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: Any, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("name", KERNELS)
def test_a_product_computes_what_the_convolution_does(name: str) -> None:
    model = graph(name)
    products = convolutions_to_products(model)
    operations = [node.op_type for node in products.graph.node]
    replaced = name in {"wide", "uneven", "point"}
    assert operations.count("Conv") == (1 if replaced else 2)
    assert ("kernel" in {constant.name for constant in products.graph.initializer}) != replaced
    channels = KERNELS[name][0][1]
    x = np.random.default_rng(1).normal(size=(1, channels, 8, 10)).astype(np.float32)
    np.testing.assert_allclose(run(products, x), run(model, x), atol=1e-4)
