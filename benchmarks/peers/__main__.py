"""``python -m benchmarks.peers STORE TEST --tinyworlds FOLDER --seconds 300 --out peers``

STORE is a frame store of 64 x 64 pixels to train on, TEST one of other levels. First a training step of each stage is
timed, in turn, and its memory measured in a process of its own; then each side trains for as many steps as these
seconds buy it; then its world is measured as on a leaderboard (`jinn.evaluation.leaderboard`), and a frame of play is
timed. Nothing is fetched: FOLDER is a checkout.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.measure import interleaved
from benchmarks.peers import ours, tinyworlds
from benchmarks.peers.side import BATCH, SHARES, STAGES, WINDOW, Side, memory
from jinn.data.clips import ClipSampler
from jinn.data.store import FrameStore
from jinn.evaluation.leaderboard import Contestant, measure
from jinn.evaluation.protocol import Protocol
from jinn.files import write_json, write_text

SHOWN = ("psnr_1", "psnr_4", "psnr_10", "psnr", "ssim", "control/delta_psnr_4", "fvd/inferred")
LATE = ("random/{}/inside", "constant/{}/inside", "random/{}/static")  # of the last frames of long roll-outs


def main(
    store: tyro.conf.Positional[Path],
    test: tyro.conf.Positional[Path],
    tinyworlds_folder: Path,
    seconds: float = 300,
    clips: int = 48,
    long_rollouts: int = 8,
    long_frames: int = 300,
    seed: int = 0,
    out: Path = Path("peers"),
) -> None:
    """Time, train and measure each side, and write the table.

    Args:
        store: Frame store to train on.
        test: Frame store of other levels.
        tinyworlds_folder: A checkout of TinyWorlds.
        seconds: Seconds of training of each side.
        clips: Number of clips to measure.
        long_rollouts: Number of long roll-outs under random actions, and as many under constant ones.
        long_frames: Their number of frames, at least 60.
        seed: Seed of everything.
        out: Folder of the results.
    """
    frames, held_out = FrameStore.open(store), FrameStore.open(test)
    makers = [
        partial(ours.side, frames, out, seed),
        partial(tinyworlds.side, tinyworlds_folder, frames, seed),
    ]
    sides = [make() for make in makers]
    batch_BTHWC = ClipSampler(frames, WINDOW, seed).batch(0, BATCH)
    taken: dict[str, dict[str, float]] = {side.name: {} for side in sides}
    needed: dict[str, dict[str, float]] = {side.name: {} for side in sides}
    for stage in STAGES:
        for side, make in zip(sides, makers, strict=True):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                needed[side.name][stage] = process.submit(memory, make, stage, batch_BTHWC.numpy()).result()
        steps: dict[str, Callable[[], object]] = {x.name: partial(x.step[stage], batch_BTHWC) for x in sides}
        for name, time in interleaved(steps, repeats=5, warmup=2).items():
            taken[name][stage] = time
    how = Protocol(clips, draws=1, long_rollouts=long_rollouts, long_frames=long_frames, seed=seed)
    worlds, found = {}, {}
    for side in sides:
        steps_of = {stage: round(SHARES[stage] * seconds / taken[side.name][stage]) for stage in STAGES}
        torch.manual_seed(seed)
        worlds[side.name] = side.train(steps_of)
        found[side.name] = measure(worlds[side.name], held_out, how) | {"steps": steps_of}
        write_json(out / "found.json", found)
    frame_BHWC = held_out.frames(0, 0, 1)
    played = interleaved(
        {name: partial(play, world, frame_BHWC) for name, world in worlds.items()}, repeats=5
    )
    text = table(sides, taken, needed, played, found, long_frames)
    write_text(out / "table.md", text)
    print(text)


def play(world: Contestant, frame_BHWC: np.ndarray) -> None:
    """Ten frames of one player."""
    world.reset(frame_BHWC)
    for _ in range(10):
        world.step(np.zeros(1, np.int64))


def table(
    sides: list[Side],
    taken: dict[str, dict[str, float]],
    needed: dict[str, dict[str, float]],
    played: dict[str, float],
    found: dict[str, dict[str, Any]],
    long_frames: int,
) -> str:
    """The sides as columns, in Markdown."""
    names = [side.name for side in sides]
    rows = [["", *names], ["---"] * (1 + len(names))]
    for stage in STAGES:
        rows.append([f"{stage}: parameters", *(f"{side.parameters[stage]:,}" for side in sides)])
        rows.append([f"{stage}: a training step", *(f"{1000 * taken[name][stage]:.0f} ms" for name in names)])
        rows.append([f"{stage}: memory of a step", *(f"{needed[name][stage]:.0f} MB" for name in names)])
        rows.append([f"{stage}: steps", *(f"{found[name]['steps'][stage]:,}" for name in names)])
    rows.append(["a frame of play", *(f"{100 * played[name]:.0f} ms" for name in names)])
    late = (f"stability/{name.format(long_frames)}" for name in LATE)
    for metric in (*SHOWN, *late):
        estimates = [found[name]["estimates"].get(metric) for name in names]
        rows.append(
            [
                metric,
                *("-" if x is None else "{value:.2f} [{low:.2f}, {high:.2f}]".format(**x) for x in estimates),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


if __name__ == "__main__":
    tyro.cli(main)
