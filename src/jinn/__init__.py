"""jinn learns playable worlds from video. See README.md and ARCHITECTURE.md."""

from jinn.contracts import JinnError
from jinn.world.rollout import World

__version__ = "0.1.0"
__all__ = ["JinnError", "World", "__version__"]
