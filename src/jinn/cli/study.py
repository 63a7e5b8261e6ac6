"""``jinn study``"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import tyro

from jinn.cli.console import DEVICE, console, progress, say
from jinn.cli.settings import Pairs, read_settings
from jinn.data.store import FrameStore
from jinn.errors import JinnError
from jinn.evaluation.catalogue import CONSISTENCY, DELTA_PSNR_4
from jinn.evaluation.protocol import PROTOCOLS
from jinn.files import check_writable
from jinn.training.loop import Interrupted
from jinn.training.recipe import Recipe
from jinn.training.run import fit_to_frames
from jinn.world.world import World

if TYPE_CHECKING:
    from jinn.studies.study import Setup

Kind = Literal["ablate", "from-paper", "tokenizers", "latent-actions", "scaling", "batches"]
WORLD = (
    "run/steps", "inferred/psnr", DELTA_PSNR_4, CONSISTENCY, "fvd/inferred", "physics/obedience",
    "stability/random/300/inside", "stability/constant/300/inside", "stability/random/300/static",
)  # fmt: skip
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "ablate": WORLD,
    "from-paper": ("tokenizer/psnr", *WORLD),
    "tokenizers": ("run/tokenizer_parameters", "run/tokenizer_memory", "tokenizer/psnr", *WORLD),
    "latent-actions": ("actions/nmi_true", *WORLD),
    "scaling": ("run/parameters", "run/steps", "run/flops", "loss/held_out"),
    "batches": ("run/steps", "run/flops", "loss/held_out"),
}


def study(
    kind: tyro.conf.Positional[Kind],
    store: tyro.conf.Positional[Path],
    test: tyro.conf.Positional[Path],
    /,
    out: Path,
    recipe: str = "coinrun_cpu",
    pairs: Pairs = (),
    base: str | None = None,
    rows: tuple[str, ...] = (),
    seeds: int = 1,
    seconds: float | None = None,
    flops: tuple[float, ...] = (),
    clips: int = 48,
    long_rollouts: int = 8,
    device: str = DEVICE,
) -> None:
    """Train rows that differ in one thing each, measure them on the same held-out clips, and print a table.

    Several processes share the rows: start the same command again, or all at once, one for each GPU, by torchrun.

    Args:
        kind: What the rows differ in: changes of the recipe (ablate), one after another from the paper's recipe to
            ours (from-paper), the kind of tokenizer (tokenizers), what the latent action model sees (latent-actions),
            the size of the dynamics (scaling) or their batch (batches).
        store: Frame store to train on.
        test: Frame store of other levels or videos, to measure on.
        out: Folder of the runs, of rows.parquet and of table.md. The same command goes on there.
        recipe: Recipe that the rows change, a name or FILE.py:FUNCTION.
        pairs: Values of the recipe to change in all rows, such as dynamics_training.steps=1000.
        base: A world whose tokenizer and latent actions all rows take over, so that only dynamics are trained. scaling
            and batches need one, so that all rows foretell the same tokens.
        rows: Names of rows of ablate to train beside the recipe; all by default.
        seeds: Number of seeds of each row, from 0.
        seconds: Seconds of training that each row gets, by the time of a step here; else the recipe's steps.
        flops: FLOPs of training that each row gets. With several, scaling draws a curve for each.
        clips: Number of clips to measure on.
        long_rollouts: Number of roll-outs of 300 frames under random actions, and as many under constant ones.
        device: Device to train and measure on.
    """
    from jinn.studies.budget import Budget
    from jinn.studies.study import Setup

    device = alone(device)
    if seeds < 1:
        raise JinnError("--seeds is at least 1")
    base_world = None if base is None else World.load(base)
    frames, held_out = FrameStore.open(store), FrameStore.open(test)
    fitted = fit_to_frames(read_settings(recipe, pairs).recipe, frames.size_hw, base_world)
    found = rows_of(kind, fitted, rows, flops, base_world)
    budget = Budget(seconds, flops[0] if flops and kind != "scaling" else None)
    how = replace(PROTOCOLS["quick"], clips=clips, draws=1, long_rollouts=long_rollouts, shown=1)
    protocol = None if kind in ("scaling", "batches") else how
    check_writable(out)
    run(
        kind, found, seeds,
        Setup(frames, held_out, budget, base_world, protocol, clips, COLUMNS[kind], torch.device(device)), out,
    )  # fmt: skip


def alone(device: str) -> str:
    """The device of this process of torchrun, which makes rows of its own and trains none of them with the others."""
    rank = os.environ.get("LOCAL_RANK")
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        os.environ.pop(name, None)
    return f"cuda:{rank}" if rank and device == "cuda" else device


def run(kind: Kind, rows: Mapping[str, Recipe], seeds: int, setup: Setup, out: Path) -> None:
    """Run a study, and print what it finds."""
    from jinn.studies.rows import table
    from jinn.studies.study import run_study

    try:
        with progress() as show:
            lines = run_study(
                rows, seeds, setup, out, lambda row, done, total, what: show(row, done, total, note=what)
            )
    except Interrupted as stop:
        console.print(f"stopped and saved at step {stop.step}; the same command goes on from there")
        raise SystemExit(130) from None
    say(table(lines, COLUMNS[kind]))
    if kind == "scaling":
        from jinn.studies.forecast import draw, points, text

        runs = points(lines, out)
        draw(runs, out / "scaling.svg")
        say(text(runs))
    say(f"the rows are in {out / 'rows.parquet'}")


def rows_of(
    kind: Kind, recipe: Recipe, names: tuple[str, ...], flops: Sequence[float], base: World | None
) -> dict[str, Recipe]:
    """The rows of a study; raises `JinnError` if they cannot be made of these arguments."""
    from jinn.studies.ablations import ablations, from_paper
    from jinn.studies.latent_inputs import latent_inputs
    from jinn.studies.scaling import batches, scaling
    from jinn.studies.tokenizers import tokenizers

    if names and kind != "ablate":
        raise JinnError(f"--rows chooses among the rows of ablate: leave it out of {kind}")
    if kind in ("scaling", "batches"):
        if base is None:
            raise JinnError(f"the rows of {kind} foretell the tokens of one world: name it with --base")
        return scaling(recipe, flops) if kind == "scaling" else batches(recipe)
    if len(flops) > 1:
        raise JinnError("several --flops are for scaling: give one")
    if kind == "ablate":
        return ablations(recipe, names, base is not None)
    if base is not None:
        raise JinnError(f"the rows of {kind} train whole worlds: leave out --base")
    if kind == "from-paper":
        return from_paper()
    return tokenizers(recipe) if kind == "tokenizers" else latent_inputs(recipe)
