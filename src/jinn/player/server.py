"""The player's web server: a page, a few addresses, and one WebSocket for each player."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from torch import Tensor

from jinn.contracts import JinnError
from jinn.player.pictures import MAX_BYTES, fit_picture, to_png
from jinn.player.sessions import MAX_FPS, MIN_FPS, run_session, tell
from jinn.world.rollout import World

USUAL_PORT = 7860
MAX_SESSIONS = 64
STATIC = Path(__file__).parent / "static"
IDLE_NAMES = ("stay", "none", "idle", "noop", "wait")
# Of WebSocket messages. Larger than any picture that is accepted: a picture a little too large should get
# a sentence for an answer and not a closed socket.
MAX_MESSAGE_BYTES = 4 * MAX_BYTES
HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'self'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-cache",  # always ask whether it changed: pages of two versions must not mix
}


def serve(
    world: World,
    host: str = "127.0.0.1",
    port: int | None = None,
    prompt: np.ndarray | None = None,
    open_browser: bool = True,
) -> None:
    """Serve a world to browsers until Ctrl-C.

    Args:
        world: the world to play.
        host: the address to listen at; "0.0.0.0" lets the whole network play.
        port: the port to listen at, an error if it is taken. None: the one in the environment variable
            JINN_PORT or 7860, and if that is taken any free one.
        prompt: a uint8 (H, W, 3) picture to begin from, of any size; it becomes the first prompt.
        open_browser: show the page, where there is likely to be a browser.

    Raises:
        JinnError: the address cannot be used.
    """
    app = create_app(world, prompt)
    with listen(host, port) as listener:
        address = _address(listener)
        print(f"jinn is playing {world.name} at {address} (Ctrl-C stops it)", flush=True)
        if open_browser:
            _show(address)
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after having shut down
            uvicorn.Server(_config(app)).run(sockets=[listener])


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


def create_app(world: World, prompt: np.ndarray | None = None, max_sessions: int = MAX_SESSIONS) -> Starlette:
    """The web application that `serve` runs.

    Args:
        world: the world to play, shared by all sessions.
        prompt: a uint8 (H, W, 3) picture that becomes the first prompt.
        max_sessions: browsers that may play at once.
    """
    prompts = _prompts(world, prompt)
    pngs = [to_png(frames_BTHWC[0, 0].numpy()) for frames_BTHWC in prompts]
    idle = _idle_action(world.action_names)
    # One thread, first come, first served. A session asks for its next frame only after it got the one
    # before, so everybody gets every n-th turn.
    model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
    sessions = 0

    def on_model_thread(function: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(model_thread, function)

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def describe(request: Request) -> Response:
        return JSONResponse(
            {
                "name": world.name,
                "actions": world.num_actions,
                "legend": [asdict(meaning) for meaning in world.legend] if world.legend else None,
                "idle": idle,
                "height": world.size_hw[0],
                "width": world.size_hw[1],
                "fps": min(max(world.fps, MIN_FPS), MAX_FPS),
                "fps_range": [MIN_FPS, MAX_FPS],
                "prompts": len(prompts),
                "max_upload_bytes": MAX_BYTES,
            }
        )

    async def show_prompt(request: Request) -> Response:
        i = request.path_params["i"]
        if i >= len(pngs):
            return JSONResponse({"error": f"this world has the prompts 0 to {len(pngs) - 1}"}, 404)
        return Response(pngs[i], media_type="image/png")

    async def play(websocket: WebSocket) -> None:
        nonlocal sessions
        if not _same_origin(websocket):
            await websocket.close(1008)  # before accept(): the browser sees 403
            return
        await websocket.accept()
        if sessions >= max_sessions:
            await tell(websocket, f"{max_sessions} people are playing and there is no room: try again later")
            await websocket.close(1013)
            return
        sessions += 1
        try:
            await run_session(websocket, world, prompts, idle, on_model_thread)
        finally:
            sessions -= 1

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        model_thread.shutdown(cancel_futures=True)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/world", describe),
            Route("/api/prompts/{i:int}.png", show_prompt),
            WebSocketRoute("/ws", play),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(_with_headers)],
        lifespan=lifespan,
    )


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


def _usual_port() -> int:
    text = os.environ.get("JINN_PORT") or str(USUAL_PORT)
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise JinnError(f"JINN_PORT is {text!r}: set it to a number from 0 to 65535 or unset it")
    return int(text)


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a frame is small; compressing it would only cost time
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


def _same_origin(websocket: WebSocket) -> bool:
    """Whether a page of this server asks. Browsers always tell the origin; programs need not."""
    origin = websocket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == websocket.headers.get("host", "").lower()


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Middleware: every answer tells the browser to load nothing from anywhere else."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped
