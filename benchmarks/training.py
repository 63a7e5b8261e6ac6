"""Speed of training by stage, and the parts of a step's time: ``python -m benchmarks.training``.

A step is what `jinn.training.loop.train` does: clips from a store by the prefetching thread, the stage's loss in the
precision of training, backward, clipping, fused AdamW. Model FLOP utilisation is the FLOPs of its matrix products
and attention, forward and backward, over the step's time and the rate of large matrix products timed alternately with
it. The parts (attention, ...) are timed alone at the stage's shapes, times their number; the remainder is "rest".

Every stage runs in a process of its own, so that the peak of memory is measured for each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.flops import count_flops
from benchmarks.measure import RESULTS, Row, interleaved, matrix_product, peak_memory, save, synchronize
from jinn.allocator import keep_freed_memory
from jinn.contracts import Generators, to_device
from jinn.data.clips import Batch, ClipSampler, clip_generators
from jinn.data.synthetic import write_game
from jinn.models.latent_actions import LatentActionModel
from jinn.models.ours.motion_latent_actions import MotionLatentActionModel
from jinn.models.transformer import STBlock, STTransformer
from jinn.recipes import RECIPES
from jinn.training.loop import Prefetch
from jinn.training.optim import TrainingConfig, autocast, fastest_precision, learning_rate, make_optimizers
from jinn.training.recipe import Recipe, phases
from jinn.training.stages import LatentActionStage

STAGES = ("tokenizer", "latent_actions", "dynamics")


@dataclass(frozen=True)
class Case:
    """One row: a stage of a recipe. ``batch`` 0 is the recipe's own."""

    recipe: str
    stage: str
    batch: int = 0
    repeats: int = 5


def cases(device: torch.device) -> list[Case]:
    """What is measured on a device. On a CPU large models take a small batch: a step is to take seconds."""
    if device.type == "cuda":
        whole = ("tiny", "coinrun", "paper_coinrun")
        gpu = [Case(recipe, stage, repeats=20) for recipe in whole for stage in STAGES]
        return [*gpu, Case("paper_platformers_811m", "dynamics", 2, 10)]
    small = [Case(recipe, stage) for recipe in ("tiny", "coinrun_cpu") for stage in STAGES]
    large = {"coinrun": (16, 16, 1), "paper_coinrun": (1, 1, 1)}
    return small + [Case(r, s, b, 3) for r, bs in large.items() for s, b in zip(STAGES, bs, strict=True)]


@dataclass
class Training:
    """A model, its loss on uint8 clips, and how it is trained."""

    model: nn.Module
    loss: Callable[[Tensor, Generators], Tensor]
    config: TrainingConfig
    size_hw: tuple[int, int]
    tokens_of_a_clip: int


def build(recipe: Recipe, stage: str, batch: int, device: torch.device) -> Training:
    """The model of a phase and its loss.

    The dynamics get random tokens and actions: in training these come from the forward passes of frozen models,
    which these numbers do not include.
    """
    torch.manual_seed(0)
    phase = next(phase for phase in phases(recipe) if stage in phase.learns)
    tokenizer = recipe.tokenizer.build()
    actions = recipe.latent_actions.build()  # type: ignore[call-arg]  # no recipe has them of tokens
    tokens, num_actions = torch.Size(tokenizer.grid_hw).numel(), actions.num_actions
    dynamics = recipe.dynamics.build(tokenizer.levels, tokenizer.grid_hw, num_actions)

    def tokenizer_loss(frames_BTHWC: Tensor, generators: Generators) -> Tensor:
        return tokenizer.loss(frames_BTHWC)[0]

    def action_loss(frames_BTHWC: Tensor, generators: Generators) -> Tensor:
        if phase.stage is not LatentActionStage or not isinstance(actions, MotionLatentActionModel):
            return cast(LatentActionModel, actions).loss(frames_BTHWC)[0]
        shape = len(frames_BTHWC), frames_BTHWC.shape[1] - 1, actions.config.quantizer.dim
        noise_BTm1d = to_device(torch.randn(shape, generator=generators[0]), device)
        return actions.continuous_loss(frames_BTHWC, noise_BTm1d)[0]

    def dynamics_loss(frames_BTHWC: Tensor, generators: Generators) -> Tensor:
        B, T = frames_BTHWC.shape[:2]
        tokens_BTN = torch.randint(tokenizer.codebook_size, (B, T, tokens), generator=generators[0])
        actions_BTm1 = torch.randint(num_actions, (B, T - 1), generator=generators[0])
        return dynamics.loss(to_device(tokens_BTN, device), to_device(actions_BTm1, device), generators)[0]

    known: dict[str, tuple[nn.Module, Callable[[Tensor, Generators], Tensor]]] = {
        "tokenizer": (tokenizer, tokenizer_loss),
        "latent_actions": (actions, action_loss),
        "dynamics": (dynamics, dynamics_loss),
    }
    model, loss = known[stage]
    config = replace(phase.config, batch=batch or phase.config.batch)
    if stage == "latent_actions":
        position = getattr(actions, "encoder_position_ND", None)
        tokens = len(position) if isinstance(position, Tensor) else tokens
    return Training(model.to(device), loss, config, recipe.tokenizer.size_hw, config.frames * tokens)


def stepper(training: Training, device: torch.device, folder: Path) -> tuple[dict[str, Any], Prefetch]:
    """The training step, its last third alone, and the data it waits for.

    Returns:
        ``step`` and ``optimiser`` to be called, ``frames`` of a step, ``waited`` (the seconds that each step
        waited for data); and the prefetching thread, to be closed.
    """
    config = training.config
    # A synthetic game as large as the recipe's frames: sides are multiples of its blocks, cut below.
    H, W = (-(-side // 4) * 4 for side in training.size_hw)
    store = write_game(folder / "store", 8, max(24, config.frames + 8), size_hw=(H, W))
    sampler = ClipSampler(store, config.frames, seed=0)
    height, width = training.size_hw

    def clips(number: int, rows: range) -> Batch:
        frames_BTHWC = sampler.batch(number, len(rows))[:, :, :height, :width].contiguous()
        return Batch(frames_BTHWC, torch.full((len(rows), config.frames - 1), -1), frames_BTHWC[:, 0])

    prefetch = Prefetch(clips, range(config.batch), step=0, steps=10**9)
    optimizers = make_optimizers(config, [training.model], fastest_precision(device))
    parameters = list(training.model.parameters())
    training.model.train()
    number = 0
    waited: list[float] = []

    def update() -> None:
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(config, number)
        for optimizer in optimizers:
            optimizer.step()

    def step() -> None:
        nonlocal number
        frames_BTHWC = to_device(prefetch.take().frames_BTHWC, device)
        waited.append(prefetch.waited)
        chance = clip_generators(0, range(number * config.batch, (number + 1) * config.batch))
        with autocast(device, fastest_precision(device)):
            loss = training.loss(frames_BTHWC, chance)
        training.model.zero_grad(set_to_none=True)
        loss.backward()
        update()
        number += 1

    frames_BTHWC = sampler.batch(0, config.batch)[:, :, :height, :width].to(device)
    return {"step": step, "optimiser": update, "frames": frames_BTHWC, "waited": waited}, prefetch


# Parts


def transformers(model: nn.Module) -> list[tuple[str, STTransformer]]:
    """The ST-transformers of a model by attribute."""
    return [(name, part) for name, part in model.named_children() if isinstance(part, STTransformer)]


def block_parts(part: STTransformer) -> list[tuple[str, Callable[[Tensor], Tensor], int]]:
    """The three layers of a transformer's blocks: name, forward pass, and how many blocks have it."""
    blocks = [cast(STBlock, block) for block in part.blocks]
    temporal_blocks = [block for block in blocks if block.temporal is not None]
    first = blocks[0]

    def spatial(x: Tensor) -> Tensor:
        return x + first.spatial.spatial(first.spatial_norm(x))

    def feedforward(x: Tensor) -> Tensor:
        return x + first.feedforward(first.feedforward_norm(x))

    def temporal(x: Tensor) -> Tensor:
        block = temporal_blocks[0]
        assert block.temporal is not None
        assert block.temporal_norm is not None
        return x + block.temporal.temporal(block.temporal_norm(x), block.window)[0]

    layers = [("spatial", spatial, len(blocks)), ("feed-forward", feedforward, len(blocks))]
    return [*layers, ("temporal", temporal, len(temporal_blocks))] if temporal_blocks else list(layers)


def parts(training: Training, frames_BTHWC: Tensor, device: torch.device) -> dict[str, list[Any]]:
    """What a step consists of: for each name, pairs of (forward and backward of one part, how many)."""
    model = training.model
    shapes: dict[str, torch.Size] = {}
    latents: list[Tensor] = []
    hooks = [
        part.register_forward_pre_hook(lambda _m, given, name=name: shapes.update({name: given[0].shape}))
        for name, part in transformers(model)
    ]
    quantizer = getattr(model, "quantizer", None)
    if quantizer is not None:
        hooks.append(quantizer.register_forward_pre_hook(lambda _m, given: latents.append(given[0])))
    with torch.no_grad(), autocast(device, fastest_precision(device)):
        training.loss(frames_BTHWC, clip_generators(0, range(len(frames_BTHWC))))
    for hook in hooks:
        hook.remove()

    def both(run: Callable[[Tensor], Tensor], given: Tensor) -> None:
        with autocast(device, fastest_precision(device)):
            y = run(given)
        y.sum().backward() if y.dim() == 0 else y.backward(torch.ones_like(y))

    found: dict[str, list[Any]] = {name: [] for name in ("spatial", "temporal", "feed-forward", "quantiser")}
    for name, part in transformers(model):
        x_BTND = torch.randn(shapes[name], device=device, requires_grad=True)
        for kind, run, count in block_parts(part):
            found[kind].append((partial(both, run, x_BTND), count))
    if quantizer is not None and latents:
        given = latents[0].detach().requires_grad_()

        def quantize(x: Tensor) -> Tensor:
            quantized = quantizer(x)
            return quantized.latents.sum() + quantized.loss

        found["quantiser"].append((partial(both, quantize, given), 1))

    def ends() -> None:
        """Embedding, logits or pixels, loss: the step without its transformers (and with the quantiser)."""
        kept = transformers(model)
        for name, _ in kept:
            setattr(model, name, nn.Identity())
        with autocast(device, fastest_precision(device)):
            loss = training.loss(frames_BTHWC, clip_generators(0, range(len(frames_BTHWC))))
        loss.backward()
        for name, part in kept:
            setattr(model, name, part)

    found["ends"] = [(ends, 1)]
    return found


def measure(case: Case, device_name: str) -> Row:
    """One case, in this process."""
    device = torch.device(device_name)
    keep_freed_memory()
    recipe = RECIPES[case.recipe]()
    batch = case.batch
    while True:
        training = build(recipe, case.stage, batch, device)
        try:
            with tempfile.TemporaryDirectory() as folder:
                return measure_training(case, training, device, Path(folder))
        except torch.OutOfMemoryError:
            batch = training.config.batch // 2
            del training
            torch.cuda.empty_cache()
            print(f"{case.recipe} {case.stage}: out of memory, trying batches of {batch}", flush=True)
            if not batch:
                raise


def measure_training(case: Case, training: Training, device: torch.device, folder: Path) -> Row:
    """Rates, utilisation, memory and fractions of time of one stage."""
    made, prefetch = stepper(training, device, folder)
    with prefetch:
        made["step"]()
        peak = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        flops = count_flops(made["step"])
        synchronize(device)
        peak = peak_memory(device)
        pieces = parts(training, made["frames"], device)
        timed: dict[str, Callable[[], object]] = {"step": made["step"], "optimiser": made["optimiser"]}
        for name, group in pieces.items():
            timed |= {f"{name} {i}": run for i, (run, _) in enumerate(group)}
        products: dict[str, float] = {}
        for dtype in (torch.float32, torch.bfloat16):
            product, work = matrix_product(dtype, device)
            timed[str(dtype)] = product
            products[str(dtype)] = work
        del made["waited"][:]
        seconds = interleaved(timed, case.repeats, device)
    step = seconds["step"]
    with autocast(device, fastest_precision(device)):
        used = str((torch.ones(1, 1, device=device) @ torch.ones(1, 1, device=device)).dtype)
    rate = {dtype: products[dtype] / seconds[dtype] for dtype in products}
    waited = sorted(made["waited"])[len(made["waited"]) // 2]
    fractions = {
        name: sum(seconds[f"{name} {i}"] * count for i, (_, count) in enumerate(group)) / step
        for name, group in pieces.items()
    }
    fractions["ends"] -= fractions["quantiser"]
    fractions |= {"optimiser": seconds["optimiser"] / step, "data": waited / step}
    batch = training.config.batch
    row: Row = {"recipe": case.recipe, "stage": case.stage, "batch": batch, "frames": training.config.frames}
    row |= {
        "clips/s": batch / step,
        "tokens/s": batch * training.tokens_of_a_clip / step,
        "GFLOP a step": flops / 1e9,
        "GFLOP/s": flops / step / 1e9,
        "precision": used[6:],
        "MFU": flops / step / rate[used],
        "of float32 rate": flops / step / rate["torch.float32"],
        "of bfloat16 rate": flops / step / rate["torch.bfloat16"],
        "peak GB": peak / 1e9,
    }
    return row | {f"{name} %": round(100 * fraction, 1) for name, fraction in fractions.items()} | {
        "rest %": round(100 * (1 - sum(fractions.values())), 1)
    }  # fmt: skip


def measure_compiled(device: torch.device, smallest: bool = False) -> list[Row]:
    """One ST block of the paper's CoinRun dynamics, eager and compiled, forward and backward."""
    repeats = 1 if smallest else 9
    config = RECIPES["tiny" if smallest else "paper_coinrun"]().dynamics.transformer
    B, T, N = (1, 2, 4) if smallest else ((8, 16, 256) if device.type == "cuda" else (1, 16, 256))
    block = STBlock(config, temporal=True).to(device)
    x_BTND = torch.randn(B, T, N, config.width, device=device, requires_grad=True)
    rows: list[Row] = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.compiler.reset()
        compiled = torch.compile(block, backend="eager" if smallest else "inductor")

        def run(module: Callable[[Tensor], Tensor], dtype: torch.dtype = dtype) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
                y = module(x_BTND)
            y.backward(torch.ones_like(y))

        began = time.perf_counter()
        run(compiled)
        synchronize(device)
        compiling = time.perf_counter() - began
        taken = interleaved(
            {"eager": partial(run, block), "compiled": partial(run, compiled)}, repeats, device
        )
        row: Row = {"block": f"d {config.width}, {B} x {T} x {N} tokens", "precision": str(dtype)[6:]}
        row |= {"eager, ms": 1e3 * taken["eager"], "compiled, ms": 1e3 * taken["compiled"]}
        row |= {"gain": taken["eager"] / taken["compiled"], "first call, s": compiling}
        rows.append(row)
    return rows


NOTE = """\
Utilisation is the rate of the model's matrix products and attention (masked entries included), forward and
backward, divided by that of large square products, timed alternately with the step. MFU is relative to the
precision of the step. The time of a part is that of one forward and backward, timed alone, times their number.
`ends` is embedding, logits or pixels, and the loss; `data` is the wait for clips; `rest` is the remainder,
which is negative where parts are slower alone. The dynamics stage excludes the forward passes of the frozen
models."""


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--only", default="", help="recipes or stages whose names contain this; nothing is kept"
    )
    parser.add_argument("--batch", type=int, default=0, help="instead of the recipe's")
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument(
        "--smallest", action="store_true", help="tiny in two clips, nothing compiled: a rehearsal"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    chosen = [c for c in cases(device) if options.only in f"{c.recipe} {c.stage}"]
    if options.smallest:
        chosen = [Case("tiny", stage, 2, 1) for stage in STAGES]
    if options.batch:
        chosen = [replace(case, batch=options.batch) for case in chosen]
    if options.repeats:
        chosen = [replace(case, repeats=options.repeats) for case in chosen]
    rows: list[Row] = []
    memory = "the allocator's peak" if device.type == "cuda" else "the process's largest resident set"
    batches = "" if device.type == "cuda" else " The large models take smaller batches than their recipes."
    context = multiprocessing.get_context("spawn")
    for case in chosen:
        with ProcessPoolExecutor(1, mp_context=context) as process:
            rows.append(process.submit(measure, case, options.device).result())
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
        if not options.only:  # after each, so that an interrupted run leaves what it has
            save("training", rows, device, f"{NOTE} Memory is {memory}.{batches}", options.out)
    if not options.only:
        compiled = measure_compiled(device, options.smallest)
        print(*compiled, sep="\n")
        note = "Time of forward and backward of one ST block of the dynamics of `paper_coinrun`, in milliseconds."
        save("training-compiled", compiled, device, note, options.out)
    return rows


if __name__ == "__main__":
    main()
