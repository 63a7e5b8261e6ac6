"""``jinn train``"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from jinn.cli.console import DEVICE, console, progress, say, span
from jinn.cli.eval import measure
from jinn.cli.settings import Pairs, read_settings
from jinn.data.joined import open_stores
from jinn.data.store import FrameStore
from jinn.data.stream import FrameStream, StreamConfig
from jinn.errors import JinnError
from jinn.evaluation.protocol import PROTOCOLS, ProtocolName
from jinn.training.loop import Interrupted
from jinn.training.run import Actions, run_recipe
from jinn.training.timing import Estimate
from jinn.world.world import World

Precision = Literal["auto", "float32", "bfloat16"]


def train(
    sources: tyro.conf.Positional[tuple[str, ...]],
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
    actions: Actions = "latent",
) -> None:
    """Train a world on frame stores or an environment.

    Args:
        sources: Frame stores made by jinn data, each perhaps with its fraction of the clips (stores/a=0.7
            stores/b=0.3; by default all clips are equally likely); or an environment such as
            envpool:CoinrunHard-v0, which is played while the world learns from it.
        out: Folder of the run. If it exists, the run goes on from its newest checkpoint.
        recipe: Name of a recipe (see docs), or FILE.py:FUNCTION for a function of your own that returns one.
        pairs: Values of the recipe, of the stream and of the parallel layout to change, such as
            dynamics.transformer.layers=6 stream.frames=10000000 parallel.accumulate=2.
        base: A world whose tokenizer and latent actions replace the recipe's. Then only the dynamics learn.
        seed: Seed of weights, clips and all other randomness.
        device: Device to train on, such as cpu or cuda. For several GPUs use torchrun (docs/many-gpus.md).
        precision: Precision of matrix products. auto is bfloat16 where the hardware multiplies it faster
            (GPUs, CPUs with AMX or AVX512-BF16). A run that goes on keeps the precision that it started with.
        minutes: Minutes after which the run is stopped and saved. The same command goes on from there.
        actions: The actions that the world is played by. latent finds them in the frames alone. known takes those that
            were recorded with the frames, under their own names, and learns to infer them where none were recorded.
        report: Protocol of an evaluation after the training, which writes a page to OUT/report (see jinn eval).
    """
    if minutes is not None and minutes <= 0:
        raise JinnError("--minutes must be above zero")
    if report:
        import jinn.evaluation.report  # noqa: F401 now: if a package is missing, it is not to be told after the training
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    settings = read_settings(recipe, pairs)
    frames = open_frames(sources, settings.stream, out, seed)
    base_world = None if base is None else World.load(base)
    # Of several processes the first one speaks.
    first = os.environ.get("RANK", "0") == "0"
    console.quiet = not first
    try:
        with progress() as show:
            run_recipe(
                settings.recipe, frames, out, out.name, seed, device,
                lambda phase, step, steps, loss, rate: show(phase, step, steps, note=in_words(loss, rate)),
                settings.parallel, base_world, precision, deadline, actions, partial(tell_time, out),
            )  # fmt: skip
    except Interrupted as stop:
        console.print(f"stopped and saved at step {stop.step}; the same command goes on from there")
        raise SystemExit(130) from None
    say(f"the world is in {out / 'world'}; play it: jinn play {out}")
    if report and first:
        measure((str(out),), PROTOCOLS[report], out / "report", device=device, deadline=deadline)


def open_frames(
    sources: Sequence[str], config: StreamConfig, out: Path, seed: int
) -> FrameStore | FrameStream:
    """The frames that a command's sources name."""
    games = [source for source in sources if source.partition(":")[0] == "envpool"]
    if not sources:
        raise JinnError("name the frames to train on: a store made by jinn data, or envpool:CoinrunHard-v0")
    if games and len(sources) > 1:
        raise JinnError("an environment is played by itself: make a store of each source with jinn data")
    return FrameStream(games[0], config, out / "stream", seed) if games else open_stores(sources)


def tell_time(out: Path, estimate: Estimate) -> None:
    """Say how long the training takes, and when there is something to play."""
    if not estimate.phases:
        return
    phases = ", ".join(f"{name} {span(seconds)}" for name, seconds in estimate.phases)
    say(f"The training takes about {span(sum(seconds for _, seconds in estimate.phases))} here ({phases}).")
    if estimate.first_world is not None:
        say(f"The first world to play is there after about {span(estimate.first_world)}: jinn play {out}")


def in_words(loss: float, rate: float) -> str:
    """The last logged loss and the clips per second, each once there is one."""
    known = [f"loss {loss:.4f}"] * (not math.isnan(loss)) + [f"{rate:.1f} clips/s"] * (rate > 0)
    return "  ".join(known)
