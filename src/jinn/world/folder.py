"""A world's folder: config.json and model.safetensors, and beside them prompts, action names, the game's keys and what
it was trained on. Nothing else is needed to load it, and nothing is unpickled.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.files import from_dict, load_weights, read_json, read_tensors, to_dict, write_json, write_tensors
from jinn.world.config import WorldConfig
from jinn.world.earlier import convert_config, convert_weights
from jinn.world.keys import Key
from jinn.world.legend import ActionMeaning

if TYPE_CHECKING:
    from jinn.world.world import World

BUILT_IN = Path(__file__).parent / "built_in"
SHOWN_FIRST = ("platforms", "coinrun")  # of the built-in worlds; others follow by name


def built_in_worlds() -> list[str]:
    """The names of the built-in worlds, the one to begin with first."""
    names = {path.parent.name for path in BUILT_IN.glob("*/config.json")}
    return [*(name for name in SHOWN_FIRST if name in names), *sorted(names - {*SHOWN_FIRST})]


def find_world(name_or_path: str | Path) -> Path:
    """The folder of a built-in world by its name, of a world, or in a run; raises `JinnError` if there is none."""
    path = Path(name_or_path).expanduser()
    for folder in (path, path / "world", BUILT_IN / path.name if path.name == str(path) else path):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    raise JinnError(
        f"there is no world at {str(name_or_path)!r}: name the folder of a world or a run, "
        f"or a built-in world ({', '.join(built_in_worlds()) or 'none here'})"
    )


def read_world(folder: Path, kind: type[World]) -> World:
    """The world in a folder, on the CPU and in float32; raises `JinnError` if files are missing or damaged.

    ``kind`` is `World`, or a class that extends it.
    """
    values = convert_config(read_json(folder / "config.json"))
    config = from_dict(WorldConfig, values, str(folder / "config.json"))
    world = kind(config, read_prompts(folder))
    load_weights(world, convert_weights(read_tensors(folder / "model.safetensors")), folder)
    world.folder = folder
    legend, trained_on = folder / "legend.json", folder / "trained_on.safetensors"
    if legend.exists():
        world.legend = tuple(from_dict(ActionMeaning, entry, str(legend)) for entry in read_json(legend))
        if world.legend and len(world.legend) != world.num_actions:
            raise JinnError(
                f"{legend} names {len(world.legend)} actions, but the world has {world.num_actions}: "
                "remove it or restore it"
            )
    if (folder / "keys.json").exists():
        world.keys = read_keys(folder / "keys.json", world.num_actions)
    if trained_on.exists():
        world.trained_on = read_tensors(trained_on)["groups"].numpy().view(np.uint64)
    return world


def read_prompts(folder: Path) -> Tensor:
    """The frames to start from in a world's folder, uint8 ``frames_PHWC``."""
    frames_PHWC = read_tensors(folder / "prompts.safetensors").get("frames_PHWC")
    if frames_PHWC is None or not len(frames_PHWC):
        raise JinnError(f"{folder / 'prompts.safetensors'} has no frames_PHWC: restore it")
    return frames_PHWC


def write_world(world: World, folder: Path, dtype: torch.dtype) -> None:
    """Write a world's folder; see `World.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in world.state_dict().items()}
    write_tensors(folder / "model.safetensors", weights)
    write_tensors(folder / "prompts.safetensors", {"frames_PHWC": world.prompts})
    legend, trained_on = folder / "legend.json", folder / "trained_on.safetensors"
    if world.legend:
        write_json(legend, [to_dict(meaning) for meaning in world.legend])
    else:
        legend.unlink(missing_ok=True)  # it would be that of another world
    if world.keys:
        write_keys(world.keys, folder)
    else:
        (folder / "keys.json").unlink(missing_ok=True)
    if world.trained_on is not None:
        # safetensors for PyTorch has no uint64: the same bits as int64.
        write_tensors(trained_on, {"groups": torch.from_numpy(world.trained_on.view(np.int64))})
    else:
        trained_on.unlink(missing_ok=True)
    write_json(folder / "config.json", to_dict(world.config))


def read_keys(path: Path, num_actions: int) -> tuple[Key, ...]:
    """The keys of a taught world; raises `JinnError` if the file is damaged or of another world."""
    values = read_json(path)
    keys = tuple(from_dict(Key, entry, str(path)) for entry in values) if isinstance(values, list) else ()
    named = all(isinstance(key.name, str) and type(key.latent) is type(key.count) is int for key in keys)
    if not keys or not named:
        raise JinnError(f"{path} is damaged: remove it or teach the world again")
    for key in keys:
        if not 0 <= key.latent < num_actions:
            raise JinnError(
                f"{path} maps {key.name!r} to action {key.latent}, but the world has 0 to {num_actions - 1}: "
                "remove it or teach the world again"
            )
    return keys


def write_keys(keys: Sequence[Key], folder: Path) -> None:
    """Write the keys of the world in a folder, and nothing else of it."""
    write_json(folder / "keys.json", [to_dict(key) for key in keys])


def check_teachable(folder: Path, out: Path | None) -> None:
    """Raise `JinnError` unless keys may be written into a world's folder, or into its copy at ``out``."""
    if out is None and folder.resolve().parent == BUILT_IN.resolve():
        raise JinnError(
            f"{folder.name} is built in and stays as it is: name a folder for a taught copy (--out)"
        )
    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise JinnError(f"{out} exists already: name a new folder for the taught copy")


def copy_taught(folder: Path, keys: Sequence[Key], out: Path) -> None:
    """Copy a world's folder with all its files and give the copy keys; ``out`` is new or empty."""
    check_teachable(folder, out)
    out = out.absolute()
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for path in folder.iterdir():
            if path.is_file():
                shutil.copyfile(path, temporary / path.name)
        write_keys(keys, temporary)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
