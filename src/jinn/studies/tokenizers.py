"""Kinds of video tokenizers side by side (paper, section 3.4 and its table), ours as one more row.

All have the same grid of tokens and, but for ours, the same codebook, optimiser, clips and number of parameters: blocks
with one attention get as much wider a feed-forward. Each row is a whole world, so that what a tokenizer is worth to the
dynamics is measured too.
"""

from __future__ import annotations

from dataclasses import replace

from jinn.models.quantize import VQConfig
from jinn.models.space_time import SpaceTimeConfig
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import AnyTransformerConfig, TransformerConfig
from jinn.training.plan import empty_world, tokenizer_parts
from jinn.training.recipe import Recipe, phases

LAYERS = 2  # of encoder and decoder, as wide as the recipe's dynamics
FRAMES = 8  # of a clip in the tokenizer's training


def blocks(width: int, heads: int) -> dict[str, AnyTransformerConfig]:
    """The blocks of each row, with as many parameters.

    Attention over space and then time has 4 + 4 squares of the width, and its feed-forward 8; the others have 4 + 12.
    """
    return {
        "ST-ViViT": TransformerConfig(LAYERS, width, heads, feedforward=4.0),
        "ViT": TransformerConfig(LAYERS, width, heads, feedforward=6.0, temporal_every=0),
        "C-ViViT": SpaceTimeConfig(LAYERS, width, heads, feedforward=6.0),
    }


def tokenizers(recipe: Recipe) -> dict[str, Recipe]:
    """The rows: three of the paper at equal parameters, two of them again at the memory of the first, and ours."""
    sizes = recipe.dynamics.transformer
    rows = {name: with_blocks(recipe, block) for name, block in blocks(sizes.width, sizes.heads).items()}
    budget = memory_of_clip(rows["ST-ViViT"]) * rows["ST-ViViT"].tokenizer_training.batch
    for name in ("ViT", "C-ViViT"):
        batch = max(1, round(budget / memory_of_clip(rows[name])))
        training = replace(rows[name].tokenizer_training, batch=batch)
        rows[f"{name}, equal memory"] = replace(rows[name], tokenizer_training=training)
    rows["convolutions (ours)"] = recipe
    return rows


def with_blocks(recipe: Recipe, block: AnyTransformerConfig) -> Recipe:
    """The recipe with a tokenizer of such blocks, trained on clips instead of single frames."""
    training = recipe.tokenizer_training
    clips = max(1, training.batch * training.frames // FRAMES)
    return replace(
        recipe,
        tokenizer=TokenizerConfig(
            recipe.tokenizer.size_hw, recipe.tokenizer.patch, block, block, VQConfig(codes=1024, dim=32)
        ),
        tokenizer_training=replace(training, batch=clips, frames=FRAMES),
    )


def memory_of_clip(recipe: Recipe) -> int:
    """Bytes that a clip keeps for the backward pass of its tokenizer."""
    return sum(part.kept for part in tokenizer_parts(recipe, empty_world(recipe), phases(recipe)[0]))
