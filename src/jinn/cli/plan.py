"""``jinn plan``"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import rich.table
import tyro

from jinn.cli.console import console
from jinn.cli.settings import Pairs, read_settings
from jinn.training.plan import ClusterConfig, PhasePlan, empty_world, parameters_of, total_memory
from jinn.training.plan import plan as plan_phases
from jinn.world.world import World


def plan(
    recipe: tyro.conf.Positional[str],
    /,
    pairs: Pairs = (),
    cluster: Annotated[ClusterConfig, tyro.conf.arg(name="")] = ClusterConfig(),  # noqa: B008 it is frozen
) -> None:
    """Print what a run costs: parameters, FLOPs, days, memory.

    Args:
        recipe: Name of a recipe, or FILE.py:FUNCTION for a function of your own that returns one.
        pairs: Values of the recipe and of the parallel layout to change, such as
            dynamics.transformer.layers=6 parallel.tensor_parallel=2.
        cluster: The hardware to plan for.
    """
    settings = read_settings(recipe, pairs)
    phases = plan_phases(settings.recipe, cluster, settings.parallel)
    console.print(model_table(recipe, empty_world(settings.recipe)))
    console.print(work_table(phases, cluster))
    console.print(memory_table(phases, cluster))
    if uneven := [phase.name for phase in phases if not phase.even]:
        console.print(
            f"The batch of {', '.join(uneven)} cannot be split evenly over so many GPUs, and training would "
            "refuse it: choose other --gpus, parallel.tensor_parallel or batches."
        )


def model_table(name: str, world: World) -> rich.table.Table:
    """The parameters of each model."""
    table = rich.table.Table("model", "parameters", title=f"{name}: models")
    for part, model in world.named_children():
        table.add_row(part, f"{parameters_of(model):,}")
    return table


def work_table(phases: Sequence[PhasePlan], cluster: ClusterConfig) -> rich.table.Table:
    """The work of each phase."""
    table = rich.table.Table(
        "phase", "tokens", "FLOPs", "of which dynamics", "days",
        title=f"work on {cluster.gpus} GPUs at {cluster.utilisation:.0%} of {cluster.peak_flops:.3g} FLOP/s",
    )  # fmt: skip
    for phase in phases:
        numbers = phase.tokens, phase.flops, phase.dynamics_flops, phase.days
        table.add_row(phase.name, *(f"{number:.3g}" for number in numbers))
    return table


def memory_table(phases: Sequence[PhasePlan], cluster: ClusterConfig) -> rich.table.Table:
    """The memory of each phase on each GPU."""
    table = rich.table.Table("GB on each GPU", *(phase.name for phase in phases), title="estimated memory")
    for key in phases[0].memory:
        table.add_row(key, *(f"{phase.memory[key]:.3g}" for phase in phases))
    for recompute in (False, True):
        totals = [total_memory(phase.memory, recompute) for phase in phases]
        cells = [f"{x:.3g}" if x < cluster.gpu_memory else f"[red]{x:.3g}: too much[/red]" for x in totals]
        table.add_row(f"total, parallel.recompute={str(recompute).lower()}", *cells, style="bold")
    return table
