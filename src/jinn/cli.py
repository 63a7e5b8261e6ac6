"""The command line: ``jinn data | train | play | eval | label | export``.

Each sub-command is a function; tyro makes its options from the signature and its help from the
docstring. A user's mistake ends as one sentence and exit code 2.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

if importlib.util.find_spec("tyro") is None or importlib.util.find_spec("rich") is None:
    print("jinn: the command line needs two packages more: pip install 'jinn[cli]'", file=sys.stderr)
    raise SystemExit(2)

import rich.console
import rich.markup
import rich.progress
import rich.table
import torch
import tyro

from jinn.contracts import JinnError
from jinn.data.clips import evenly_spaced_clips, read_clips
from jinn.data.store import FrameStore
from jinn.data.stream import FrameStream, StreamConfig
from jinn.evaluation.suite import ProtocolName
from jinn.files import read_json, write_tensors
from jinn.recipes import RECIPES
from jinn.training.parallel import ParallelConfig
from jinn.training.plan import ClusterConfig
from jinn.training.recipe import Recipe
from jinn.training.run import run_recipe
from jinn.world.backends import BackendName
from jinn.world.export import export_onnx
from jinn.world.folder import find_world
from jinn.world.graph import GraphPrecision
from jinn.world.label import label as label_store
from jinn.world.world import World

PARTS = ".jinn-eval"  # what an unfinished evaluation has measured, in the report's folder

console = rich.console.Console(highlight=False)
errors = rich.console.Console(stderr=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        commands: dict[str, Callable[..., Any]] = {
            "data": data,
            "train": train_with(recipe_named_in(arguments)),
            "play": play,
            "eval": evaluate,
            "label": label,
            "export": export,
        }
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="jinn",
            description="Learn playable worlds from video, and play them.",
            args=arguments,
            sort_subcommands=False,
        )
    except (JinnError, OSError) as error:
        errors.print(f"jinn: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        errors.print("jinn: stopped")
        return 130
    return 0


def data(
    sources: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    seed: int = 0,
    levels: str | None = None,
    policy: str = "random",
) -> None:
    """Turn videos or environments into a frame store.

    Args:
        sources: Video files, folders of them, or environments: envpool:CoinrunHard-v0,
            gymnasium:CartPole-v1, synthetic:game.
        out: Folder of the store. An interrupted command goes on in it, other sources are added to it.
        fps: Frames a second to keep; by default 10 for videos and an environment's own.
        size: Height and width to crop and resize to; by default 64 64.
        frames: How many frames to record of an environment; by default 100000.
        seed: Seed of the recording.
        levels: Level seeds of an environment, START:COUNT.
        policy: Who plays: random presses a random button each frame, sticky holds one for a while, runner
            makes for the right end of a Procgen platformer's level, and FILE.py:FUNCTION is your own
            function from pictures (uint8, BHWC) to one action each.
    """
    from jinn.data.ingest import ingest

    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        summary = ingest(
            sources,
            out,
            fps=fps,
            size_hw=size,
            frames=frames,
            seed=seed,
            levels=parse_levels(levels),
            policy=policy,
            progress=lambda done, total, text: bar.update(
                task, completed=done, total=total, description=rich.markup.escape(text)
            ),
        )
    say = partial(console.print, markup=False, soft_wrap=True)
    for heading, files in (("skipped", summary.skipped), ("read in part", summary.warnings)):
        for file, reason in files:
            say(f"{heading}: {file}: {reason}")
    kept = f", {summary.resumed} sources were there already" if summary.resumed else ""
    say(
        f"{out}: {summary.episodes} clips, {summary.frames:,} frames, {summary.hours:.2f} hours added; "
        f"{len(summary.skipped)} files skipped{kept}"
    )


def recipe_named_in(arguments: Sequence[str]) -> str:
    """The recipe that the command line names: its values are the defaults of all other options."""
    for i, argument in enumerate(arguments):
        name = argument.partition("=")[2] if argument.startswith("--recipe=") else None
        if argument == "--recipe":
            name = arguments[i + 1] if i + 1 < len(arguments) else ""
        if name is not None:
            if name not in RECIPES:
                raise JinnError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}")
            return name
    return "coinrun_cpu"


def train_with(recipe_name: str) -> Callable[..., None]:
    """``jinn train`` with the values of a recipe as defaults."""

    defaults = RECIPES[recipe_name]()

    def train(
        source: tyro.conf.Positional[str | None] = None,
        /,
        out: Path | None = None,
        recipe: Literal[tuple(RECIPES)] = recipe_name,  # type: ignore[valid-type]
        base: str | None = None,
        config: Annotated[Recipe, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = defaults,
        seed: int = 0,
        device: str = "cuda" if torch.cuda.is_available() else "cpu",
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        stream: StreamConfig = StreamConfig(),  # noqa: B008 it is frozen
        minutes: float | None = None,
        report: ProtocolName | None = None,
        parallel: ParallelConfig = ParallelConfig(),  # noqa: B008 it is frozen
        plan: bool = False,
        cluster: Annotated[ClusterConfig, tyro.conf.arg(name="")] = ClusterConfig(),  # noqa: B008
    ) -> None:
        """Train a world: the tokenizer, then latent actions and dynamics.

        Several GPUs: torchrun --nproc-per-node 8 -m jinn.cli train ... (docs/many-gpus.md).

        Args:
            source: Frame store made by jinn data; or an environment such as envpool:CoinrunHard-v0, which
                is then played while it is learned from.
            out: Folder of the run. If it exists, the run goes on from its newest checkpoint.
            recipe: Which recipe to begin with; the options below override it.
            base: A world whose tokenizer and latent actions are kept in place of the recipe's: only the
                dynamics are learned.
            config: The recipe's values.
            seed: Seed of weights, clips and all other chance.
            device: Where to train, such as cpu or cuda.
            precision: Precision of matrix products. auto is bfloat16 where the hardware multiplies it faster
                (GPUs, CPUs with AMX), and what the run began with where it goes on.
            stream: How an environment is played.
            minutes: Stop and save after so long; the same command goes on from there.
            report: Measure the world afterwards, and write a page of it to OUT/report: see jinn eval.
            parallel: How the work is laid out on the hardware; a run may go on with other values.
            plan: Train nothing; say what it would take. Needs neither a store nor --out.
            cluster: The hardware to plan for.
        """
        if plan:
            show_plan(recipe_name, config, cluster, parallel)
        elif source is None or out is None:
            raise JinnError("jinn train needs a frame store and a folder: jinn train STORE --out RUN")
        else:
            with time_limit(minutes):
                is_game = source.partition(":")[0] == "envpool"
                frames = (
                    FrameStream(source, stream, out / "stream", seed) if is_game else FrameStore.open(source)
                )
                train_run(frames, out, config, seed, device, precision, parallel, base)
                if report and os.environ.get("RANK", "0") == "0":
                    evaluate((str(out),), out=out / "report", protocol=report, device=device)

    return train


@contextmanager
def time_limit(minutes: float | None) -> Iterator[None]:
    """Press Ctrl-C after so many minutes, if at all."""
    if minutes is not None and minutes <= 0:
        raise JinnError("--minutes must be above zero")
    timer = threading.Timer(60 * (minutes or 0), os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    if minutes is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def train_run(
    source: FrameStore | FrameStream,
    out: Path,
    recipe: Recipe,
    seed: int,
    device: str,
    precision: Literal["auto", "float32", "bfloat16"],
    parallel: ParallelConfig,
    base: str | None,
) -> None:
    """Train, name the actions, and say how to play. Of several processes the first one speaks."""
    from jinn.evaluation.actions import describe_actions
    from jinn.training.loop import Interrupted

    first = os.environ.get("RANK", "0") == "0"
    console.quiet = not first
    with progress_bar(
        rich.progress.TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:.1f} clips/s")
    ) as bar:
        tasks: dict[str, rich.progress.TaskID] = {}

        def on_step(stage: str, step: int, steps: int, loss: float, rate: float) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=steps, completed=step - 1, loss=loss, rate=rate)
            bar.update(tasks[stage], completed=step, loss=loss, rate=rate)

        try:
            known = None if base is None else World.load(base)
            world = run_recipe(
                recipe, source, out, out.name, seed, device, on_step, parallel, known, precision
            )
        except Interrupted as stop:
            bar.stop()
            console.print(f"stopped and saved at step {stop.step}; the same command goes on from there")
            raise SystemExit(130) from None
    if not first:
        return
    store, split = (source.test, "all") if isinstance(source, FrameStream) else (source, "train")
    frames = min(12, int(store.lengths[store.select(split)].max()))
    clips = evenly_spaced_clips(store, frames, split, 100)
    world.legend = describe_actions(world, read_clips(store, *clips, frames))
    world.save(out / "world")
    console.print(f"the world is in {out / 'world'}; play it: jinn play {out}", markup=False)


# What the paper says of its largest run (section 3.2, table 14).
PAPER = {"paper_platformers_10b": {"parameters": 10.1e9, "tokens": 942e9, "flops": 6.6e22}}


def show_plan(name: str, recipe: Recipe, cluster: ClusterConfig, parallel: ParallelConfig) -> None:
    """Print what a run would take."""
    from jinn.training.plan import empty_world, parameters_of, plan, total_memory

    world = empty_world(recipe)
    models = rich.table.Table("model", "parameters", title=f"{name}: models")
    for part, model in world.named_children():
        models.add_row(part, f"{parameters_of(model):,}")
    work = rich.table.Table(
        "phase", "tokens", "FLOPs", "of them the dynamics'", "days",
        title=f"work on {cluster.gpus} GPUs at {cluster.utilisation:.0%} of {cluster.peak_flops:.3g} FLOP/s",
    )  # fmt: skip
    phases = plan(recipe, cluster, parallel)
    for phase in phases:
        work.add_row(
            phase.name,
            f"{phase.tokens:.3g}",
            f"{phase.flops:.3g}",
            f"{phase.dynamics_flops:.3g}",
            f"{phase.days:.3g}",
        )
    memory = rich.table.Table("GB on each GPU", *(phase.name for phase in phases), title="memory, estimated")
    for key in phases[0].memory:
        memory.add_row(key, *(f"{phase.memory[key]:.3g}" for phase in phases))
    for recompute in (False, True):
        totals = [total_memory(phase.memory, recompute) for phase in phases]
        cells = [f"{x:.3g}" if x < cluster.gpu_memory else f"[red]{x:.3g}: too much[/red]" for x in totals]
        memory.add_row(f"all, with{'' if recompute else 'out'} --parallel.recompute", *cells, style="bold")
    for table in (models, work, memory):
        console.print(table)
    if paper := PAPER.get(name):
        console.print(
            f"the paper: dynamics of {paper['parameters']:.3g} parameters, {paper['tokens']:.3g} tokens, "
            f"{paper['flops']:.2g} FLOPs; here: {parameters_of(world.dynamics):.3g}, "
            f"{phases[-1].tokens:.3g}, {phases[-1].dynamics_flops:.2g}"
        )
    uneven = [phase.name for phase in phases if not phase.even]
    if uneven:
        console.print(
            f"the batch of {', '.join(uneven)} cannot be split evenly over so many GPUs, and training would "
            "refuse: choose other --gpus, --parallel.tensor-parallel or batches"
        )


def play(
    world: tyro.conf.Positional[str] = "coinrun",
    /,
    prompt: Path | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    token: str | None = None,
    players: int = 64,
    text: str | None = None,
    browser: bool = True,
    backend: BackendName = "auto",
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Play a world in the browser.

    Args:
        world: A built-in world, or the folder of a world or of a run.
        prompt: A picture to start from.
        port: Port to listen on; by default JINN_PORT, else the usual one, or a free one if that is taken.
        host: Address to listen on; 0.0.0.0 lets the whole network play, who knows the token.
        token: What other machines must know; by default one is made up when they can reach this one.
        players: How many may play at a time; others wait in a queue.
        text: A text-to-image model of diffusers, a folder or a name on its hub: then worlds begin from texts.
        browser: Open the page in a browser.
        backend: How frames are computed; auto takes the fastest that is at hand.
        device: Where to play, such as cpu or cuda.
    """
    try:
        from jinn.player.pictures import read_picture
        from jinn.player.server import serve
        from jinn.player.text import TextToImage
    except ImportError as error:
        raise JinnError(f"the player needs {error.name}: pip install 'jinn[play]'") from None

    loaded = World.load(world, device).with_backend(backend)
    if backend == "auto" and loaded.backend.next_frame is None:
        console.print(f"jinn export {world} would make it play faster on a CPU", markup=False)
    frame = read_picture(prompt.read_bytes(), loaded.size_hw) if prompt else None
    text_to_image = TextToImage(text, loaded.size_hw, device) if text else None
    serve(
        loaded,
        host=host,
        port=port,
        prompt=frame,
        open_browser=browser,
        token=token,
        players=players,
        text_to_image=text_to_image,
    )
    if text_to_image is not None:
        text_to_image.close()


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
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Measure worlds on held-out clips: figures with 95% intervals and baselines, and a page of it all.

    Args:
        paths: One or more worlds (built-in ones, or folders of worlds or of runs), then a frame store;
            without a world, coinrun; without a store, the one that the first run was trained on. Levels
            and videos that a world was trained on are left out.
        out: Folder for report.html and report.json. An interrupted command goes on in it.
        protocol: How much is measured. Distances may be compared only within one protocol.
        quick: The same as --protocol quick: a few minutes on two CPU cores.
        clips: How many clips, instead of the protocol's.
        frames: How many frames to predict from one.
        draws: How many random sequences of actions each clip is played with.
        long_rollouts: How many long roll-outs, under random and under held actions each.
        long_frames: How many frames of these.
        seed: Seed of roll-outs, random actions and the bootstrap.
        backend: How frames are computed.
        device: Where to measure, such as cpu or cuda.
    """
    from jinn.evaluation.report import write_report
    from jinn.evaluation.suite import PROTOCOLS, evaluate

    own = {"clips": clips, "frames": frames, "draws": draws}
    own |= {"long_rollouts": long_rollouts, "long_frames": long_frames}
    chosen = PROTOCOLS["quick" if quick else protocol]
    chosen = replace(chosen, seed=seed, **{key: value for key, value in own.items() if value is not None})
    names, store = worlds_and_store(paths)
    worlds = [World.load(name, device).with_backend(backend) for name in names]
    with progress_bar() as bar:
        tasks: dict[str, rich.progress.TaskID] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(rich.markup.escape(what), total=total)
            bar.update(tasks[what], completed=done)

        # What was measured so far lies beside the report until that is written.
        parts = out / PARTS / backend if out else None
        results = evaluate(worlds, store, chosen, names, parts, on_progress)
    for world in results.worlds:
        table = rich.table.Table(
            "figure", "mean", "95% interval", "clips", title=f"{world.name} on {store.path}"
        )
        for name, figure in world.figures.items():
            table.add_row(
                name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}", str(figure.count)
            )
        console.print(table)
    for sentence in results.missing:
        console.print(sentence, markup=False, soft_wrap=True)
    if out:
        write_report(results, out)
        shutil.rmtree(out / PARTS)
        console.print(f"look at {out / 'report.html'}", markup=False, soft_wrap=True)


def worlds_and_store(paths: Sequence[str]) -> tuple[list[str], FrameStore]:
    """The names of the worlds, and the store to measure them on."""
    names = list(paths)
    if names and (Path(names[-1]) / "store.json").exists():
        *names, store = names
        return names or ["coinrun"], FrameStore.open(store)
    if names:
        config = find_world(names[0]).parent / "config.json"
        if config.exists() and "store" in (run := read_json(config)):
            return names, FrameStore.open(run["store"])
    raise JinnError(
        "jinn eval needs a frame store to measure on, as its last argument: jinn eval WORLD STORE; "
        "make one with jinn data"
    )


def label(
    world: tyro.conf.Positional[str],
    store: tyro.conf.Positional[Path],
    /,
    out: Path,
) -> None:
    """Label every frame of a store with the latent action that leads to the next.

    Where the store knows true actions, it also says how much the labels share with them.

    Args:
        world: A built-in world, or the folder of a world or of a run.
        store: Frame store made by jinn data.
        out: A safetensors file to write: actions (int64, one a frame in the store's order, -1 at the end
            of an episode) and lengths (int64, frames of each episode).
    """
    from jinn.evaluation.actions import shared_with_keys

    loaded, frames = World.load(world), FrameStore.open(store)
    with progress_bar() as bar:
        task = bar.add_task("labelling", total=frames.num_episodes)
        actions = label_store(
            loaded, frames, on_episode=lambda done, total: bar.update(task, completed=done, total=total)
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    lengths = torch.tensor(frames.lengths, dtype=torch.long)
    write_tensors(out, {"actions": torch.from_numpy(actions), "lengths": lengths})
    counts = torch.bincount(torch.from_numpy(actions[actions >= 0]), minlength=loaded.num_actions).tolist()
    told: dict[str, Any] = {"frames": len(actions), "uses of each action": counts}
    if shared := shared_with_keys(actions, frames, loaded.num_actions):
        interval = [round(x, 3) for x in (shared.value, shared.low, shared.high)]
        told["NMI with the true actions, 95% interval"] = interval
    console.print(json.dumps(told), markup=False, soft_wrap=True)


def export(
    world: tyro.conf.Positional[str],
    /,
    precision: GraphPrecision | None = None,
) -> None:
    """Write a world as ONNX graphs into its folder: then it plays faster on a CPU.

    Args:
        world: A built-in world, or the folder of a world or of a run.
        precision: float32 or int8; both if not given.
    """
    loaded = World.load(world)
    assert loaded.folder is not None
    with console.status("exporting"):
        places = export_onnx(loaded, loaded.folder, *([precision] if precision else get_args(GraphPrecision)))
    for place in places:
        console.print(f"{place}: {place.stat().st_size / 1e6:.1f} MB", markup=False, soft_wrap=True)


def parse_levels(text: str | None) -> tuple[int, int] | None:
    """``"START:COUNT"`` to two numbers."""
    if text is None:
        return None
    start, _, count = text.partition(":")
    if not (start.isdecimal() and count.isdecimal() and int(count) > 0):
        raise JinnError(f"--levels is START:COUNT, such as 0:10000, and not {text!r}")
    return int(start), int(count)


@contextmanager
def progress_bar(*columns: rich.progress.ProgressColumn) -> Iterator[rich.progress.Progress]:
    """A live progress display with what every command shows, and a column or two of its own."""
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        *columns,
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
    ) as bar:
        yield bar


if __name__ == "__main__":
    sys.exit(main())
