"""``jinn play``"""

from __future__ import annotations

from pathlib import Path

import tyro

from jinn.cli.console import DEVICE, say
from jinn.world.backends import BackendName
from jinn.world.world import World


def play(
    world: tyro.conf.Positional[str] = "coinrun",
    /,
    prompt: Path | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    token: str | None = None,
    players: int = 64,
    text: str | None = None,
    browser: bool = True,
    backend: BackendName = "auto",
    device: str = DEVICE,
) -> None:
    """Play a world in the browser.

    Args:
        world: Name of a built-in world, or folder of a world or of a run.
        prompt: Picture to start from.
        port: Port to listen on. The default is JINN_PORT, else the usual port, or a free one if that is taken.
        host: Address to listen on. With 0.0.0.0 everybody in the network who knows the token can play.
        token: Access token for other machines. If it is not given and the host is not this machine alone, one
            is generated.
        players: Largest number of players at a time. Others wait in a queue.
        text: Text-to-image model of diffusers, as a folder or a name on its hub. With it a world can also
            start from a text.
        browser: Whether the page is opened in a browser.
        backend: Backend that computes the frames. auto takes the fastest that is installed.
        device: Device to play on, such as cpu or cuda.
    """
    from jinn.player.pictures import read_picture
    from jinn.player.server import serve
    from jinn.player.text import TextToImage

    loaded = World.load(world, device, backend)
    if backend == "auto" and loaded.backend.next_frame is None:
        say(f"jinn export {world} would make it play faster on a CPU")
    frame = read_picture(prompt.read_bytes(), loaded.size_hw) if prompt else None
    text_to_image = TextToImage(text, loaded.size_hw, device) if text else None
    serve(
        loaded,
        host=host,
        port=port,
        prompt=frame,
        open_browser=browser,
        token=token,
        players=players,
        text_to_image=text_to_image,
    )
    if text_to_image is not None:
        text_to_image.close()
