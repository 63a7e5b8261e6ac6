"""What a run depends on, and the phases that it consists of.

`phases` is the only place that knows their order: `jinn.training.run` trains them, `jinn.training.plan` counts
what they cost, and the benchmarks time them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jinn.contracts import JinnError
from jinn.models.maskgit import SamplingConfig
from jinn.models.ours.known_actions import KnownActionsConfig
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig
from jinn.training.loop import Phase
from jinn.training.optim import TrainingConfig
from jinn.training.stages import (
    DynamicsStage,
    JointStage,
    KnownActionStage,
    LatentActionStage,
    SelfRolloutStage,
    TokenizerStage,
)
from jinn.world.config import AnyDynamicsConfig, AnyLatentActionsConfig, AnyTokenizerConfig


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on, except the frames and the seed.

    Attributes:
        tokenizer, latent_actions, dynamics: the three models. With a `KnownActionsConfig` the true actions of the
            frames condition the dynamics.
        sampling: how frames are sampled in play.
        tokenizer_training: of the tokenizer, the first phase.
        dynamics_training: of the dynamics, on the tokens of the frozen tokenizer.
        latent_action_training: of our latent action model, or of the one that infers known actions, by itself before
            the dynamics. None is the paper's: latent actions and dynamics learn together from the first step.
        self_rollout_training: of the dynamics on their own roll-outs, the last phase
            (`jinn.models.ours.self_rollout`). None is the paper's: there is no such phase.
    """

    tokenizer: AnyTokenizerConfig
    latent_actions: AnyLatentActionsConfig
    dynamics: AnyDynamicsConfig
    sampling: SamplingConfig
    tokenizer_training: TrainingConfig
    dynamics_training: TrainingConfig
    latent_action_training: TrainingConfig | None = None
    self_rollout_training: TrainingConfig | None = None


def with_known_actions(recipe: Recipe, num_actions: int) -> Recipe:
    """The recipe with known actions in the place of latent ones; their model has the sizes of the latent one's encoder.

    Raises:
        JinnError: the recipe has the paper's latent actions, or a world cannot have so many actions.
    """
    latent = recipe.latent_actions
    if isinstance(latent, KnownActionsConfig):
        return recipe
    if not isinstance(latent, MotionLatentActionsConfig):
        raise JinnError(
            "--actions known is for recipes with our own latent actions (tiny, coinrun_cpu, coinrun), whose sizes it "
            "takes over, and this recipe has the paper's: choose another one"
        )
    try:
        known = KnownActionsConfig.sized_as(latent, num_actions)
    except ValueError as error:
        raise JinnError(f"--actions known is impossible here: {error}") from None
    return replace(recipe, latent_actions=known)


def phases(recipe: Recipe, from_scratch: bool = True) -> tuple[Phase, ...]:
    """The phases of a run in their order.

    Args:
        from_scratch: False where tokenizer and latent actions are those of another world.

    Raises:
        JinnError: known actions have no phase.
    """
    has_known_actions = isinstance(recipe.latent_actions, KnownActionsConfig)
    found: list[Phase] = []
    learns: tuple[str, ...] = ("dynamics",)
    stage = DynamicsStage
    if from_scratch:
        name, training = "tokenizer", recipe.tokenizer_training
        found.append(Phase(name, "tokenizer_training", training, (name,), TokenizerStage, seed=0))
        if (config := recipe.latent_action_training) is not None:
            own = KnownActionStage if has_known_actions else LatentActionStage
            found.append(
                Phase("latent_actions", "latent_action_training", config, ("latent_actions",), own, seed=2)
            )
        elif has_known_actions:
            raise JinnError("known actions are learned in a phase of their own: set latent_action_training")
        else:
            learns, stage = ("latent_actions", "dynamics"), JointStage
    training = recipe.dynamics_training
    found.append(Phase("dynamics", "dynamics_training", training, learns, stage, seed=1, preview_clips=1))
    if (config := recipe.self_rollout_training) is not None:
        learns, stage = ("dynamics",), SelfRolloutStage
        found.append(
            Phase("self_rollout", "self_rollout_training", config, learns, stage, seed=3, preview_clips=1)
        )
    return tuple(found)
