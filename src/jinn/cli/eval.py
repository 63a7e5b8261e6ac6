"""``jinn eval``"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import rich.table
import tyro

from jinn.cli.console import DEVICE, console, progress, say
from jinn.evaluation.inputs import worlds_and_store
from jinn.evaluation.protocol import PROTOCOLS, Protocol, ProtocolName
from jinn.files import check_writable
from jinn.world.backends import BackendName
from jinn.world.world import World

PARTS = ".jinn-eval"  # what an unfinished evaluation has measured, in the report's folder


def evaluate(
    paths: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path | None = None,
    protocol: ProtocolName = "fvd256_16f",
    quick: bool = False,
    clips: int | None = None,
    frames: int | None = None,
    draws: int | None = None,
    long_rollouts: int | None = None,
    long_frames: int | None = None,
    seed: int = 0,
    backend: BackendName = "torch",
    device: str = DEVICE,
) -> None:
    """Measure worlds on held-out clips, and write a report.

    Args:
        paths: One or more worlds (names of built-in ones, or folders of worlds or of runs), then a frame
            store. Without a world, platforms is measured; without a store, the store of the first run is used.
            Levels and videos that a world was trained on are left out.
        out: Folder for report.html and report.json. An interrupted command goes on in it.
        protocol: Protocol of the measurement. Distances can be compared only within one protocol.
        quick: The same as --protocol quick, which takes a few minutes on two CPU cores.
        clips: Number of clips, in place of the protocol's.
        frames: Number of frames to predict in each clip.
        draws: Number of random sequences of actions with which each clip is played.
        long_rollouts: Number of long roll-outs with random actions, and of those with constant actions.
        long_frames: Number of frames of each long roll-out.
        seed: Seed of the roll-outs, the random actions and the bootstrap.
        backend: Backend that computes the frames.
        device: Device to measure on, such as cpu or cuda.
    """
    own = {"clips": clips, "frames": frames, "draws": draws}
    own |= {"long_rollouts": long_rollouts, "long_frames": long_frames}
    chosen = PROTOCOLS["quick" if quick else protocol]
    chosen = replace(chosen, seed=seed, **{key: value for key, value in own.items() if value is not None})
    measure(paths, chosen, out, backend, device)


def measure(
    paths: Sequence[str],
    protocol: Protocol,
    out: Path | None,
    backend: BackendName = "torch",
    device: str = DEVICE,
    deadline: float = math.inf,
) -> None:
    """Measure, print tables, and write the report; at the deadline (`time.monotonic`) stop as if the user had."""
    from jinn.evaluation.report import write_report
    from jinn.evaluation.stability import verdict
    from jinn.evaluation.suite import evaluate

    names, store = worlds_and_store(paths)
    worlds = [World.load(name, device, backend) for name in names]
    if out:
        check_writable(out)
    with progress() as show:

        def on_progress(what: str, done: int, total: int) -> None:
            show(what, done, total)
            if time.monotonic() > deadline:
                raise KeyboardInterrupt

        # What was measured so far lies beside the report until that is written.
        parts = out / PARTS / backend if out else None
        results = evaluate(worlds, store, protocol, names, parts, on_progress)
    for world in results.worlds:
        table = rich.table.Table(
            "metric", "mean", "95% interval", "clips", title=f"{world.name} on {store.path}"
        )
        for name, x in world.estimates.items():
            table.add_row(name, f"{x.value:.3f}", f"{x.low:.3f} to {x.high:.3f}", str(x.count))
        console.print(table)
        say(f"{world.name}: {verdict(world.estimates, protocol.long_frames)}")
    for sentence in results.missing:
        say(sentence)
    if out:
        write_report(results, out)
        shutil.rmtree(out / PARTS)
        say(f"look at {out / 'report.html'}")
