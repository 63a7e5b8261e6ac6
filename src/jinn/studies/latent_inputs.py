"""What the latent action model sees: pixels or tokens (paper, section 3.4 and its table), and our own beside them."""

from __future__ import annotations

from dataclasses import replace

from jinn.errors import JinnError
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.ours.known_actions import KnownActionsConfig
from jinn.models.quantize import VQConfig
from jinn.models.token_latent_actions import TokenLatentActionsConfig
from jinn.models.transformer import TransformerConfig
from jinn.training.recipe import Recipe

LAYERS = 2  # of encoder and decoder, as wide as the recipe's dynamics


def latent_inputs(recipe: Recipe) -> dict[str, Recipe]:
    """The rows: the paper's model on pixels and on tokens, trained with the dynamics, and the recipe's own.

    A patch of pixels is as large as that of a token, so the two see as many positions; all have as many actions.

    Raises:
        JinnError: the recipe has no latent actions.
    """
    size = recipe.dynamics.transformer
    block = TransformerConfig(LAYERS, size.width, size.heads, window=size.window)
    own, size_hw = recipe.latent_actions, recipe.tokenizer.size_hw
    if isinstance(own, KnownActionsConfig):
        raise JinnError(
            "this recipe has known actions, and the study compares latent ones: choose another recipe"
        )
    codes = VQConfig(codes=own.quantizer.codes, dim=32)
    joint = replace(recipe, latent_action_training=None)
    pixels = LatentActionsConfig(size_hw, recipe.tokenizer.patch, block, block, codes)
    tokens = TokenLatentActionsConfig(size_hw, block, block, codes)
    return {
        "pixels": replace(joint, latent_actions=pixels),
        "tokens": replace(joint, latent_actions=tokens),
        "pixels, learned before the dynamics (ours)": recipe,
    }
