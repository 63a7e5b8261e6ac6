"""``jinn export``"""

from __future__ import annotations

from typing import get_args

import tyro

from jinn.cli.console import console, say
from jinn.world.graph import GraphPrecision
from jinn.world.world import World


def export(
    world: tyro.conf.Positional[str], /, precision: GraphPrecision | None = None, start: bool = False
) -> None:
    """Write a world as ONNX graphs, which play faster on a CPU.

    Args:
        world: Name of a built-in world, or folder of a world or of a run. The graphs are written into it; those
            of a built-in world into the user's cache.
        precision: Precision of the graph. The default writes one in float32 and one in int8.
        start: Whether the two graphs that make the first state from a picture are written as well. With them a
            program plays without PyTorch (docs/graphs.md).
    """
    from jinn.world.export import export_onnx, export_start

    loaded = World.load(world)
    assert loaded.folder is not None
    with console.status("exporting"):
        paths = export_onnx(loaded, loaded.folder, *([precision] if precision else get_args(GraphPrecision)))
        paths += export_start(loaded, loaded.folder) if start else []
    for path in paths:
        say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
