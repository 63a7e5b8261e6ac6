"""What the rows of a study may spend on their training: the steps of their recipes, equal seconds, or equal FLOPs.

Seconds are those of the fastest of a few steps, timed before the training: what a row gets does not depend on what the
machine does during it. Time rows on a quiet machine; the steps are written down, so that the study can be made again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from jinn.data.store import FrameStore
from jinn.data.stream import StoreSource
from jinn.errors import JinnError
from jinn.training.optim import fastest_precision
from jinn.training.parallel import ParallelConfig, join
from jinn.training.plan import ClusterConfig, empty_world, plan_phase
from jinn.training.recipe import Recipe, phases
from jinn.training.run import fit_to_frames, untrained
from jinn.training.timing import seconds_of_step
from jinn.world.world import World

# How a budget is shared among the phases of a run; those that a run lacks leave theirs to the others.
SHARES = {"tokenizer": 0.3, "latent_actions": 0.05, "dynamics": 0.55, "self_rollout": 0.1}
FEWEST = 12  # steps of a phase, however dear


@dataclass(frozen=True)
class Budget:
    """What each row may spend; with neither, the steps of its recipe.

    Attributes:
        seconds: of training on this machine.
        flops: of training, as `jinn.training.plan` counts them.
    """

    seconds: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and self.flops is not None:
            raise JinnError("rows are equal in --seconds or in --flops: give one of them")
        if any(value is not None and value <= 0 for value in (self.seconds, self.flops)):
            raise JinnError("--seconds and --flops are above zero")


def spend(
    recipe: Recipe, budget: Budget, store: FrameStore, base: World | None, device: torch.device
) -> Recipe:
    """The recipe with as many steps of each phase as the budget pays for.

    Args:
        recipe: of one row.
        budget: of every row.
        store: whose frames are trained on.
        base: world whose tokenizer and latent actions are taken over, so that only the dynamics learn; None for all.
        device: where the steps are timed.
    """
    if budget.seconds is not None:
        return with_costs(recipe, budget.seconds, seconds_of_steps(recipe, store, base, device), base is None)
    if budget.flops is not None:
        return with_costs(recipe, budget.flops, flops_of_steps(recipe, base is None), base is None)
    return recipe


def with_costs(recipe: Recipe, total: float, costs: dict[str, float], from_scratch: bool) -> Recipe:
    """The recipe whose phases share a total by `SHARES`, where a step of each costs so much.

    Warm-ups stay the same fraction of their phase.
    """
    share = total / sum(SHARES[name] for name in costs)
    for phase in phases(recipe, from_scratch):
        config = phase.config
        steps = max(FEWEST, round(share * SHARES[phase.name] / costs[phase.name]))
        warmup = max(1, round(config.warmup * steps / config.steps))
        changed: dict[str, Any] = {phase.setting: replace(config, steps=steps, warmup=warmup)}
        recipe = replace(recipe, **changed)
    return recipe


def seconds_of_steps(
    recipe: Recipe, store: FrameStore, base: World | None, device: torch.device
) -> dict[str, float]:
    """Seconds of a step of each phase on this machine, in the precision of training."""
    with join(ParallelConfig(), device) as ranks:
        ranks = replace(ranks, precision=fastest_precision(ranks.device))
        fitted = fit_to_frames(recipe, store.size_hw, base)
        world = untrained(fitted, StoreSource(store), "timed", 0, base)
        return {phase.name: seconds_of_step(phase, world, ranks) for phase in phases(fitted, base is None)}


def flops_of_steps(recipe: Recipe, from_scratch: bool) -> dict[str, float]:
    """FLOPs of a step of each phase, those of the models that only encode included."""
    world = empty_world(recipe)
    planned = (
        plan_phase(recipe, world, phase, ClusterConfig(gpus=1), ParallelConfig())
        for phase in phases(recipe, from_scratch)
    )
    steps = {phase.name: phase.config.steps for phase in phases(recipe, from_scratch)}
    return {plan.name: plan.flops / steps[plan.name] for plan in planned}
