"""Play a learned world in the browser, frame by frame.

`server` listens, `api` answers the page's requests, `gallery` loads worlds when they are opened, `auth` checks who
may connect and `admission` how many may play. `session` is one player's WebSocket and `control` their roll-out,
`history` what they have played; `scheduler` computes everybody's frames. `protocol` defines the messages, and
`client` plays from Python. `pictures` decodes uploads, `film` encodes films, `text` turns text prompts into
pictures. `publish` writes the same page as a folder that needs no server: `runtime` finds what computes its frames,
`preview` draws its pictures for links.

Only the command line imports this package: it needs the extra ``jinn[play]``. A client needs no torch, so the
package itself offers a client's part only.
"""

from jinn.player.client import Client
from jinn.player.protocol import Limits

__all__ = ["Client", "Limits"]
