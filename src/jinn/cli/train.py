"""``jinn train``, and ``jinn plan``, which computes what a training would cost."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import rich.progress
import rich.table
import tyro

from jinn.cli.console import DEVICE, console, progress, say
from jinn.cli.eval import measure
from jinn.cli.world import model_table
from jinn.data.store import FrameStore
from jinn.data.stream import FrameStream, StreamConfig
from jinn.errors import JinnError
from jinn.evaluation.protocol import PROTOCOLS, ProtocolName
from jinn.overrides import override
from jinn.recipes import load_recipe
from jinn.training.loop import Interrupted
from jinn.training.parallel import ParallelConfig
from jinn.training.plan import ClusterConfig, PhasePlan, empty_world, total_memory
from jinn.training.plan import plan as plan_phases
from jinn.training.recipe import Recipe
from jinn.training.run import run_recipe
from jinn.world.world import World

Precision = Literal["auto", "float32", "bfloat16"]

# Any number of values after each --set, and any number of --set.
Pairs = Annotated[
    tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]],
    tyro.conf.arg(name="set", metavar="PATH=VALUE ..."),
]


@dataclass(frozen=True)
class Settings(Recipe):
    """A recipe, and beside it the values that do not belong to it.

    Attributes:
        stream: how an environment is played.
        parallel: how the work is laid out on the hardware.
    """

    stream: StreamConfig = StreamConfig()  # noqa: RUF009 it is frozen
    parallel: ParallelConfig = ParallelConfig()  # noqa: RUF009

    @property
    def recipe(self) -> Recipe:
        """The recipe alone."""
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})


def read_settings(recipe: str, pairs: Sequence[Sequence[str]] = ()) -> Settings:
    """A named recipe with the values of all ``--set``.

    Raises:
        JinnError: there is no such recipe or value.
    """
    return override(Settings(**vars(load_recipe(recipe))), list(chain.from_iterable(pairs)))


def train(
    source: tyro.conf.Positional[str],
    /,
    out: Path,
    recipe: str = "coinrun_cpu",
    pairs: Pairs = (),
    base: str | None = None,
    seed: int = 0,
    device: str = DEVICE,
    precision: Precision = "auto",
    minutes: float | None = None,
    report: ProtocolName | None = None,
) -> None:
    """Train a world on a frame store or an environment.

    Args:
        source: Frame store made by jinn data, or an environment such as envpool:CoinrunHard-v0, which is
            played while the world learns from it.
        out: Folder of the run. If it exists, the run goes on from its newest checkpoint.
        recipe: Name of a recipe (see docs), or FILE.py:FUNCTION for a function of your own that returns one.
        pairs: Values of the recipe, of the stream and of the parallel layout to change, such as
            dynamics.transformer.layers=6 stream.frames=10000000 parallel.accumulate=2.
        base: A world whose tokenizer and latent actions replace the recipe's. Then only the dynamics learn.
        seed: Seed of weights, clips and all other randomness.
        device: Device to train on, such as cpu or cuda. For several GPUs use torchrun (docs/many-gpus.md).
        precision: Precision of matrix products. auto is bfloat16 where the hardware multiplies it faster
            (GPUs, CPUs with AMX). A run that goes on keeps the precision that it started with.
        minutes: Minutes after which the run is stopped and saved. The same command goes on from there.
        report: Protocol of an evaluation after the training, which writes a page to OUT/report (see jinn eval).
    """
    if minutes is not None and minutes <= 0:
        raise JinnError("--minutes must be above zero")
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    settings = read_settings(recipe, pairs)
    is_game = source.partition(":")[0] == "envpool"
    frames = (
        FrameStream(source, settings.stream, out / "stream", seed) if is_game else FrameStore.open(source)
    )
    # Of several processes the first one speaks.
    first = os.environ.get("RANK", "0") == "0"
    console.quiet = not first
    train_run(frames, out, settings, seed, device, precision, base, deadline)
    say(f"the world is in {out / 'world'}; play it: jinn play {out}")
    if report and first:
        measure((str(out),), PROTOCOLS[report], out / "report", device=device, deadline=deadline)


def train_run(
    frames: FrameStore | FrameStream,
    out: Path,
    settings: Settings,
    seed: int,
    device: str,
    precision: Precision,
    base: str | None,
    deadline: float,
) -> None:
    """Train with a progress bar; if the run is stopped, say so and exit with code 130."""
    known = None if base is None else World.load(base)
    columns = rich.progress.TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:.1f} clips/s")
    try:
        with progress(columns) as show:

            def on_step(phase: str, step: int, steps: int, loss: float, rate: float) -> None:
                show(phase, step, steps, loss=loss, rate=rate)

            run_recipe(
                settings.recipe, frames, out, out.name, seed, device, on_step, settings.parallel, known,
                precision, deadline,
            )  # fmt: skip
    except Interrupted as stop:
        console.print(f"stopped and saved at step {stop.step}; the same command goes on from there")
        raise SystemExit(130) from None


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
    console.print(model_table(empty_world(settings.recipe), f"{recipe}: models"))
    console.print(work_table(phases, cluster))
    console.print(memory_table(phases, cluster))
    if uneven := [phase.name for phase in phases if not phase.even]:
        console.print(
            f"The batch of {', '.join(uneven)} cannot be split evenly over so many GPUs, and training would "
            "refuse it: choose other --gpus, parallel.tensor_parallel or batches."
        )


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
