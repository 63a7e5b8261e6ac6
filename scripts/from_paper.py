"""From the paper's recipe to ours, one change after another, each trained for as many seconds: docs/research-log.md.

python scripts/from_paper.py stores/platforms stores/platforms_test --seconds 900 --out from_paper

Each row adds a change to the row before it. All phases of a row share the seconds (`SHARES`), by the measured time of a
step. What is finished stays in OUT, and the same command goes on from there; OUT/table.md is the table so far.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro

from jinn.data.store import FrameStore
from jinn.evaluation.catalogue import CONSISTENCY, DELTA_PSNR_4, METRICS
from jinn.evaluation.estimate import Estimate
from jinn.evaluation.protocol import Protocol
from jinn.evaluation.suite import evaluate
from jinn.files import read_json, write_json
from jinn.models.ours.previous_frame import PreviousFrameDynamicsConfig
from jinn.overrides import override
from jinn.recipes import coinrun_cpu, paper_coinrun
from jinn.training.recipe import Recipe, phases
from jinn.training.run import run_recipe
from jinn.world.world import World

OURS = coinrun_cpu()
SHARES = {"tokenizer": 0.3, "latent_actions": 0.05, "dynamics": 0.55, "self_rollout": 0.1}
TRAINING = {  # fields of a recipe
    "tokenizer": "tokenizer_training",
    "latent_actions": "latent_action_training",
    "dynamics": "dynamics_training",
    "self_rollout": "self_rollout_training",
}
TIMED = 12  # steps of each phase that are timed; the first ones warm up
COLUMNS = (
    "tokenizer/psnr", "inferred/psnr", DELTA_PSNR_4, CONSISTENCY, "physics/obedience",
    "stability/constant/300/inside", "stability/random/300/inside", "stability/random/300/static",
)  # fmt: skip


def paper(_: Recipe) -> Recipe:
    """The paper's case study with its design and a CPU's sizes: learning rates for few steps, and our 8 actions."""
    sizes: dict[str, float] = {"layers": 4, "width": 128, "heads": 4, "head_width": 32}
    models = [
        f"{model}.{part}" for model in ("tokenizer", "latent_actions") for part in ("encoder", "decoder")
    ]
    values = {
        f"{model}.{key}": size for model in [*models, "dynamics.transformer"] for key, size in sizes.items()
    }
    values |= {"dynamics.transformer.width": 192, "dynamics.transformer.heads": 6}
    values |= {"latent_actions.quantizer.codes": 8}
    few = {"batch": 2, "learning_rate": 1e-3, "final_learning_rate": 1e-4}
    for phase in ("tokenizer_training", "dynamics_training"):
        values |= {f"{phase}.{key}": value for key, value in few.items()}
    return override(paper_coinrun(), [f"{key}={value}" for key, value in values.items()])


def dynamics(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, dynamics=replace(recipe.dynamics, **changes))


def digits(recipe: Recipe) -> Recipe:
    """The head that draws the digits of a token one after another, and the sampling that it makes possible."""
    return dynamics(digit_hidden=384)(replace(recipe, sampling=OURS.sampling))


CHANGES: dict[str, Callable[[Recipe], Recipe]] = {
    "the paper's, at a CPU's size": paper,
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
    "previous frame, clean frames": lambda recipe: replace(
        recipe, dynamics=PreviousFrameDynamicsConfig(OURS.dynamics.transformer, clean_frames=0.3)
    ),
    "doubt about the action": dynamics(doubt=1.0),
    "digits that know of each other, temperature 0.4": digits,
    "self-rollouts": lambda recipe: replace(recipe, self_rollout_training=OURS.self_rollout_training),
}


def main(
    store: Path,
    test: Path,
    /,
    seconds: float = 900,
    seed: int = 0,
    clips: int = 48,
    long_rollouts: int = 16,
    out: Path = Path("from_paper"),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Train and measure each row, and write the table.

    Args:
        store: Frame store to train on.
        test: Frame store of other levels.
        seconds: Seconds of training of each row.
        seed: Seed of everything.
        clips: Number of clips to measure.
        long_rollouts: Number of roll-outs of 300 frames under random actions, and under constant ones.
        out: Folder of the runs and of the table.
        device: Device to train and measure on.
    """
    frames, held_out = FrameStore.open(store), FrameStore.open(test)
    protocol = Protocol(clips, draws=1, long_rollouts=long_rollouts, long_frames=300, shown=1, seed=seed)
    recipe, rows = OURS, {}
    for number, (name, change) in enumerate(CHANGES.items()):
        recipe, folder = change(recipe), out / f"{number}"
        world = trained(recipe, frames, folder, seconds, seed, device)
        if not (folder / "measured.json").exists():
            results = evaluate([world.to(device)], held_out, protocol, [name], folder / "parts")
            write_json(folder / "measured.json", results.to_json()["worlds"][0]["estimates"])
        rows[name] = (
            {key: Estimate(**value) for key, value in read_json(folder / "measured.json").items()},
            read_json(folder / "steps.json"),
        )
        (out / "table.md").write_text(table(rows))
    print(table(rows))


def trained(recipe: Recipe, store: FrameStore, folder: Path, seconds: float, seed: int, device: str) -> World:
    """The world after as many steps of each phase as fit into its share of the seconds."""
    if (folder / "run" / "world").exists():
        return World.load(folder / "run", device)
    if not (folder / "steps.json").exists():
        taken = seconds_of_a_step(recipe, store, seed, device)
        share = seconds / sum(SHARES[name] for name in taken)
        steps = {name: max(TIMED, round(share * SHARES[name] / taken[name])) for name in taken}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "steps.json", steps)
    steps = read_json(folder / "steps.json")
    return run_recipe(with_steps(recipe, steps), store, folder / "run", "from_paper", seed, device)


def seconds_of_a_step(recipe: Recipe, store: FrameStore, seed: int, device: str) -> dict[str, float]:
    """The median time of a step of each phase."""
    ends: dict[str, list[float]] = defaultdict(list)
    few = with_steps(recipe, {phase.name: TIMED for phase in phases(recipe)})
    with tempfile.TemporaryDirectory() as folder:
        run_recipe(
            few, store, Path(folder) / "run", "timed", seed, device,
            on_step=lambda phase, *_: ends[phase].append(time.perf_counter()),
        )  # fmt: skip
    return {phase: median(b - a for a, b in pairwise(times[3:])) for phase, times in ends.items()}


def with_steps(recipe: Recipe, steps: dict[str, int]) -> Recipe:
    """The recipe with other numbers of steps, a twentieth of them warm-up."""
    changed = {}
    for name, count in steps.items():
        field = TRAINING[name]
        changed[field] = replace(getattr(recipe, field), steps=count, warmup=max(1, count // 20))
    return replace(recipe, **changed)


def table(rows: dict[str, tuple[dict[str, Estimate], dict[str, int]]]) -> str:
    """The rows as markdown: steps of each phase, and means with their 95% intervals."""
    titles = [METRICS[name].title if name in METRICS else name for name in COLUMNS]
    lines = [f"| added | steps | {' | '.join(titles)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, (found, steps) in rows.items():
        cells = [
            f"{found[key].value:.3g} [{found[key].low:.3g}, {found[key].high:.3g}]" if key in found else ""
            for key in COLUMNS
        ]
        lines.append(f"| {name} | {', '.join(map(str, steps.values()))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(main)
