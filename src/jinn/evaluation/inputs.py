"""The worlds and the store that the paths of ``jinn eval`` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinn.contracts import JinnError
from jinn.data.joined import JoinedStore
from jinn.data.store import FrameStore
from jinn.files import read_json
from jinn.world.folder import find_world


def worlds_and_store(paths: Sequence[str]) -> tuple[list[str], FrameStore]:
    """The names of the worlds, and the store to measure them on.

    Args:
        paths: any number of worlds, then a store. Without a world it is "platforms"; without a store, the one
            that the run of the first world names.

    Raises:
        JinnError: there is no store, or no such world.
    """
    names = list(paths)
    if names and (Path(names[-1]) / "store.json").exists():
        *names, store = names
        return names or ["platforms"], FrameStore.open(store)
    if names:
        config = find_world(names[0]).parent / "config.json"
        run = read_json(config) if config.exists() else None
        if isinstance(run, dict) and isinstance(run.get("store"), str):
            return names, FrameStore.open(run["store"])
        if isinstance(run, dict) and isinstance(run.get("store"), list):
            return names, JoinedStore([FrameStore.open(str(path)) for path in run["store"]])
    raise JinnError(
        "jinn eval needs a frame store to measure on, as its last argument: jinn eval WORLD STORE; "
        "make one with jinn data"
    )
