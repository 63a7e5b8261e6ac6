"""A dynamics model whose LayerNorms need no mean, for graphs: the same function, in less time.

A LayerNorm subtracts the mean of a vector and divides by its root mean square. In WebAssembly ONNX Runtime takes 80
microseconds for it where the division alone takes 20, and a frame has a hundred and fifty of them. So we make the mean
zero where the vector comes from: the mean of what a layer or an embedding adds is taken out of its weights once (as
SliceGPT does it, Ashkboos et al. 2024). What reads the vectors are LayerNorms alone, so nothing else changes.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from jinn.models.attention import Attention
from jinn.models.dynamics import Dynamics
from jinn.models.ours.previous_frame import PreviousFrameDynamics
from jinn.models.space_time import SpaceTimeBlock
from jinn.models.transformer import STBlock
from jinn.world.world import World


class RootMeanSquareNorm(nn.Module):
    """A LayerNorm of vectors whose mean is zero; ONNX Runtime knows the formula and computes it as one operation."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Over the last axis."""
        return x / (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt() * self.weight


@torch.no_grad()
def centred(world: World) -> World:
    """A copy of a world whose dynamics model computes the same, up to rounding, without LayerNorms."""
    world = copy.deepcopy(world)
    dynamics = world.dynamics
    for adds in _embeddings(dynamics):
        adds -= adds.mean(-1, keepdim=True)
    for block in dynamics.transformer.modules():
        if isinstance(block, STBlock | SpaceTimeBlock):
            _centre_outputs(block.feedforward[2])
        elif isinstance(block, Attention):
            _centre_outputs(block.out)
            for layer in (block.query, block.key):
                heads_HCD = layer.weight.unflatten(0, (-1, block.query_width))
                heads_HCD -= heads_HCD.mean(1, keepdim=True)
    for module in list(dynamics.transformer.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.LayerNorm):
                setattr(module, name, RootMeanSquareNorm(child))
    return world


def _embeddings(dynamics: Dynamics) -> list[Tensor]:
    """All that a dynamics model adds up to the transformer's input, ``...D``; linear layers are centred here."""
    adds = [dynamics.token_embed.digit_FD, dynamics.position_ND, dynamics.action_embed.weight]
    if dynamics.token_embed.mask_D is not None:
        adds.append(dynamics.token_embed.mask_D)
    if isinstance(dynamics, PreviousFrameDynamics):
        _centre_outputs(dynamics.previous_frame.project)
    return adds


def _centre_outputs(linear: nn.Module) -> None:
    assert isinstance(linear, nn.Linear)
    linear.weight.sub_(linear.weight.mean(0))
    if linear.bias is not None:
        linear.bias.sub_(linear.bias.mean())
