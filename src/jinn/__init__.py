"""jinn learns playable worlds from video. See README.md and ARCHITECTURE.md."""

import sys
from typing import TYPE_CHECKING

from jinn.errors import JinnError

if TYPE_CHECKING:
    from jinn.world.world import World

__version__ = "0.1.0"
__all__ = ["JinnError", "World", "__version__"]

ENVIRONMENT = "jinn/World-v0"


def __getattr__(name: str) -> object:
    """Import `World` when it is first used: a client of the player needs no torch."""
    if name == "World":
        from jinn.world.world import World

        return World
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def register_environment() -> None:
    """Tell Gymnasium of the environment, without importing what it needs."""
    from gymnasium.envs.registration import register

    register(ENVIRONMENT, "jinn.env:WorldEnv", vector_entry_point="jinn.env:WorldVectorEnv")


# As for gymnasium.make("jinn:jinn/World-v0"); Gymnasium is not imported for nothing.
if "gymnasium.envs.registration" in sys.modules:
    register_environment()
