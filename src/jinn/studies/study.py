"""A study: rows that differ in one thing each, trained alike and measured on the same held-out clips.

``OUT/runs/ROW-SEED/`` is a run of `jinn train`, so a row that was stopped goes on, and what is finished is never made
again. ``OUT/rows.parquet`` holds every estimate of every run, and ``OUT/table.md`` the table of them. The same command
in several processes, on one machine or on several that share the folder, shares the rows: each is made by one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from jinn.data.store import FrameStore
from jinn.errors import JinnError
from jinn.evaluation.estimate import Estimate, bootstrap, exactly
from jinn.evaluation.protocol import Protocol
from jinn.evaluation.suite import evaluate
from jinn.files import locked, read_config, read_json, to_dict, weights_hash, write_json, write_text
from jinn.studies.budget import Budget, flops_of_steps, spend
from jinn.studies.loss import held_out_loss
from jinn.studies.rows import Line, table, write_lines
from jinn.training.plan import empty_world, parameters_of, tokenizer_parts
from jinn.training.recipe import Recipe, phases
from jinn.training.run import fit_to_frames, run_recipe
from jinn.world.world import World

# What is shown while a study runs: the row with its seed, how much is done, of how much, and what of.
OnProgress = Callable[[str, int, int, str], None]
Found = dict[str, Estimate]
FOUND = "found.json"  # in the folder of a run that is finished
WAIT = 5.0  # seconds until rows that other processes make are looked at again


@dataclass(frozen=True)
class Setup:
    """What all rows of a study share.

    Attributes:
        store: frame store to train on.
        test: frame store of other levels or videos, to measure on.
        budget: of the training of each row.
        base: world whose tokenizer and latent actions all rows take over; None where each trains its own.
        protocol: how much is measured; None measures the held-out loss alone, on ``clips`` clips.
        clips: see ``protocol``.
        columns: metrics of the table.
        device: where rows are trained and measured.
    """

    store: FrameStore
    test: FrameStore
    budget: Budget
    base: World | None
    protocol: Protocol | None
    clips: int
    columns: tuple[str, ...]
    device: torch.device


def run_study(
    rows: Mapping[str, Recipe], seeds: int, setup: Setup, out: Path, on_progress: OnProgress
) -> list[Line]:
    """Train and measure every row with every seed, and write the store and the table after each.

    Args:
        rows: a recipe by the name of its row; all others are compared with the first.
        seeds: number of seeds, from 0.
        setup: what all rows share.
        out: folder of the study, which goes on where it was stopped.
        on_progress: is told of every step.

    Raises:
        JinnError: the folder holds rows of these names that were made in another way.
    """
    first = next(iter(rows))
    runs = [
        Run(name, recipe, seed, out / "runs" / f"{slug(name)}-{seed}")
        for seed in range(seeds)
        for name, recipe in rows.items()
    ]
    firsts = {run.seed: run.folder for run in runs if run.name == first}
    done: dict[Path, tuple[Found, Found]] = {}
    lines: list[Line] = []
    while left := [run for run in runs if run.folder not in done]:
        for run in left:
            against = firsts[run.seed] if run.name != first else None
            is_next = against is None or (against / FOUND).exists()
            with held(run.folder) as is_free:
                if is_next and (is_free or (run.folder / FOUND).exists()):
                    done[run.folder] = measured(run, setup, out / "parts", against, on_progress)
                    lines = lines_of([(run, *done[run.folder]) for run in runs if run.folder in done], first)
                    write_lines(out / "rows.parquet", lines)
                    write_text(out / "table.md", table(lines, setup.columns))
                elif is_free and not (run.folder / "run" / "world").exists():
                    # Another process still makes the row that it is compared with: it can learn meanwhile.
                    claim(run, setup)
                    trained(run, setup, on_progress)
        if len(left) == len(runs) - len(done):
            time.sleep(WAIT)  # all that is left is being made by others
    return lines


def lines_of(found: Sequence[tuple[Run, Found, Found]], first: str) -> list[Line]:
    """The lines of the store, in the order of the runs."""
    lines: list[Line] = []
    for run, estimates, differences in found:
        lines += [Line(run.name, run.seed, key, "", *values(x)) for key, x in estimates.items()]
        lines += [Line(run.name, run.seed, key, first, *values(x)) for key, x in differences.items()]
    return lines


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a run's folder against other processes; False if another one holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = locked(folder / "row.lock", "")
    except JinnError:
        yield False
        return
    with lock:
        yield True


@dataclass(frozen=True)
class Run:
    """A row with one seed; ``folder`` holds its run and what was found."""

    name: str
    recipe: Recipe
    seed: int
    folder: Path


def values(estimate: Estimate) -> tuple[float, float, float, int]:
    """What a line says of an estimate."""
    return estimate.value, estimate.low, estimate.high, estimate.count


def slug(name: str) -> str:
    """The name of a row as that of a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def measured(
    run: Run, setup: Setup, parts: Path, against: Path | None, on_progress: OnProgress
) -> tuple[Found, Found]:
    """Estimates of a run, and their paired differences from the first row's run in the folder ``against``.

    They are read where they were written before, else the row is trained and measured.
    """
    claim(run, setup)
    file = run.folder / FOUND
    if not file.exists():
        world, facts = trained(run, setup, on_progress)
        estimates, differences = measure(world, run, setup, parts, against, on_progress)
        found = {"estimates": facts | estimates, "differences": differences}
        write_json(file, {part: {key: asdict(x) for key, x in some.items()} for part, some in found.items()})
        shutil.rmtree(run.folder / "run" / "checkpoints", ignore_errors=True)
    saved = read_json(file)
    estimates, differences = (
        {key: Estimate(**value) for key, value in saved[part].items()}
        for part in ("estimates", "differences")
    )
    return estimates, differences


def claim(run: Run, setup: Setup) -> None:
    """Write down how a row is made; raises `JinnError` if its folder holds one that was made in another way."""
    made_by = {
        "row": run.name,
        "recipe": to_dict(run.recipe),
        "trained on": fingerprint(setup.store),
        "measured on": fingerprint(setup.test),
        "budget": asdict(setup.budget),
        "base": weights_hash(setup.base) if setup.base else None,
        "protocol": asdict(setup.protocol) if setup.protocol else setup.clips,
    }
    file = run.folder / "made_by.json"
    if not file.exists():
        run.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, made_by)
    elif read_json(file) != json.loads(json.dumps(made_by)):
        raise JinnError(
            f"{run.folder} holds a row of this name that was made in another way (other settings, store or budget): "
            "name another --out"
        )


def fingerprint(store: FrameStore) -> str:
    """What tells a store from others: how many frames it has, and a hash of their levels or videos."""
    return f"{store.num_frames} frames, {hashlib.sha256(store.groups.tobytes()).hexdigest()[:16]}"


def measure(
    world: World, run: Run, setup: Setup, parts: Path, against: Path | None, on_progress: OnProgress
) -> tuple[Found, Found]:
    """What the setup asks for of a trained world, and its paired differences from the world of the first row."""
    if setup.protocol is None:
        loss_B = held_out_loss(world, setup.test, setup.clips)
        write_json(run.folder / "loss.json", loss_B.tolist())
        found = {"loss/held_out": bootstrap(loss_B, 0)}
        if against is None:
            return found, {}
        return found, {"loss/held_out": bootstrap(loss_B - torch.tensor(read_json(against / "loss.json")), 0)}
    title = f"{run.name}, seed {run.seed}"
    first = [World.load(against / "run", setup.device)] if against else []
    results = evaluate(
        [*first, world], setup.test, setup.protocol, [*(x.name for x in first), run.name], parts,
        lambda what, done, total: on_progress(title, done, total, what.partition(": ")[2] or what),
    )  # fmt: skip
    return results.worlds[-1].estimates, results.differences[0] if against else {}


def trained(run: Run, setup: Setup, on_progress: OnProgress) -> tuple[World, Found]:
    """The world of a run, trained if it is not yet, and what its training took."""
    file = run.folder / "recipe.json"  # written once: steps that are timed again would be others
    if file.exists():
        recipe = read_config(Recipe, file, read_json(file), "remove it and train the row again")
    else:
        fitted = fit_to_frames(run.recipe, setup.store.size_hw, setup.base)
        recipe = spend(fitted, setup.budget, setup.store, setup.base, setup.device)
        write_json(file, to_dict(recipe))
    with stopwatch(run.folder / "seconds.json") as seconds_so_far:
        world = run_recipe(
            recipe, setup.store, run.folder / "run", run.name, run.seed, setup.device,
            lambda phase, done, total, *_: on_progress(f"{run.name}, seed {run.seed}", done, total, phase),
            base=setup.base,
        )  # fmt: skip
        seconds = seconds_so_far()
    facts = {"run/seconds": seconds, **costs_of(recipe, world, setup.base is None)}
    return world.to(setup.device), {key: exactly(value, 1, 0) for key, value in facts.items()}


def costs_of(recipe: Recipe, world: World, from_scratch: bool) -> dict[str, float]:
    """What a run takes on any machine, by the names of `jinn.studies.rows.TITLES`."""
    flops, planned = flops_of_steps(recipe, from_scratch), phases(recipe, from_scratch)
    parts = tokenizer_parts(recipe, empty_world(recipe), phases(recipe)[0])
    return {
        "run/steps": float(planned[-1].config.steps),
        "run/flops": float(sum(flops[phase.name] * phase.config.steps for phase in planned)),
        "run/parameters": float(parameters_of(world.dynamics)),
        "run/tokenizer_parameters": float(parameters_of(world.tokenizer)),
        "run/tokenizer_memory": sum(part.kept for part in parts) / 1e6,
    }


@contextmanager
def stopwatch(file: Path) -> Iterator[Callable[[], float]]:
    """Seconds spent in here so far, those before an interruption included: they are kept in the file."""
    before, began = (read_json(file) if file.exists() else 0.0), time.perf_counter()

    def so_far() -> float:
        return float(before) + time.perf_counter() - began

    try:
        yield so_far
    finally:
        write_json(file, so_far())
