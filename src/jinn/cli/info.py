"""``jinn info``"""

from __future__ import annotations

from typing import get_args

import rich.table
import tyro

from jinn.cli.console import DEVICE, console, say
from jinn.errors import JinnError
from jinn.models.maskgit import SamplingConfig
from jinn.world.backends import BackendName
from jinn.world.world import World


def info(world: tyro.conf.Positional[str] = "platforms", /, device: str = DEVICE) -> None:
    """Print a world's models, actions, keys, sampling and files.

    Args:
        world: Name of a built-in world, or folder of a world or of a run.
        device: Device whose backends are listed, such as cpu or cuda.
    """
    loaded = World.load(world, device)
    assert loaded.folder is not None
    height, width = loaded.size_hw
    say(f"{loaded.name}: frames of {height} x {width} pixels (height x width), {loaded.fps:g} per second")
    say(f"sampling: {sampling_in_words(loaded.config.sampling)}")
    known = loaded.trained_on
    say(f"trained on: {'unknown' if known is None else f'{len(known):,} levels or videos'}")
    say(f"backends: {', '.join(usable_backends(loaded))}")
    console.print(model_table(loaded))
    console.print(action_table(loaded))
    if loaded.keys:
        console.print(key_table(loaded))
    files = rich.table.Table("file", "MB")
    say(f"folder: {loaded.folder}")
    for path in sorted(loaded.folder.iterdir()):
        files.add_row(path.name, f"{path.stat().st_size / 1e6:.2f}")
    console.print(files)


def sampling_in_words(config: SamplingConfig) -> str:
    """How frames are sampled, such as "MaskGIT with 25 steps, ..."."""
    tokens = "the likeliest tokens" if config.temperature == 0 else f"temperature {config.temperature:g}"
    doubt = f", doubt {config.doubt:g}" if config.doubt else ""
    if config.steps == 1:
        return f"single-step parallel decoding, {tokens}{doubt}"
    first = f"{config.random_tokens} tokens at random places first, " if config.random_tokens else ""
    return (
        f"MaskGIT with {config.steps} steps ({config.schedule} schedule), {first}{tokens}, "
        f"choice temperature {config.choice_temperature:g}{doubt}"
    )


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


def model_table(world: World) -> rich.table.Table:
    """The type and the number of parameters of each model."""
    table = rich.table.Table("model", "config", "parameters", title="models")
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


def key_table(world: World) -> rich.table.Table:
    """Each key of a taught world with the latent action that plays it, and how surely."""
    heads = "key", "plays latent action", "times", "seen with the key", "seen otherwise"
    table = rich.table.Table(*heads, title="keys")
    names = world.action_names or [""] * world.num_actions
    for key in world.keys or ():
        latent = f"{key.latent} {names[key.latent]}".strip()
        if key.count:
            table.add_row(key.name, latent, str(key.count), f"{key.seen:.0%}", f"{key.otherwise:.0%}")
        else:
            table.add_row(key.name, latent, "0", "", "")
    return table
