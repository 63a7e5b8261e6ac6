"""Speed of worlds in play: ``python -m benchmarks.play``.

Three tables.

`play`: the frames of a world, by backend and number of players, as frames a second of all players together,
and what a backend costs in quality: starting from the same states, the fraction of tokens that equal those of
the plain float32 path, and the PSNR of its frames against that path.

`play_paper`: the frame of the paper's CoinRun model (12 layers, d 512, 256 tokens, a window of 16 frames, 25
MaskGIT steps; random weights), against the time that its matrix products alone take at the rates measured in
the same run.

`play_memory`: the memory after many steps (``--endurance 100000``).
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import RESULTS, Row, interleaved, matrix_product, save
from jinn.allocator import keep_freed_memory
from jinn.recipes import paper_coinrun
from jinn.training.recipe import Recipe
from jinn.world.backends import BackendName
from jinn.world.config import WorldConfig
from jinn.world.export import export_onnx
from jinn.world.world import World

PRODUCTS: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--world", default="coinrun", help="a world's name or folder")
    parser.add_argument("--players", type=int, nargs="*", help="numbers of players")
    parser.add_argument("--backends", nargs="*", help="see jinn.world.backends")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--paper-repeats", type=int, default=3, help="frames of the paper's model; 0: none")
    parser.add_argument("--endurance", type=int, default=0, help="steps to play, watching the memory")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    device = torch.device(args.device)
    keep_freed_memory()
    if args.endurance:
        rows = endurance(args.world, device, args.endurance)
        save("play_memory", rows, device, "Memory of the process (CPU) or of the allocator (GPU).", args.out)
        return
    on_gpu = device.type == "cuda"
    players = args.players or ([1, 16, 64, 256] if on_gpu else [1, 4, 16])
    backends: list[BackendName] = args.backends or (
        ["torch", "cuda-graph"] if on_gpu else ["torch", "onnx", "onnx-int8"]
    )
    rows = frames(args.world, device, players, backends, args.repeats)
    save("play", rows, device, NOTE, args.out)
    if args.paper_repeats:
        rows = paper_frame(paper_coinrun(), device, args.paper_repeats)
        save("play_paper", rows, device, PAPER_NOTE, args.out)


NOTE = (
    "Frames a second are summed over all players. Agreement of tokens and PSNR compare one frame with that of "
    "the plain float32 path from the same state, for 8 prompts, each action, and the first two frames."
)
PAPER_NOTE = (
    "One frame of a model of the paper's CoinRun size with random weights, for one player: 25 MaskGIT steps, "
    "caching the frame, and decoding it. FLOPs count its matrix products and attention. `ratio_R` is the frame's "
    "time divided by the time of these FLOPs at the rate of large matrix products in R, measured alternately."
)


def frames(
    name: str, device: torch.device, players: list[int], backends: list[BackendName], repeats: int
) -> list[Row]:
    """Frames a second and quality of each backend."""
    plain = World.load(name, device)
    with tempfile.TemporaryDirectory(prefix="jinn-bench-") as scratch:
        worlds = {b: ready(name, device, b, Path(scratch)).with_backend(b) for b in backends}
    rows = []
    for count in players:
        steps: dict[str, Callable[[], object]] = {b: player(world, count) for b, world in worlds.items()}
        seconds = interleaved(steps, repeats, device, warmup=3)
        for backend, world in worlds.items():
            agreement, psnr = quality(plain, world) if count == players[0] else (None, None)
            row = {
                "world": Path(name).name,
                "backend": backend,
                "players": count,
                "frame_ms": 1000 * seconds[backend],
                "frames_a_second": count / seconds[backend],
                "tokens_as_float32": "" if agreement is None else agreement,
                "psnr_against_float32_dB": "" if psnr is None else psnr,
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def ready(name: str, device: torch.device, backend: BackendName, scratch: Path) -> World:
    """The world; for the float32 graph, which the built-in world lacks, a copy of it with one."""
    world = World.load(name, device)
    if backend != "onnx":
        return world
    world.save(scratch)
    export_onnx(world, scratch, "float32")
    return World.load(scratch, device)


def player(world: World, count: int) -> Callable[[], object]:
    """A function that plays one more frame of ``count`` players."""
    prompts_BHWC = world.prompts[[i % len(world.prompts) for i in range(count)]]
    state, _ = world.reset(prompts_BHWC[:, None])
    turn = 0

    def step() -> object:
        nonlocal state, turn
        actions_B = torch.arange(turn // 4, turn // 4 + count) % world.num_actions
        state, frame_BHWC = world.step(state, actions_B)
        turn += 1
        return frame_BHWC

    return step


def quality(plain: World, fast: World) -> tuple[float, float]:
    """Fraction of tokens that equal those of the plain path, and PSNR of the frames against it in dB."""
    same: list[Tensor] = []
    error: list[Tensor] = []
    for action in range(plain.num_actions):
        state, _ = plain.reset(plain.prompts[:, None], seed=action)
        for _ in range(2):
            actions_B = torch.full((len(plain.prompts),), action)
            truth, frame_BHWC = plain.step(state, actions_B)
            other, other_BHWC = fast.step(state, actions_B)
            same.append((truth.tokens_BN == other.tokens_BN).float().mean())
            error.append((frame_BHWC.float() - other_BHWC.float()).square().mean())
            state = truth
    mse = torch.stack(error).mean().clamp_min(1e-6)
    return float(torch.stack(same).mean()), float(10 * (255**2 / mse).log10())


def paper_frame(recipe: Recipe, device: torch.device, repeats: int) -> list[Row]:
    """A frame of a recipe's untrained world against its matrix products alone."""
    config = WorldConfig(
        "paper", 10.0, recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling
    )
    torch.manual_seed(0)
    height, width = recipe.tokenizer.size_hw
    window = recipe.dynamics.transformer.window
    world = (
        World(config, torch.randint(0, 256, (window, height, width, 3), dtype=torch.uint8)).to(device).eval()
    )
    state, _ = world.reset(world.prompts[None], actions_BTm1=torch.zeros(1, window - 1, dtype=torch.long))
    with FlopCounterMode(display=False) as counter:
        world.step(state, torch.zeros(1, dtype=torch.long))
    flops = counter.get_total_flops()
    backends: list[BackendName] = ["torch", "cuda-graph"] if world.prompts.is_cuda else ["torch"]

    def step(fast: World) -> Callable[[], object]:
        return lambda: fast.step(state, torch.zeros(1, dtype=torch.long))

    products = {name: matrix_product(dtype, device) for name, dtype in PRODUCTS.items()}
    # Shallow copies: the same weights, each with a backend of its own.
    candidates: dict[str, Callable[[], object]] = {b: step(world.with_backend(b)) for b in backends}
    candidates.update((name, product) for name, (product, _) in products.items())
    seconds = interleaved(candidates, repeats, device)
    rates = {name: count / seconds[name] for name, (_, count) in products.items()}
    rows = []
    for backend in backends:
        row: Row = {"backend": backend, "frame_s": seconds[backend], "TFLOP": flops / 1e12}
        for name, rate in rates.items():
            row[f"TFLOP_s_{name}"] = rate / 1e12
            row[f"products_s_{name}"] = flops / rate
            row[f"ratio_{name}"] = seconds[backend] * rate / flops
        rows.append(row)
        print(row, flush=True)
    return rows


def endurance(name: str, device: torch.device, steps: int) -> list[Row]:
    """Memory after each tenth of many steps."""
    world = World.load(name, device, "auto")
    step = player(world, 1)
    rows = []
    began = time.perf_counter()
    for done in range(1, steps + 1):
        step()
        if done == 100 or done % max(1, steps // 10) == 0:
            gc.collect()
            row = {
                "world": Path(name).name,
                "steps": done,
                "memory_MB": memory(device) / 1e6,
                "seconds": time.perf_counter() - began,
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def memory(device: torch.device) -> int:
    """Bytes in use now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    resident = Path("/proc/self/statm").read_text().split()[1]
    return int(resident) * 4096


if __name__ == "__main__":
    main()
