"""A recipe of all phases that trains in a second, for tests of what happens around a training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from jinn.models.ours.conv_tokenizer import ConvConfig, ConvTokenizerConfig
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig
from jinn.models.transformer import TransformerConfig
from jinn.recipes import tiny
from jinn.training.recipe import Recipe

# Such processors add up in another order as batches grow, and bfloat16 learns a little otherwise on them.
HAS_AMX = torch.cpu._is_amx_tile_supported()

# The recipes of the sets like the paper's with the smallest models, two steps of each phase.
SMALL = [
    *(f"tokenizer.{part}.{size}" for part in ("encoder", "decoder") for size in ("fine=8", "coarse=16")),
    *(f"latent_actions.{part}.{size}" for part in ("encoder", "decoder") for size in ("width=16", "heads=2")),
    *(f"dynamics.transformer.{size}" for size in ("layers=2", "width=16", "heads=2")),
    "dynamics.digit_hidden=16",
    "sampling.steps=2",
    *(
        f"{phase}_training.{value}"
        for phase in ("tokenizer", "latent_action", "dynamics", "self_rollout")
        for value in ("steps=2", "warmup=1", "batch=2", "preview_every=100")
    ),
    "dynamics_training.frames=3",
    "self_rollout_training.frames=4",
]


def micro(**training: Any) -> Recipe:
    """`tiny` with the smallest models and four steps a phase; ``training`` changes values of all phases."""
    recipe = tiny()
    model = TransformerConfig(layers=1, width=16, heads=2, window=4)
    tokenizer = ConvConfig(fine=8, coarse=16, fine_blocks=1, coarse_blocks=1, kernel=1)
    assert isinstance(recipe.tokenizer, ConvTokenizerConfig)
    assert isinstance(recipe.latent_actions, MotionLatentActionsConfig)
    values = {"steps": 4, "batch": 2, "warmup": 1, "checkpoint_every": 2, "log_every": 100} | training
    phases = {
        name: replace(getattr(recipe, name), **values)
        for name in ("tokenizer_training", "latent_action_training", "dynamics_training")
    }
    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, encoder=tokenizer, decoder=tokenizer),
        latent_actions=replace(recipe.latent_actions, encoder=model, decoder=model),
        dynamics=replace(recipe.dynamics, transformer=model, digit_hidden=16),
        sampling=replace(recipe.sampling, steps=2),
        **phases,
        self_rollout_training=None,
    )
