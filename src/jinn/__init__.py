"""jinn learns playable worlds from video. See README.md and ARCHITECTURE.md."""

from typing import TYPE_CHECKING

from jinn.errors import JinnError

if TYPE_CHECKING:
    from jinn.world.world import World

__version__ = "0.1.0"
__all__ = ["JinnError", "World", "__version__"]


def __getattr__(name: str) -> object:
    """Import `World` when it is first used: a client of the player needs no torch."""
    if name == "World":
        from jinn.world.world import World

        return World
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
