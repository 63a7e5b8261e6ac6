"""Records are cached on disk, in a folder whose name is a hash of what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.evaluation.clips import HeldOut
from jinn.evaluation.estimate import Records
from jinn.evaluation.networks import Networks
from jinn.files import read_tensors, write_tensors

# Increased when the code computes other records of the same clips: older files are then ignored.
VERSION = 3


def clips_digest(held_out: HeldOut, networks: Networks, *how: object) -> str:
    """A short hash of the clips, and of everything else that their records depend on."""
    store = held_out.measured.store
    content = hashlib.sha256(b"".join((path / "index.npz").read_bytes() for path in store.paths))
    for clips in (held_out.measured, held_out.reference, held_out.other):
        for column in (clips.episodes, clips.starts) if clips else ():
            content.update(np.ascontiguousarray(column).tobytes())
    kinds = (networks.i3d is not None, networks.alexnet is not None)
    values = (content.hexdigest(), store.size_hw, kinds, *how, VERSION)
    return hashlib.sha256(json.dumps([str(value) for value in values]).encode()).hexdigest()[:24]


def cached(file: Path | None, measure: Callable[[], Records]) -> Records:
    """The records in a file; where there is none, or a damaged one, they are measured and written to it."""
    with suppress(JinnError):
        if file is not None:
            return read_tensors(file)
    found = {name: values.cpu() for name, values in measure().items()}
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(file, found)
    return found
