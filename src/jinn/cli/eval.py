"""``jinn eval``"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import rich.table
import tyro

from jinn.cli.console import DEVICE, console, progress, say
from jinn.errors import JinnError
from jinn.evaluation.estimate import Estimate
from jinn.evaluation.inputs import worlds_and_store
from jinn.evaluation.protocol import LEADERBOARDS, PROTOCOLS, LeaderboardName, Protocol, ProtocolName
from jinn.files import check_writable, write_json
from jinn.world.backends import BackendName
from jinn.world.world import World

PARTS = ".jinn-eval"  # what an unfinished evaluation has measured, in the report's folder


def evaluate(
    paths: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path | None = None,
    protocol: ProtocolName | LeaderboardName = "fvd256_16f",
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
        protocol: Protocol of the measurement. Distances can be compared only within one protocol. coinrun-2026 is a
            leaderboard: it brings its own store, and also measures FILE.py:FUNCTION, a world model of any other program
            (docs/evaluation.md).
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
    if protocol in LEADERBOARDS:
        if quick or any(value is not None for value in own.values()):
            raise JinnError(f"{protocol} is the same for everybody: leave out --quick and all numbers")
        compete(paths, cast(LeaderboardName, protocol), out, device)
        return
    chosen = PROTOCOLS["quick" if quick else cast(ProtocolName, protocol)]
    chosen = replace(chosen, seed=seed, **{key: value for key, value in own.items() if value is not None})
    measure(paths, chosen, out, backend, device)


def compete(paths: Sequence[str], name: LeaderboardName, out: Path | None, device: str) -> None:
    """Measure worlds by a leaderboard's protocol, print a table, and write leaderboard.json."""
    from jinn.evaluation import leaderboard

    if out:
        check_writable(out)
    players = [leaderboard.contestant(path, device) for path in paths or ("coinrun",)]
    with progress() as show:
        store = leaderboard.test_store(name, lambda done, total, text: show("test store", done, total, text))
        board = leaderboard.LEADERBOARDS[name]
        found = [leaderboard.measure(player, store, board.protocol, show, device) for player in players]
    table = rich.table.Table("metric", *(world["world"] for world in found), title=name)
    for metric in found[0]["estimates"]:
        cells = [Estimate(**world["estimates"][metric]) for world in found]
        table.add_row(metric, *(f"{x.value:.3f} [{x.low:.3f}, {x.high:.3f}]" for x in cells))
    console.print(table)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "leaderboard.json", {"protocol": name, "checksum": board.checksum, "worlds": found})
        say(f"the results are in {out / 'leaderboard.json'}")


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
