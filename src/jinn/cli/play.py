"""``jinn play``"""

from __future__ import annotations

from pathlib import Path

import tyro

from jinn.cli.console import DEVICE, console, say
from jinn.errors import JinnError
from jinn.world.backends import BackendName
from jinn.world.world import World

# Parameters of the largest world whose graph is made without being asked for.
LARGEST = 50_000_000


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
        backend: Backend that computes the frames. auto takes the fastest that is installed; on a CPU that is a
            graph, which is made the first time that a world is played.
        device: Device to play on, such as cpu or cuda.
    """
    from jinn.player.pictures import read_picture
    from jinn.player.server import serve
    from jinn.player.text import TextToImage

    loaded = World.load(world, device, backend)
    if backend == "auto" and loaded.backend.next_frame is None:
        loaded = with_graph(loaded)
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


def with_graph(world: World) -> World:
    """The world on the graph of its frame, which is made now; as it is if the packages for that are missing.

    Making the graph takes seconds for a world that a CPU can play, and minutes for one that is too large for it.
    """
    from jinn.world.export import export_onnx

    assert world.folder is not None
    if sum(parameter.numel() for parameter in world.parameters()) > LARGEST:
        return world
    try:
        with console.status("making the graph that plays this world faster, once"):
            export_onnx(world, world.folder, "int8")
    except JinnError as error:
        say(f"It would play faster, but {error}")
        return world
    return world.with_backend("auto")
