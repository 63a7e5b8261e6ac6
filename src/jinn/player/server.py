"""The player's web server: a page, a few addresses, and one WebSocket for each player.

docs/protocol.md describes them all.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket
from torch import Tensor

from jinn.checkpoint import weights_hash
from jinn.contracts import JinnError
from jinn.player.door import Door, is_loopback
from jinn.player.film import Films, most_frames
from jinn.player.history import History
from jinn.player.pictures import MAX_BYTES, fit_picture, palette, to_png
from jinn.player.room import Room
from jinn.player.scheduler import Scheduler
from jinn.player.sessions import (
    MAX_CLIP,
    MAX_DEPTH,
    MAX_FPS,
    MAX_STEPS,
    MAX_TEMPERATURE,
    MAX_TEXT,
    MIN_FPS,
    Session,
)
from jinn.player.text import WHY_NOT, Painter
from jinn.world.world import World

USUAL_PORT = 7860
STATIC = Path(__file__).parent / "static"
IDLE_NAMES = ("stay", "none", "idle", "noop", "wait")
# Of WebSocket messages. Larger than any picture that is accepted: a picture a little too large should get
# a sentence for an answer and not a closed socket.
MAX_MESSAGE_BYTES = 4 * MAX_BYTES
MAX_SOCKETS = 65_536
# Players who lost their connection: how many, how long, and how many states of each are kept for them.
MOST_PARKED, PARKED_SECONDS, STATES_PARKED = 32, 120.0, 3
AN_ADDRESS = 16  # sockets of one network address, if others than this machine may play


def serve(
    world: World,
    host: str = "127.0.0.1",
    port: int | None = None,
    prompt: np.ndarray | None = None,
    open_browser: bool = True,
    token: str | None = None,
    players: int = 64,
    painter: Painter | None = None,
) -> None:
    """Serve a world to browsers until Ctrl-C or SIGTERM; then players are told, and frames in work finished.

    Args:
        world: the world to play.
        host: the address to listen at; "0.0.0.0" lets the whole network play.
        port: the port to listen at, an error if it is taken. None: the one in the environment variable
            JINN_PORT or 7860, and if that is taken any free one.
        prompt: a uint8 (H, W, 3) picture to begin from, of any size; it becomes the first prompt.
        open_browser: show the page, where there is likely to be a browser.
        token: what clients must know. Where other machines can reach the server one is made up if none is
            given; it is part of the address that is printed.
        players: how many may play at a time; others wait for a place.
        painter: draws texts.

    Raises:
        JinnError: the address cannot be used.
    """
    alone = is_loopback(host)
    if token is None and not alone:
        token = secrets.token_urlsafe(12)
    app = create_app(world, prompt, Room(players, an_address=None if alone else AN_ADDRESS), token, painter)
    with listen(host, port) as listener:
        address = _address(listener) + (f"/?token={quote(token)}" if token else "")
        print(f"jinn is playing {world.name} at {address} (Ctrl-C stops it)", flush=True)
        if open_browser:
            _show(address)
        # uvicorn shuts down in good order, and then raises again what made it do so.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: None)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(_config(app)).run(sockets=[listener])
    if painter is not None:
        painter.close()


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """Serve an application from a background thread and yield its address: for tests and notebooks."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(_config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield _address(listener)
        finally:
            server.should_exit = True
            thread.join()


def create_app(
    world: World,
    prompt: np.ndarray | None = None,
    room: Room | None = None,
    token: str | None = None,
    painter: Painter | None = None,
) -> Starlette:
    """The web application that `serve` runs.

    Args:
        world: the world to play, shared by all sessions.
        prompt: a uint8 (H, W, 3) picture that becomes the first prompt.
        room: how many may play at a time, and how long.
        token: what clients must know; None: nothing, but they must be of this machine.
        painter: draws texts.
    """
    room = replace(room or Room())  # its places are this application's
    prompts = _prompts(world, prompt)
    pngs = [to_png(frames_BTHWC[0, 0].numpy()) for frames_BTHWC in prompts]
    idle = _idle_action(world.action_names)
    parked: dict[str, History] = {}
    described = describe_world(world, prompts, idle, painter)
    films = Films(world.size_hw, described["fps"])

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def describe(request: Request) -> Response:
        return JSONResponse(described)

    async def show_prompt(request: Request) -> Response:
        i = request.path_params["i"]
        if i >= len(pngs):
            return JSONResponse({"error": f"this world has the prompts 0 to {len(pngs) - 1}"}, 404)
        return Response(pngs[i], media_type="image/png")

    async def play(websocket: WebSocket) -> None:
        await websocket.accept()
        async with room.entered(websocket) as entered:
            if not entered:
                return
            why_not = described["text_why_not"]
            session = Session(websocket, world, app.state.scheduler, prompts, idle, parked, painter, why_not)
            room.playing.add(session)
            try:
                with suppress(asyncio.CancelledError):  # the server stops, and cannot wait any longer
                    await session.run()
            finally:
                room.playing.discard(session)
                if session.history is not None:
                    park(session.name, session.history)

    def park(name: str, history: History) -> None:
        while len(parked) >= MOST_PARKED:
            parked.pop(next(iter(parked)))
        history.thin_out(STATES_PARKED)
        parked[name] = history
        asyncio.get_running_loop().call_later(PARKED_SECONDS, parked.pop, name, None)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.scheduler = Scheduler(world)
        watching = asyncio.create_task(room.watch())
        yield
        watching.cancel()
        await asyncio.to_thread(app.state.scheduler.close)

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/world", describe),
            Route("/api/prompts/{i:int}.png", show_prompt),
            Route("/api/film.{kind}", films.make, methods=["POST"]),
            WebSocketRoute("/ws", play),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Door, token=token)],
        lifespan=lifespan,
    )
    return app


def describe_world(
    world: World, prompts: list[Tensor], idle: int | None, painter: Painter | None
) -> dict[str, Any]:
    """What a client is told of a world and of this server's limits."""
    own = world.config.sampling
    return {
        "name": world.name,
        "id": world_id(world),
        "actions": world.num_actions,
        "legend": [asdict(meaning) for meaning in world.legend] if world.legend else None,
        "idle": idle,
        "height": world.size_hw[0],
        "width": world.size_hw[1],
        "fps": min(max(world.fps, MIN_FPS), MAX_FPS),
        "fps_range": [MIN_FPS, MAX_FPS],
        "sampling": {"steps": own.steps, "temperature": own.temperature},
        "steps_range": [1, MAX_STEPS],
        "temperature_range": [0, MAX_TEMPERATURE],
        "window": world.config.dynamics.transformer.window,
        "prompts": len(prompts),
        "palette": palette(np.concatenate([frames_BTHWC[0].numpy() for frames_BTHWC in prompts])),
        "max_upload_bytes": MAX_BYTES,
        "max_clip_frames": MAX_CLIP,
        "max_what_if_frames": MAX_DEPTH,
        "max_film_frames": most_frames(world.size_hw),
        "max_text": MAX_TEXT,
        "text": painter is not None,
        "text_why_not": "" if painter else WHY_NOT,
    }


def world_id(world: World) -> str:
    """What a shared session names: worlds with the same one give the same frames for the same keys.

    Its weights and settings, and how its frames are computed.
    """
    digest = hashlib.sha256(f"{world.config!r} {weights_hash(world)}".encode()).hexdigest()
    return f"{digest[:16]}-{world.backend.name}"


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket; see `serve` for which port it gets."""
    wanted = _usual_port() if port is None else port
    if not 0 <= wanted <= 65535:
        raise JinnError(f"there is no port {wanted}: choose one from 1 to 65535, or 0 for any free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (socket.gaierror, UnicodeError):
        raise JinnError(f"there is no host {host!r}: listen at 127.0.0.1, or 0.0.0.0 for all") from None
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return listen(host, 0)
        why = error.strerror or error
        raise JinnError(f"cannot listen at {host} port {wanted} ({why}): choose another --port") from None


def _allow_many_sockets() -> None:
    """Unix lets a process open as many files as it asks for, up to a limit; the usual is a thousand."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MAX_SOCKETS), most))


def _usual_port() -> int:
    text = os.environ.get("JINN_PORT") or str(USUAL_PORT)
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise JinnError(f"JINN_PORT is {text!r}: set it to a number from 0 to 65535 or unset it")
    return int(text)


def _config(app: Starlette) -> uvicorn.Config:
    _allow_many_sockets()
    return uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_max_queue=8,
        ws_per_message_deflate=False,  # a frame is small; compressing it would only cost time
        backlog=512,
        timeout_graceful_shutdown=2,
    )


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _show(address: str) -> None:
    """Open the page in a browser if there may be one; never wait, never fail."""
    desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not desktop or os.environ.get("SSH_CONNECTION"):
        return

    def show() -> None:
        with suppress(Exception):
            webbrowser.open(address)

    threading.Thread(target=show, daemon=True).start()


def _prompts(world: World, prompt: np.ndarray | None) -> list[Tensor]:
    """Pictures to begin from as ``frames_BTHWC`` with B = T = 1, the caller's own first."""
    frames = [frame_HWC.cpu()[None, None] for frame_HWC in world.prompts]
    if prompt is None:
        return frames
    if prompt.dtype != np.uint8 or prompt.ndim != 3 or prompt.shape[-1] != 3:
        raise JinnError(f"a prompt is a uint8 picture (H, W, 3), got {prompt.dtype} {prompt.shape}")
    return [torch.from_numpy(fit_picture(Image.fromarray(prompt), world.size_hw))[None, None], *frames]


def _idle_action(names: list[str] | None) -> int | None:
    """The action that stands for doing nothing, if one is named so."""
    return next((k for k, name in enumerate(names or []) if name.strip().lower() in IDLE_NAMES), None)
