"""``jinn play``"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import tyro

from jinn.cli.console import DEVICE, console, say
from jinn.cli.data import with_options
from jinn.errors import JinnError
from jinn.training.folder import is_run, what_is_learned
from jinn.world.backends import BackendName
from jinn.world.folder import built_in_worlds
from jinn.world.world import World

# Parameters of the largest world whose graph is made without being asked for.
LARGEST = 50_000_000


def play(
    worlds: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    prompt: Path | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    token: str | None = None,
    allow_host: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    players: int = 64,
    text: str | None = None,
    beside: str | None = None,
    env: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    browser: bool = True,
    backend: BackendName = "auto",
    device: str = DEVICE,
) -> None:
    """Play worlds in the browser.

    Args:
        worlds: Names of built-in worlds, or folders of worlds or of runs. The default is all built-in worlds. The
            page opens with the first, and the others are loaded when a player chooses them.
        prompt: Picture to start from. It is cropped and resized for each world.
        port: Port to listen on. The default is JINN_PORT, else the usual port, or a free one if that is taken.
        host: Address to listen on. With 0.0.0.0 everybody in the network who knows the token can play.
        token: Access token for other machines. If it is not given and the host is not this machine alone, one
            is generated.
        allow_host: Name by which browsers address a proxy before this server, such as play.example.com. May be
            repeated.
        players: Largest number of players of a world at a time. Others wait in its queue.
        text: Text-to-image model of diffusers, as a folder or a name on its hub. With it every world can also
            start from a text.
        beside: The environment that the only world was learned from, such as envpool:CoinrunHard-v0. The page can then
            start from the real game, which is played by the same keys beside the dream.
        env: Option of that environment, as KEY=VALUE, such as use_backgrounds=false; may be given several times.
        browser: Whether the page is opened in a browser.
        backend: Backend that computes the frames. auto takes the fastest that is installed; on a CPU that is a
            graph, which is made the first time that a world is played.
        device: Device to play on, such as cpu or cuda.
    """
    from jinn.player.beside import real_game
    from jinn.player.gallery import gallery
    from jinn.player.pictures import read_picture
    from jinn.player.server import serve
    from jinn.player.text import TextToImage
    from jinn.web.auth import check_access

    # These now: loading may take minutes.
    check_access(token, allow_host)
    tell_progress(worlds)
    text_to_image = TextToImage(text, device) if text else None
    first, *others = gallery(worlds or built_in_worlds(), partial(load, device=device, backend=backend))
    check_beside(beside, env, len(others) + 1)
    loaded = first.load()  # now, so that a mistake is told here and not on the page
    picture = read_picture(prompt.read_bytes(), None) if prompt else None
    serve(
        [replace(first, load=lambda: loaded), *others], host, port, picture, browser, token, players, text_to_image,
        allow_host, real_game(with_options(beside, env), loaded) if beside else None,
    )  # fmt: skip
    if text_to_image is not None:
        text_to_image.close()


def check_beside(beside: str | None, env: Sequence[str], worlds: int) -> None:
    """Raise `JinnError` if a real game, or an option of it, does not go with the other arguments."""
    if env and not beside:
        raise JinnError("--env is an option of the real game: name that with --beside")
    if beside and worlds > 1:
        raise JinnError("a real game belongs to one world: name that world")


def tell_progress(worlds: Sequence[str]) -> None:
    """Say how much the worlds of runs in progress have learned; `JinnError` if there is none to play yet."""
    for run in filter(is_run, (Path(world).expanduser() for world in worlds)):
        learned = what_is_learned(run)
        if learned and (run / "world" / "config.json").exists():
            say(f"{run} is not finished: this is its world after {learned}. jinn play again for a newer one.")
        elif learned:
            raise JinnError(
                f"{run} has no world to play yet: it has learned {learned}, and the first world comes with the first "
                "checkpoint of the dynamics"
            )


def load(folder: Path, device: str, backend: BackendName) -> World:
    """The world in a folder, on the graph of its frame if that is the fastest."""
    world = World.load(folder, device, backend)
    return with_graph(world) if backend == "auto" and world.backend.next_frame is None else world


def with_graph(world: World) -> World:
    """The world on the graph of its frame, which is made now; as it is if the packages for that are missing.

    Making the graph takes seconds for a world that a CPU can play, and minutes for one that is too large for it. It is
    made in a process of its own, because others may be playing: tracing changes torch for all threads, and holds them
    up. If the server stops meanwhile, that process still finishes the graph.
    """
    assert world.folder is not None
    if sum(parameter.numel() for parameter in world.parameters()) > LARGEST:
        return world
    command = [sys.executable, "-m", "jinn", "export", str(world.folder), "--precision", "int8"]
    with console.status(f"making the graph that plays {world.name} faster, once"):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        why = made.stderr.strip().rpartition("\n")[-1].removeprefix("jinn: ")
        say(f"{world.name} would play faster, but {why}")
        return world
    return world.with_backend("auto")
