"""What the latent action model sees: pixels or tokens (paper, section 3.4 and its table), and our own beside them."""

from __future__ import annotations

from dataclasses import replace

from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.quantize import VQConfig
from jinn.models.token_latent_actions import TokenLatentActionsConfig
from jinn.models.transformer import TransformerConfig
from jinn.training.recipe import Recipe

LAYERS = 2  # of encoder and decoder, as wide as the recipe's dynamics
ACTIONS = 8


def latent_inputs(recipe: Recipe) -> dict[str, Recipe]:
    """The rows: the paper's model on pixels and on tokens, trained with the dynamics, and the recipe's own.

    A patch of pixels is as large as that of a token, so the two see as many positions.
    """
    size = recipe.dynamics.transformer
    block = TransformerConfig(LAYERS, size.width, size.heads, window=size.window)
    codes, size_hw = VQConfig(codes=ACTIONS, dim=32), recipe.tokenizer.size_hw
    joint = replace(recipe, latent_action_training=None)
    pixels = LatentActionsConfig(size_hw, recipe.tokenizer.patch, block, block, codes)
    tokens = TokenLatentActionsConfig(size_hw, block, block, codes)
    return {
        "pixels": replace(joint, latent_actions=pixels),
        "tokens": replace(joint, latent_actions=tokens),
        "pixels, learned before the dynamics (ours)": recipe,
    }
