"""What was measured is kept on disk, batch by batch, under a name that tells the circumstances."""

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
from jinn.evaluation.measure import Networks, Records
from jinn.files import read_tensors, to_dict, weights_hash, write_tensors
from jinn.world.world import World

# Counts up when a change of the code changes what clips are turned into: what was kept is then made anew.
VERSION = 1


def digest(*values: object) -> str:
    """A short name for what was measured under these circumstances."""
    return hashlib.sha256(json.dumps([str(value) for value in values]).encode()).hexdigest()[:24]


def world_digest(world: World) -> str:
    """Tells worlds apart that draw other frames."""
    return digest(to_dict(world.config), weights_hash(world))


def clips_digest(held_out: HeldOut, networks: Networks, *how: object) -> str:
    """Tells apart on which clips, and how, something was measured."""
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
    place: Path | None,
    on_batch: Callable[[int, int], None],
) -> Records:
    """Measure some rows at a time; batches that were measured before are read instead.

    Args:
        what: name of the files.
        count: how many rows there are.
        batch: how many at a time.
        measure: the records of some rows.
        place: folder of the files, None to keep nothing.
        on_batch: told (rows done, of all).
    """
    parts = []
    for first in range(0, count, batch):
        rows = slice(first, min(first + batch, count))
        file = place / f"{what}-{rows.start}-{rows.stop}.safetensors" if place else None
        parts.append(_kept(file) or {name: values.cpu() for name, values in measure(rows).items()})
        if file is not None and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(file, parts[-1])
        on_batch(rows.stop, count)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _kept(file: Path | None) -> Records | None:
    if file is None or not file.exists():
        return None
    try:
        return read_tensors(file)
    except JinnError:  # a damaged file is as good as none
        file.unlink()
        return None


def cache_folder() -> Path:
    """Where the features of real clips are kept between evaluations: JINN_CACHE, or the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("JINN_CACHE") or Path(home) / "jinn")
