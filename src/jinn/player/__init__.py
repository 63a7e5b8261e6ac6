"""Play a learned world in the browser, frame by frame.

`server` carries the page and the addresses, `sessions` is one player's side of a WebSocket (and the
place where the protocol is written down), `pictures` turns uploads into frames and frames into PNGs.
Only the command line imports this package: it needs the extra ``jinn[play]``.
"""

from jinn.player.pictures import read_picture
from jinn.player.server import create_app, running, serve

__all__ = ["create_app", "read_picture", "running", "serve"]
