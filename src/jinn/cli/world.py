"""``jinn info``, ``jinn label`` and ``jinn export``: what a world is, and what can be made with it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, get_args

import rich.table
import torch
import tyro

from jinn.cli.console import DEVICE, console, progress, say
from jinn.data.store import FrameStore
from jinn.errors import JinnError
from jinn.files import write_tensors
from jinn.models.maskgit import SamplingConfig
from jinn.world.backends import BackendName
from jinn.world.graph import GraphPrecision
from jinn.world.label import label as label_store
from jinn.world.world import World


def info(world: tyro.conf.Positional[str] = "coinrun", /, device: str = DEVICE) -> None:
    """Print a world's models, actions, sampling and files.

    Args:
        world: Name of a built-in world, or folder of a world or of a run.
        device: Device whose backends are listed, such as cpu or cuda.
    """
    loaded = World.load(world, device)
    assert loaded.folder is not None
    height, width = loaded.size_hw
    say(f"{loaded.name}: frames of {height} x {width} pixels (height x width), {loaded.fps:g} per second")
    say(f"sampling: {sampling_in_words(loaded.config.sampling)}")
    seen = "unknown" if loaded.trained_on is None else f"{len(loaded.trained_on):,} levels or videos"
    say(f"trained on: {seen}")
    say(f"backends: {', '.join(usable_backends(loaded))}")
    console.print(model_table(loaded, "models"))
    console.print(action_table(loaded))
    files = rich.table.Table("file", "MB")
    say(f"folder: {loaded.folder}")
    for path in sorted(loaded.folder.iterdir()):
        files.add_row(path.name, f"{path.stat().st_size / 1e6:.2f}")
    console.print(files)


def sampling_in_words(config: SamplingConfig) -> str:
    """How frames are sampled, such as "MaskGIT with 25 steps, ..."."""
    tokens = "the likeliest tokens" if config.temperature == 0 else f"temperature {config.temperature:g}"
    if config.steps == 1:
        return f"single-step parallel decoding, {tokens}"
    return f"MaskGIT with {config.steps} steps, {tokens}, choice temperature {config.choice_temperature:g}"


def usable_backends(world: World) -> list[str]:
    """The backends that can compute the world's frames here."""
    usable = []
    for name in get_args(BackendName):
        try:
            if name != "auto" and world.with_backend(name):
                usable.append(name)
        except JinnError:
            continue
    return usable


def model_table(world: World, title: str) -> rich.table.Table:
    """The type and the number of parameters of each model."""
    table = rich.table.Table("model", "config", "parameters", title=title)
    for name, model in world.named_children():
        config = getattr(world.config, name)
        table.add_row(name, type(config).__name__, f"{sum(p.numel() for p in model.parameters()):,}")
    return table


def action_table(world: World) -> rich.table.Table:
    """Each latent action with its name and the motion that it causes."""
    table = rich.table.Table("action", "name", "pixels down", "pixels right", "fraction", title="actions")
    for action in range(world.num_actions):
        if world.legend is None:
            table.add_row(str(action), "(not named)")
        else:
            x = world.legend[action]
            table.add_row(str(action), x.name, f"{x.down:+.2f}", f"{x.right:+.2f}", f"{x.fraction:.2f}")
    return table


def label(world: tyro.conf.Positional[str], store: tyro.conf.Positional[Path], /, out: Path) -> None:
    """Label every frame of a store with its latent action.

    Args:
        world: Name of a built-in world, or folder of a world or of a run.
        store: Frame store made by jinn data. If it has true actions, the NMI of labels and true actions is
            printed as well.
        out: A safetensors file to write. It holds actions (int64, one for each frame in the store's order: the
            action that leads to the next frame, -1 at the end of an episode) and lengths (int64, number of frames
            of each episode).
    """
    from jinn.evaluation.actions import nmi_with_true_actions

    loaded, frames = World.load(world), FrameStore.open(store)
    with progress() as show:
        actions = label_store(loaded, frames, on_episode=partial(show, "labelling"))
    out.parent.mkdir(parents=True, exist_ok=True)
    lengths = torch.tensor(frames.lengths, dtype=torch.long)
    write_tensors(out, {"actions": torch.from_numpy(actions), "lengths": lengths})
    counts = torch.bincount(torch.from_numpy(actions[actions >= 0]), minlength=loaded.num_actions).tolist()
    summary: dict[str, Any] = {"frames": len(actions), "uses of each action": counts}
    if nmi := nmi_with_true_actions(actions, frames, loaded.num_actions):
        interval = [round(x, 3) for x in (nmi.value, nmi.low, nmi.high)]
        summary["NMI with the true actions, 95% interval"] = interval
    say(json.dumps(summary))


def export(world: tyro.conf.Positional[str], /, precision: GraphPrecision | None = None) -> None:
    """Write a world as ONNX graphs, which play faster on a CPU.

    Args:
        world: Name of a built-in world, or folder of a world or of a run. The graphs are written into it.
        precision: Precision of the graph. The default writes one in float32 and one in int8.
    """
    from jinn.world.export import export_onnx

    loaded = World.load(world)
    assert loaded.folder is not None
    with console.status("exporting"):
        paths = export_onnx(loaded, loaded.folder, *([precision] if precision else get_args(GraphPrecision)))
    for path in paths:
        say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
