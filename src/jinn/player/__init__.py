"""Play a learned world in the browser, frame by frame.

`server` carries the page and the addresses, `door` says who may come in and `room` how many; `sessions` is
one player's side of a WebSocket, `history` what he has done, `scheduler` computes everybody's frames.
`pictures` turns uploads into frames, `text` texts into pictures, `film` frames into something to keep.
`client` plays from Python; docs/protocol.md is for whoever writes another client.
Only the command line imports this package: it needs the extra ``jinn[play]``.
"""

from jinn.player.client import Client
from jinn.player.pictures import read_picture
from jinn.player.room import Room
from jinn.player.server import create_app, running, serve

__all__ = ["Client", "Room", "create_app", "read_picture", "running", "serve"]
