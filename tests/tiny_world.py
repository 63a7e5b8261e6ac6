"""A tiny untrained world, for tests of everything that plays worlds."""

from __future__ import annotations

from dataclasses import replace

import torch

from jinn.recipes import tiny
from jinn.world.config import WorldConfig
from jinn.world.legend import ActionMeaning
from jinn.world.world import World


def tiny_world() -> World:
    """A world of 32 x 32 pixels with random weights, which can doubt: its frames are noise, always the same noise."""
    recipe = tiny()
    torch.manual_seed(0)
    prompts_PHWC = torch.randint(0, 256, (3, *recipe.tokenizer.size_hw, 3), dtype=torch.uint8)
    dynamics = replace(recipe.dynamics, doubt=0.6)
    sampling = replace(recipe.sampling, steps=2)  # each step of a graph takes its time to be exported
    models = recipe.tokenizer, recipe.latent_actions, dynamics, sampling
    world = World(WorldConfig("tiny", 10.0, *models), prompts_PHWC).eval()
    world.legend = tuple(
        ActionMeaning(*meaning)
        for meaning in (
            ("left", 0.0, -4.0, 0.3),
            ("right", 0.0, 2.0, 0.3),
            ("up", -2.0, 0.1, 0.2),
            ("down-right", 1.5, 1.5, 0.2),
            ("unused", 0.0, 0.0, 0.0),
        )
    )
    return world
