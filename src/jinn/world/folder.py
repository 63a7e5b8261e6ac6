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
from jinn.files import (
    load_weights,
    named,
    read_config,
    read_json,
    read_tensors,
    temporary_folder,
    tensor_files,
    to_dict,
    write_json,
    write_tensors,
)
from jinn.world.config import WorldConfig
from jinn.world.hub import first_line
from jinn.world.keys import Key
from jinn.world.legend import ActionMeaning

if TYPE_CHECKING:
    from jinn.world.world import World

BUILT_IN = Path(__file__).parent / "built_in"
FORMAT_VERSION = 1  # of config.json; an older jinn refuses a newer one
SHOWN_FIRST = ("platforms", "coinrun")  # of the built-in worlds; others follow by name


def built_in_worlds() -> list[str]:
    """The names of the built-in worlds, the one to begin with first."""
    names = {path.parent.name for path in BUILT_IN.glob("*/config.json")}
    return [*(name for name in SHOWN_FIRST if name in names), *sorted(names - {*SHOWN_FIRST})]


def find_world(name_or_path: str | Path) -> Path:
    """The folder of a built-in world by its name, of a world, or in a run; raises `JinnError` if there is none."""
    path = Path(name_or_path).expanduser()
    for folder in (path, path / "world", BUILT_IN / path.name if path.name == str(path) else path):
        if (folder / "config.json").is_file() and tensor_files(folder / "model.safetensors"):
            return folder
    raise JinnError(
        f"there is no world at {str(name_or_path)!r}: name the folder of a world or a run, "
        f"or a built-in world ({', '.join(built_in_worlds()) or 'none here'})"
    )


def read_world(folder: Path, kind: type[World]) -> World:
    """The world in a folder, on the CPU and in float32; raises `JinnError` if files are missing or damaged.

    ``kind`` is `World`, or a class that extends it.
    """
    config = read_world_config(folder / "config.json")
    weights = read_tensors(folder / "model.safetensors")
    check_weights(config, weights, folder)
    world = kind(config, read_prompts(folder, config.tokenizer.size_hw))
    load_weights(world, weights, folder)
    world.folder = folder
    legend, trained_on = folder / "legend.json", folder / "trained_on.safetensors"
    if legend.exists():
        world.legend = read_config(tuple[ActionMeaning, ...], legend, read_json(legend))
        if world.legend and len(world.legend) != world.num_actions:
            raise JinnError(
                f"{legend} names {len(world.legend)} actions, but the world has {world.num_actions}: "
                "remove it or restore it"
            )
    if (folder / "keys.json").exists():
        world.keys = read_keys(folder / "keys.json", world.num_actions)
    if trained_on.exists():
        groups = read_tensors(trained_on).get("groups")
        if groups is None or groups.dtype != torch.int64:
            raise JinnError(f"{trained_on} has no groups: restore it")
        # A copy: safetensors maps its files, and Windows replaces no file that is mapped.
        world.trained_on = groups.clone().numpy().view(np.uint64)
    return world


def is_saved(world: World, folder: Path) -> bool:
    """Whether a folder holds the world's config and weights as they are now."""
    if not tensor_files(folder / "model.safetensors"):  # it was removed
        return False
    saved = read_tensors(folder / "model.safetensors")
    state = world.state_dict()
    return (
        read_world_config(folder / "config.json") == world.config
        and saved.keys() == state.keys()
        and all(torch.equal(value.cpu(), saved[name].to(value.dtype)) for name, value in state.items())
    )


def read_world_config(path: Path) -> WorldConfig:
    """The config.json of a world; raises `JinnError` if it is damaged, or of a newer jinn."""
    values = read_json(path)
    if isinstance(values, dict):
        values.setdefault("fit", "crop")  # worlds that were made before do not say so
        version = values.pop("format_version", FORMAT_VERSION)
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise JinnError(
                f"{path} was written by a newer jinn: install that one (pip install --upgrade jinn)"
            )
    return read_config(WorldConfig, path, values)


def outline(config: WorldConfig) -> World:
    """The models of a config on PyTorch's device ``meta``: their shapes, without memory for weights.

    Raises:
        JinnError: no model has such sizes.
    """
    from jinn.world.world import World

    try:
        with torch.device("meta"):
            return World(config)
    except Exception as error:  # whatever an impossible size leads to
        raise JinnError(f"no model has such sizes ({first_line(error)})") from None


def check_weights(config: WorldConfig, weights: dict[str, Tensor], folder: Path) -> None:
    """Raise `JinnError` unless the config describes models of these weights, before memory is taken for them."""
    try:
        world = outline(config)
    except JinnError as error:
        raise JinnError(f"{folder / 'config.json'} is damaged: {error}") from None
    load_weights(world, {name: weight.to("meta") for name, weight in weights.items()}, folder)


def read_prompts(folder: Path, size_hw: tuple[int, int] | None = None) -> Tensor:
    """The frames to start from in a world's folder, uint8 ``frames_PHWC`` (of the given height and width)."""
    path = folder / "prompts.safetensors"
    frames_PHWC = read_tensors(path).get("frames_PHWC")
    if frames_PHWC is None or not len(frames_PHWC):
        raise JinnError(f"{path} has no frames_PHWC: restore it")
    fits = frames_PHWC.ndim == 4 and frames_PHWC.shape[1:] == (*(size_hw or frames_PHWC.shape[1:3]), 3)
    if not fits or frames_PHWC.dtype != torch.uint8:
        raise JinnError(f"{path} does not fit the size of the world's frames: restore it")
    return frames_PHWC.clone()  # not mapped, see above


def write_world(world: World, folder: Path, dtype: torch.dtype) -> None:
    """Write a world's folder; see `World.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    # A part that torch.compile wraps calls its weights otherwise.
    state = {name.replace("_orig_mod.", ""): value for name, value in world.state_dict().items()}
    weights = {name: x.to(dtype) if x.is_floating_point() else x for name, x in state.items()}
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
    write_json(folder / "config.json", {"format_version": FORMAT_VERSION, **to_dict(world.config)})


def read_keys(path: Path, num_actions: int) -> tuple[Key, ...]:
    """The keys of a taught world; raises `JinnError` if the file is damaged or of another world."""
    advice = "remove it or teach the world again"
    keys = read_config(tuple[Key, ...], path, read_json(path), advice)
    if not keys:
        raise JinnError(f"{path} is damaged: {advice}")
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
    out.parent.mkdir(parents=True, exist_ok=True)
    with named(out), temporary_folder(f".{out.name}", out.parent) as scratch:
        copy = scratch / out.name
        copy.mkdir()
        for path in folder.iterdir():
            if path.is_file():
                shutil.copyfile(path, copy / path.name)
        write_keys(keys, copy)
        os.replace(copy, out)
