"""A world's folder: config.json and model.safetensors, and beside them prompts, action names and what it was
trained on. Nothing else is needed to load it, and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.files import from_dict, read_json, read_tensors, to_dict, write_json, write_tensors
from jinn.world.config import WorldConfig
from jinn.world.earlier import convert_config, convert_weights
from jinn.world.legend import ActionMeaning, read_legend, write_legend

BUILT_IN = Path(__file__).parent / "built_in"


class Contents(NamedTuple):
    """What a world's folder holds.

    Attributes:
        config: the models and how the world samples.
        weights: the state dict of the three models.
        prompts_PHWC: uint8, frames to start from.
        legend: what each action does, None if nobody has measured it.
        trained_on: uint64, `FrameStore.groups` of the levels and videos it was trained on, None if unknown.
    """

    config: WorldConfig
    weights: dict[str, Tensor]
    prompts_PHWC: Tensor | None
    legend: Sequence[ActionMeaning] | None
    trained_on: np.ndarray | None


def find_world(name_or_path: str | Path) -> Path:
    """The folder of a world: a built-in one by its name, a world's own folder, or the run that made it.

    Raises:
        JinnError: there is none of that name or at that path.
    """
    path = Path(name_or_path)
    for folder in (path, path / "world", BUILT_IN / path.name if path.name == str(path) else path):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    known = sorted(p.parent.name for p in BUILT_IN.glob("*/config.json"))
    raise JinnError(
        f"there is no world at {str(name_or_path)!r}: name the folder of a world or a run, "
        f"or a built-in world ({', '.join(known) or 'none here'})"
    )


def read_world(folder: Path) -> Contents:
    """Read a world's folder; weights become float32.

    Raises:
        JinnError: files are missing or damaged.
    """
    values = convert_config(read_json(folder / "config.json"))
    config = from_dict(WorldConfig, values, str(folder / "config.json"))
    weights = convert_weights(read_tensors(folder / "model.safetensors"))
    weights = {name: x.float() if x.is_floating_point() else x for name, x in weights.items()}
    prompts_PHWC = read_tensors(folder / "prompts.safetensors").get("frames_PHWC")
    legend, actions = read_legend(folder / "legend.json"), config.latent_actions.quantizer.codes
    if legend and len(legend) != actions:
        raise JinnError(
            f"{folder / 'legend.json'} names {len(legend)} actions, but the world has {actions}: "
            "remove it or restore it"
        )
    trained_on = None
    if (folder / "trained_on.safetensors").exists():
        groups = read_tensors(folder / "trained_on.safetensors")["groups"]
        trained_on = groups.numpy().view(np.uint64)
    return Contents(config, weights, prompts_PHWC, legend, trained_on)


def write_world(folder: Path, contents: Contents, dtype: torch.dtype) -> None:
    """Write a world's folder. Files are replaced one by one, the config last.

    Args:
        folder: is created if it does not exist.
        contents: what to write.
        dtype: of the weights on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in contents.weights.items()}
    write_tensors(folder / "model.safetensors", weights)
    assert contents.prompts_PHWC is not None
    write_tensors(folder / "prompts.safetensors", {"frames_PHWC": contents.prompts_PHWC})
    legend, trained_on = folder / "legend.json", folder / "trained_on.safetensors"
    if contents.legend:
        write_legend(legend, contents.legend)
    else:
        legend.unlink(missing_ok=True)  # it would be that of another world
    if contents.trained_on is not None:
        # safetensors for PyTorch has no uint64: the same bits as int64.
        write_tensors(trained_on, {"groups": torch.from_numpy(contents.trained_on.view(np.int64))})
    else:
        trained_on.unlink(missing_ok=True)
    write_json(folder / "config.json", to_dict(contents.config))
