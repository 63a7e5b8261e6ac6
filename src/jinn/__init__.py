"""jinn learns playable worlds from video. See README.md and ARCHITECTURE.md."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
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


class _AfterGymnasium(MetaPathFinder):
    """Registers the environment as soon as Gymnasium is imported, which is slow, so that jinn need not import it."""

    REGISTRY = "gymnasium.envs.registration"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where the registry lies, with a loader that goes on to `register_environment`."""
        if fullname != self.REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def load_and_register(module: ModuleType) -> None:
                load(module)
                register_environment()

            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec


# gymnasium.make("jinn:jinn/World-v0") works, whichever was imported first.
if _AfterGymnasium.REGISTRY in sys.modules:
    register_environment()
else:
    sys.meta_path.insert(0, _AfterGymnasium())
