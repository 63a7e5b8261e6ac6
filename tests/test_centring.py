"""A centred world computes what it did, without the mean of a single LayerNorm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from helpers_world import make_world, prompt
from jinn.models.dynamics import DynamicsConfig
from jinn.models.space_time import SpaceTimeConfig
from jinn.world.centring import RootMeanSquareNorm, centred
from jinn.world.export import optimize, trace
from jinn.world.world import World


@pytest.mark.parametrize("kind", ["paper", "ours", "space-time"])
def test_a_centred_world_is_the_same_world(kind: str) -> None:
    config = make_world().config
    if kind == "paper":
        config = replace(config, dynamics=DynamicsConfig(config.dynamics.transformer))
    elif kind == "space-time":
        sizes = SpaceTimeConfig(layers=2, width=64, heads=4, window=4)
        config = replace(config, dynamics=replace(config.dynamics, transformer=sizes))
    world = World(config).eval()
    with torch.no_grad():
        # Means as large as the deviations, and scales of norms that are not 1.
        for weight in world.dynamics.parameters():
            weight += weight.std(correction=0) + 0.05
    other = centred(world)

    norms = [type(module) for module in other.dynamics.transformer.modules()]
    assert RootMeanSquareNorm in norms
    assert nn.LayerNorm not in norms
    assert any(isinstance(module, nn.LayerNorm) for module in world.dynamics.modules())  # untouched
    state, _ = world.reset(prompt(2, T=2))
    actions_B, noise_SBNU = torch.tensor([1, 3]), world.noise(state)
    with torch.no_grad():
        tokens_BN, cache, *_ = world.next_frame(*state[:3], actions_B, noise_SBNU)
        same_BN, same, *_ = other.next_frame(*state[:3], actions_B, noise_SBNU)
    assert torch.equal(tokens_BN, same_BN)
    torch.testing.assert_close(same.keys_LBNHPC, cache.keys_LBNHPC, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(same.values_LBNHPC, cache.values_LBNHPC, atol=1e-4, rtol=1e-4)


def test_onnx_runtime_computes_it_as_one_operation(tmp_path: Path) -> None:
    import onnx

    norm = RootMeanSquareNorm(nn.LayerNorm(8, bias=False))
    x = torch.randn(2, 3, 8)
    trace(norm.eval(), {"x": x}, ["y"], tmp_path / "plain.onnx")
    nodes = onnx.load(optimize(tmp_path / "plain.onnx", tmp_path / "fused.onnx", "EXTENDED")).graph.node
    assert [node.op_type for node in nodes] == ["SimplifiedLayerNormalization"]
    session = onnxruntime.InferenceSession(str(tmp_path / "plain.onnx"), providers=["CPUExecutionProvider"])
    [y] = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), norm(x))
