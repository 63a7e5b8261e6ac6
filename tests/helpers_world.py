"""Untrained worlds, prompts and roll-outs for the tests of worlds, backends and more."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from jinn.models.maskgit import SamplingConfig
from jinn.models.ours.conv_tokenizer import ConvConfig, ConvTokenizerConfig
from jinn.models.quantize import FSQConfig
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import TransformerConfig
from jinn.recipes import tiny
from jinn.world.config import AnyTokenizerConfig, WorldConfig
from jinn.world.legend import ActionMeaning
from jinn.world.state import State
from jinn.world.world import World


def make_world(kind: str = "frame-tokenizer", window: int = 4) -> World:
    """An untrained world of 32 x 32 pixels with one of three kinds of tokenizer."""
    torch.manual_seed(0)
    recipe = tiny()
    tokenizer: AnyTokenizerConfig
    if kind == "conv-tokenizer":
        sizes = ConvConfig(8, 16, 1, 1)
        tokenizer = ConvTokenizerConfig((32, 32), 2, sizes, sizes, FSQConfig((8, 5, 5, 5)))
    else:
        model = TransformerConfig(layers=1, width=64, heads=4, feedforward=2.0, temporal_every=0)
        if kind == "video-tokenizer":
            model = TransformerConfig(layers=2, width=32, heads=4, window=3)
        tokenizer = TokenizerConfig((32, 32), 4, model, model, FSQConfig((8, 5, 5)))
    transformer = replace(recipe.dynamics.transformer, window=window)
    dynamics = replace(recipe.dynamics, transformer=transformer, doubt=0.0)
    prompts = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    config = WorldConfig("test", 10.0, tokenizer, recipe.latent_actions, dynamics, SamplingConfig(steps=2))
    world = World(config, prompts).eval()
    world.legend = tuple(ActionMeaning(name, 0.5, -1.25, 0.2) for name in "abcde")
    return world


def small_world(kind: str = "frame-tokenizer") -> World:
    """One layer and two sampling steps, because exporters and compilers are slow."""
    config = make_world(kind).config
    sizes = replace(config.dynamics.transformer, layers=1)
    tokenizer = config.tokenizer
    if isinstance(tokenizer, TokenizerConfig):
        tokenizer = replace(tokenizer, decoder=replace(tokenizer.decoder, layers=1))
    dynamics = replace(config.dynamics, transformer=sizes)
    return World(
        replace(config, tokenizer=tokenizer, dynamics=dynamics, sampling=SamplingConfig(steps=2))
    ).eval()


def prompt(B: int, T: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (B, T, 32, 32, 3), dtype=torch.uint8, generator=generator)


def play(world: World, state: State, actions: list[list[int]]) -> tuple[State, Tensor]:
    frames = []
    for row in actions:
        state, frame = world.step(state, torch.tensor(row))
        frames.append(frame)
    return state, torch.stack(frames, 1)
