"""Play a learned world in the browser, frame by frame.

`server` listens, `api` answers the page's requests, `auth` checks who may connect and `admission` how many
may play. `session` is one player's WebSocket and `control` their roll-out, `history` what they have played;
`scheduler` computes everybody's frames. `protocol` defines the messages, and `client` plays from Python.
`pictures` decodes uploads, `film` encodes films, `text` turns text prompts into pictures.

Only the command line imports this package: it needs the extra ``jinn[play]``. Names are imported when they
are first used, so that a client needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinn.player.api import create_app
    from jinn.player.client import Client
    from jinn.player.pictures import read_picture
    from jinn.player.protocol import Limits
    from jinn.player.server import running, serve

__all__ = ["Client", "Limits", "create_app", "read_picture", "running", "serve"]

_MODULES = {
    "Client": "client",
    "Limits": "protocol",
    "create_app": "api",
    "read_picture": "pictures",
    "running": "server",
    "serve": "server",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
