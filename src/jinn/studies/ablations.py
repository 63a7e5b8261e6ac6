"""What the studies compare: rows of recipes, each with one change.

A change that is one of values is written as on the command line (``--set``); one of models is a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jinn.errors import JinnError
from jinn.models.dynamics import DynamicsConfig
from jinn.models.ours.previous_frame import PreviousFrameDynamicsConfig
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import TransformerConfig
from jinn.overrides import override
from jinn.recipes import coinrun_cpu, paper_coinrun
from jinn.training.recipe import Recipe

Change = Callable[[Recipe], Recipe]


def values(*pairs: str) -> Change:
    """A change of values, ``PATH=VALUE`` each."""
    return lambda recipe: override(recipe, pairs)


def unchanged(recipe: Recipe) -> Recipe:
    """The recipe as it is: the first row, with which the others are compared."""
    return recipe


def rate_doubled(recipe: Recipe) -> Recipe:
    """Twice the learning rate of the dynamics."""
    return values(f"dynamics_training.learning_rate={2 * recipe.dynamics_training.learning_rate}")(recipe)


def paper_conditioning(recipe: Recipe) -> Recipe:
    """The paper's dynamics of the same size: no previous frame, no doubt, its masks, digits drawn apart."""
    return replace(values("sampling.doubt=0")(recipe), dynamics=DynamicsConfig(recipe.dynamics.transformer))


def two_layers_more(recipe: Recipe) -> Recipe:
    """A deeper transformer in the dynamics."""
    return values(f"dynamics.transformer.layers={recipe.dynamics.transformer.layers + 2}")(recipe)


def patch_tokenizer(recipe: Recipe) -> Recipe:
    """The same grid of tokens from a transformer over patches, frame by frame, with about as many parameters."""
    encoder = TransformerConfig(layers=2, width=192, heads=6, feedforward=4.0, temporal_every=0)
    config = TokenizerConfig(
        recipe.tokenizer.size_hw, 8, encoder, replace(encoder, layers=4), recipe.tokenizer.quantizer
    )
    return replace(recipe, tokenizer=config)


# Rows of `jinn study ablate`: changes of the dynamics first, then those that need a tokenizer of their own.
DYNAMICS: dict[str, Change] = {
    "recipe": unchanged,
    "no doubt": values("dynamics.doubt=0", "sampling.doubt=0"),
    "doubt to 30%": values("dynamics.doubt=0.3"),
    "doubt to 60%": values("dynamics.doubt=0.6"),
    "digits drawn apart": values("dynamics.digit_hidden=0"),
    "the first frame stays": values("dynamics.keep_first=true"),
    "no self-rollouts": lambda recipe: replace(recipe, self_rollout_training=None),
    "the paper's dynamics": paper_conditioning,
    "no clean frames": values("dynamics.clean_frames=0"),
    "half of the frames clean": values("dynamics.clean_frames=0.5"),
    "AdamW": values("dynamics_training.optimizer=adamw"),
    "learning rate doubled": rate_doubled,
    "rate falls from the warm-up on": values("dynamics_training.hold=0"),
    "temporal attention in every layer": values("dynamics.transformer.temporal_every=1"),
    "wider": values("dynamics.transformer.width=256", "dynamics.transformer.heads=8"),
    "two layers more": two_layers_more,
}
TOKENIZER: dict[str, Change] = {
    "12 bits a token": values("tokenizer.quantizer.levels=8,8,8,8"),
    "tokens see their patch alone": values("tokenizer.encoder.kernel=1"),
    "a transformer as tokenizer": patch_tokenizer,
    "AdamW for the tokenizer": values("tokenizer_training.optimizer=adamw"),
}


def ablations(recipe: Recipe, names: tuple[str, ...], has_base: bool) -> dict[str, Recipe]:
    """Rows by their names, by default all that can be trained; the recipe itself is always the first.

    Raises:
        JinnError: there is no such row, or it changes the tokenizer of a base.
    """
    known = DYNAMICS | ({} if has_base else TOKENIZER)
    for name in names:
        if name not in known:
            why = "needs a tokenizer of its own: leave out --base" if name in TOKENIZER else "is unknown"
            raise JinnError(f"the row {name!r} {why}; rows are: {', '.join(known)}")
    chosen = dict.fromkeys(["recipe", *(names or known)])
    return {name: known[name](recipe) for name in chosen}


OURS = coinrun_cpu()


def paper_small() -> Recipe:
    """The paper's case study with its design and a CPU's sizes: learning rates for few steps, and our 8 actions."""
    sizes = {"layers": 4, "width": 128, "heads": 4, "head_width": 32}
    models = [
        f"{model}.{part}" for model in ("tokenizer", "latent_actions") for part in ("encoder", "decoder")
    ]
    pairs = [
        f"{model}.{key}={size}" for model in [*models, "dynamics.transformer"] for key, size in sizes.items()
    ]
    pairs += [
        "dynamics.transformer.width=192",
        "dynamics.transformer.heads=6",
        "latent_actions.quantizer.codes=8",
    ]
    few = {"batch": 2, "learning_rate": 1e-3, "final_learning_rate": 1e-4}
    for phase in ("tokenizer_training", "dynamics_training"):
        pairs += [f"{phase}.{key}={value}" for key, value in few.items()]
    return override(paper_coinrun(), pairs)


def dynamics(**changes: object) -> Change:
    """A change of fields of the dynamics' config."""
    return lambda recipe: replace(recipe, dynamics=replace(recipe.dynamics, **changes))  # type: ignore[arg-type]


# From the paper's recipe to ours: each row adds a change to the row before it.
STEPS: dict[str, Change] = {
    "the paper's, at a CPU's size": lambda _: paper_small(),
    "convolutional tokenizer, 64 tokens of six digits, Muon": lambda recipe: replace(
        recipe, tokenizer=OURS.tokenizer, tokenizer_training=OURS.tokenizer_training
    ),
    "latent actions from motion, learned first": lambda recipe: replace(
        recipe, latent_actions=OURS.latent_actions, latent_action_training=OURS.latent_action_training
    ),
    "short clips in larger batches, Muon": lambda recipe: replace(
        recipe,
        dynamics=replace(recipe.dynamics, transformer=OURS.dynamics.transformer),
        dynamics_training=OURS.dynamics_training,
    ),
    "previous frame, clean frames, late masks": lambda recipe: replace(
        recipe, dynamics=PreviousFrameDynamicsConfig(OURS.dynamics.transformer, clean_frames=0.3)
    ),
    "doubt about the action": dynamics(doubt=1.0),
    "digits that know of each other, our sampling": lambda recipe: dynamics(digit_hidden=384)(
        replace(recipe, sampling=OURS.sampling)
    ),
    "self-rollouts": lambda recipe: replace(recipe, self_rollout_training=OURS.self_rollout_training),
}


def from_paper() -> dict[str, Recipe]:
    """The rows of `STEPS`; the last one is `coinrun_cpu`."""
    rows, recipe = {}, paper_small()
    for name, change in STEPS.items():
        recipe = change(recipe)
        rows[name] = recipe
    return rows
