"""Ablations at equal seconds or steps, on held-out levels: the rows of docs/research-log.md.

python scripts/ablate.py tokenizer stores/coinrun stores/test --seconds 300 --seeds 3
python scripts/ablate.py dynamics stores/coinrun stores/test --world runs/coinrun --steps 400

Each row is a recipe with one change. The dynamics are trained from scratch on the tokens and latent actions of
a world, whose tokenizer and latent action model are frozen. Finished rows are written to OUT/rows.jsonl: the same
command goes on from there.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from jinn.data.clips import ClipSampler, evenly_spaced_clips, read_clips
from jinn.data.store import FrameStore
from jinn.data.stream import StoreSource
from jinn.evaluation import appearance, control, rollouts, stability
from jinn.evaluation.catalogue import CONSISTENCY, DELTA_PSNR, DELTA_PSNR_4, METRICS, POLICIES
from jinn.evaluation.clips import choose
from jinn.evaluation.estimate import bootstrap
from jinn.evaluation.metrics import psnr
from jinn.evaluation.networks import Networks
from jinn.models.dynamics import DynamicsConfig
from jinn.models.ours.conv_tokenizer import ConvConfig, ConvTokenizerConfig
from jinn.models.quantize import FSQConfig
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import TransformerConfig
from jinn.recipes import RECIPES
from jinn.training.loop import Phase, train
from jinn.training.optim import fastest_precision
from jinn.training.parallel import ParallelConfig, Ranks
from jinn.training.recipe import Recipe
from jinn.training.run import clips_of, fit_to_frames, frames_on, new_world, take_over
from jinn.training.stages import DynamicsStage, TokenizerStage
from jinn.world.world import World

Change = Callable[[Recipe], Recipe]


def tokenizer(**changes: Any) -> Change:
    return lambda recipe: replace(recipe, tokenizer=replace(recipe.tokenizer, **changes))


def dynamics(**changes: Any) -> Change:
    return lambda recipe: replace(recipe, dynamics=replace(recipe.dynamics, **changes))


def sizes(**changes: Any) -> Change:
    return lambda recipe: dynamics(transformer=replace(recipe.dynamics.transformer, **changes))(recipe)


def tokenizer_training(**changes: Any) -> Change:
    return lambda recipe: replace(recipe, tokenizer_training=replace(recipe.tokenizer_training, **changes))


def dynamics_training(**changes: Any) -> Change:
    return lambda recipe: replace(recipe, dynamics_training=replace(recipe.dynamics_training, **changes))


def patches(recipe: Recipe) -> Recipe:
    """The same token grid from a patch transformer with about as many parameters."""
    one = TransformerConfig(layers=2, width=192, heads=6, feedforward=4.0, temporal_every=0)
    return replace(
        recipe,
        tokenizer=TokenizerConfig(
            recipe.tokenizer.size_hw, 8, one, replace(one, layers=4), recipe.tokenizer.quantizer
        ),
    )


def smaller(recipe: Recipe) -> Recipe:
    assert isinstance(recipe.tokenizer, ConvTokenizerConfig)
    return tokenizer(encoder=ConvConfig(32, 96), decoder=ConvConfig(48, 96, coarse_blocks=3))(recipe)


ROWS: dict[str, dict[str, Change]] = {
    "tokenizer": {
        "recipe": lambda recipe: recipe,
        "AdamW": tokenizer_training(optimizer="adamw"),
        "transformer": patches,
        "transformer, AdamW": lambda recipe: tokenizer_training(optimizer="adamw")(patches(recipe)),
        "VQ of 1,600": tokenizer(quantizer=FSQConfig((8, 8, 5, 5))),
        "smaller": smaller,
    },
    "dynamics": {
        "recipe": lambda recipe: recipe,
        "AdamW": dynamics_training(optimizer="adamw"),
        "learning rate doubled": lambda recipe: dynamics_training(
            learning_rate=2 * recipe.dynamics_training.learning_rate
        )(recipe),
        "rate falls from the warm-up on": dynamics_training(hold=0.0),
        "paper's masks": dynamics(clean_frames=0.0),
        "half of the frames clean": dynamics(clean_frames=0.5),
        "no previous frame": lambda recipe: replace(
            recipe, dynamics=DynamicsConfig(recipe.dynamics.transformer)
        ),
        "no doubt": dynamics(doubt=0.0),
        "doubt to 30%": dynamics(doubt=0.3),
        "doubt to 60%": dynamics(doubt=0.6),
        "digits drawn apart": dynamics(digit_hidden=0),
        "temporal attention in every layer": sizes(temporal_every=1),
        "wider": sizes(width=256, heads=8),
        "2 layers more": lambda recipe: sizes(layers=recipe.dynamics.transformer.layers + 2)(recipe),
    },
}


def main(
    part: Literal["tokenizer", "dynamics"],
    store: Path,
    test: Path,
    /,
    world: str = "coinrun",
    recipe: str = "coinrun_cpu",
    rows: tuple[str, ...] = (),
    seeds: int = 1,
    seconds: float | None = None,
    steps: int | None = None,
    clips: int = 64,
    long_rollouts: int = 16,
    out: Path = Path("ablation"),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Train each row, measure it, and print the table.

    Args:
        part: Part of the world that is trained.
        store: Frame store to train on.
        test: Frame store of other levels.
        world: World whose tokens and latent actions the dynamics are trained on.
        recipe: Recipe that all rows change.
        rows: Rows to train; all by default.
        seeds: Number of seeds, from 0.
        seconds: Seconds of each run; give either these or steps.
        steps: Steps of each run; give either these or seconds.
        clips: Number of clips to measure; for the tokenizer, eight times as many frames.
        long_rollouts: Number of roll-outs of 300 frames under random actions, and under constant ones; 0 for none.
        out: Folder of the results.
        device: Device to train on.
    """
    if (seconds is None) == (steps is None):
        raise SystemExit("give either --seconds or --steps")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "rows.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(line["part"], line["row"], line["seed"], line["budget"]) for line in lines}
    budget = f"{seconds:g} s" if seconds else f"{steps} steps"
    frames, held_out = FrameStore.open(store), FrameStore.open(test)
    for seed in range(seeds):
        for row in rows or ROWS[part]:
            if (part, row, seed, budget) in done:
                continue
            changed = fit_to_frames(ROWS[part][row](RECIPES[recipe]()), frames.size_hw)
            base = World.load(world) if part == "dynamics" else None
            began = time.perf_counter()
            made, taken = trained(changed, frames, base, seed, seconds, steps, torch.device(device))
            minutes = (time.perf_counter() - began) / 60
            measured = measure(made, held_out, clips, base is None)
            if base and long_rollouts:
                measured |= physics(made, held_out, long_rollouts)
            line = {"part": part, "row": row, "seed": seed, "budget": budget}
            lines.append({**line, "steps": taken, "minutes": minutes, "metrics": measured})
            with path.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            print(row, seed, taken, f"{minutes:.1f} min", summary([measured]), flush=True)
    print(table([line for line in lines if line["part"] == part and line["budget"] == budget]))


def trained(
    recipe: Recipe,
    store: FrameStore,
    base: World | None,
    seed: int,
    seconds: float | None,
    steps: int | None,
    device: torch.device,
) -> tuple[World, int]:
    """A world after training one of its parts, and the number of steps."""
    world = new_world(recipe, store, "ablation", seed).to(device)
    world.trained_on = np.unique(store.groups[store.select("train")])
    config = recipe.dynamics_training if base else recipe.tokenizer_training
    preview_BTHWC = ClipSampler(store, config.frames, seed).batch(0, 1).to(device)
    stage: Any = TokenizerStage(world, preview_BTHWC)
    if base:
        take_over(world, base)
        stage = DynamicsStage(world, preview_BTHWC)
        stage.export = lambda *_: None
    learns = ("dynamics",) if base else ("tokenizer",)
    loaded = frames_on(store, device)

    def run(count: int) -> float:
        now = replace(config, steps=count, warmup=max(1, count // 20), log_every=100, preview_every=10**9)
        now = replace(now, checkpoint_every=10**9)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            clips = clips_of(StoreSource(store), now, seed + 1, lambda _: loaded)
            ranks = Ranks(ParallelConfig(), device, precision=fastest_precision(device))
            phase = Phase(learns[0], f"{learns[0]}_training", now, learns, type(stage))
            train(phase, stage, clips, Path(folder), seed + 1, ranks)
            return time.perf_counter() - began

    if steps is None:
        assert seconds is not None
        before = {key: value.clone() for key, value in world.state_dict().items()}
        short, long = run(2), run(12)
        world.load_state_dict(before)
        steps = max(20, int(seconds / ((long - short) / 10)))
    run(steps)
    return world.to(device).eval(), steps


def measure(world: World, store: FrameStore, count: int, only_tokenizer: bool) -> dict[str, list[float]]:
    """Metrics of each clip, by their titles."""
    if only_tokenizer:
        frames_BTHWC = read_clips(store, *evenly_spaced_clips(store, 1, "all", 8 * count), 1).to(world.device)
        made = [world.tokenizer.decode(world.tokenizer.encode(x)) for x in frames_BTHWC.split(64)]
        return {"tokenizer": psnr(torch.cat(made), frames_BTHWC).flatten().tolist()}
    clips = choose(store, [world], 11, count, 0).measured
    played = rollouts.play_clips(world, clips, 0, 0, 1, None)
    found = rollouts.records(played, Networks(None, None, ())) | control.records(world, played)
    values_BT = found["inferred/psnr"]
    metrics = {
        "next frame": found["next_frame/psnr"].mean(1),
        **{f"frame {t}": values_BT[:, t - 1] for t in (1, 4, 10)},
        METRICS[DELTA_PSNR_4].title: found[DELTA_PSNR][:, 3],
        METRICS[CONSISTENCY].title: found[CONSISTENCY],
    }
    return {name: values.double().tolist() for name, values in metrics.items()}


def physics(world: World, store: FrameStore, count: int) -> dict[str, list[float]]:
    """Frames 201 to 300 of long roll-outs: the fraction that looks like the videos, and whether they are static."""
    held_out = choose(store, [world], 11, 64, 0)
    assert held_out.reference is not None
    rows = slice(0, appearance.PAIRS)
    pairs = (
        appearance.real_records(x, "of", rows, 0)["pairs/of"] for x in (held_out.reference, held_out.measured)
    )
    typical = appearance.fit_typical(*pairs)
    prompts = held_out.measured.rows(np.tile(held_out.measured.evenly_spaced(count), 2)).read()[:, 0]
    actions_BT = stability.long_actions(world.num_actions, count, 300, 0)
    found = stability.records(
        world, Networks(None, None, ()), prompts, actions_BT, list(range(2 * count)), lambda _: None
    )
    late_X = torch.tensor(stability.looks(300)) >= 200
    inside_B = typical.inside(found["appearance"])[:, late_X].double().mean(1)
    static_B = (found["change/300"] < stability.STATIC).double()
    columns = {}
    for i, policy in enumerate(POLICIES):
        columns[f"inside, {policy}"] = inside_B.chunk(len(POLICIES))[i].tolist()
        columns[f"static, {policy}"] = static_B.chunk(len(POLICIES))[i].tolist()
    return columns


def summary(runs: list[dict[str, list[float]]], minus: list[dict[str, list[float]]] | None = None) -> str:
    """Means over clips and seeds, minus those of other runs; intervals are over clips, of means over seeds.

    Clips differ far more than recipes do, so paired differences can separate recipes whose own intervals
    overlap.
    """
    cells = []
    for name in runs[0]:
        values = torch.tensor([run[name] for run in runs]).mean(0)
        if minus:
            values = values - torch.tensor([run[name] for run in minus]).mean(0)
        found = bootstrap(values.numpy(), 0)
        cells.append(f"{name} {found.value:{'+' if minus else ''}.2f} [{found.low:.2f}, {found.high:.2f}]")
    return " | ".join(cells)


def table(lines: list[dict[str, Any]]) -> str:
    """Rows as markdown: means over seeds, the means of each seed, and the difference from the first row."""
    text = []
    base = [line["metrics"] for line in lines if line["row"] == lines[0]["row"]]
    for row in dict.fromkeys(line["row"] for line in lines):
        of_row = [line for line in lines if line["row"] == row]
        first = next(iter(of_row[0]["metrics"]))
        means = [float(np.mean(line["metrics"][first])) for line in of_row]
        steps = "/".join(str(line["steps"]) for line in of_row)
        text.append(
            f"| {row} | {steps} | {summary([line['metrics'] for line in of_row])} | seeds' {first}: "
            f"{', '.join(f'{mean:.2f}' for mean in means)} |"
        )
        if len(of_row) == len(base) and row != lines[0]["row"]:
            text.append(
                f"| minus {lines[0]['row']} | | {summary([line['metrics'] for line in of_row], base)} | |"
            )
    return "\n".join(text)


if __name__ == "__main__":
    tyro.cli(main)
