"""Records are cached on disk batch by batch, in a folder whose name is a hash of what they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from jinn.contracts import JinnError
from jinn.evaluation.clips import HeldOut
from jinn.evaluation.estimate import Records
from jinn.evaluation.networks import Networks
from jinn.files import read_tensors, to_dict, weights_hash, write_tensors
from jinn.world.world import World

# Increased when the code computes other records of the same clips: older files are then ignored.
VERSION = 3


def digest(*values: object) -> str:
    """A short hash of some values."""
    return hashlib.sha256(json.dumps([str(value) for value in values]).encode()).hexdigest()[:24]


def world_digest(world: World) -> str:
    """A hash that differs for worlds that predict other frames."""
    return digest(to_dict(world.config), weights_hash(world))


def clips_digest(held_out: HeldOut, networks: Networks, *how: object) -> str:
    """A hash of the clips, and of everything else that their records depend on."""
    store = held_out.measured.store
    content = hashlib.sha256((store.path / "index.npz").read_bytes())
    for clips in (held_out.measured, held_out.reference, held_out.other):
        for column in (clips.episodes, clips.starts) if clips else ():
            content.update(np.ascontiguousarray(column).tobytes())
    kinds = (networks.i3d is not None, networks.alexnet is not None)
    return digest(content.hexdigest(), store.size_hw, kinds, *how, VERSION)


def in_batches(
    what: str,
    count: int,
    batch: int,
    measure: Callable[[slice], Records],
    folder: Path | None,
    on_batch: Callable[[int, int], None],
) -> Records:
    """Compute records batch by batch; batches that are in the cache are read instead.

    Args:
        what: beginning of the files' names.
        count: number of rows.
        batch: number of rows at a time.
        measure: computes the records of some rows.
        folder: folder of the files, None to cache nothing.
        on_batch: called with the number of rows done and of all rows.
    """
    parts = []
    for first in range(0, count, batch):
        rows = slice(first, min(first + batch, count))
        file = folder / f"{what}-{rows.start}-{rows.stop}.safetensors" if folder else None
        try:
            part = read_tensors(file) if file else None
        except JinnError:  # it is not there yet, or damaged
            part = None
        if part is None:
            part = {name: values.cpu() for name, values in measure(rows).items()}
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_tensors(file, part)
        parts.append(part)
        on_batch(rows.stop, count)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def cache_folder() -> Path:
    """The folder that keeps features of real clips between evaluations: JINN_CACHE, or in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("JINN_CACHE") or Path(home) / "jinn")
