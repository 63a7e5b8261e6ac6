"""The player's web application: the page, a few addresses, and a WebSocket for each player (docs/protocol.md).

One world is at ``/``. Of several each is an application of its own at ``/NAME/``.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket
from torch import Tensor

from jinn.errors import JinnError
from jinn.files import weights_hash
from jinn.player.beside import RealGame, play_beside
from jinn.player.decoders import Decoders
from jinn.player.gallery import GalleryWorld, LazyShared
from jinn.player.pictures import fit_picture, palette, to_png
from jinn.player.protocol import Limits
from jinn.player.session import INTERNAL_ERROR, NO_TEXT_MODEL, SAMPLING, Session
from jinn.player.shared import Shared, TextToImage
from jinn.web.answers import read_body, refusal, refuse
from jinn.web.auth import Auth, check_access
from jinn.web.film import MEDIA_TYPE, FilmFormat, encode_film
from jinn.world.world import World

T = TypeVar("T")

STATIC = Path(__file__).parent / "static"
MAX_ABOUT = 400  # characters of a world's description
REPORTED_LIMITS = (
    "actions prompts fps_range steps_range temperature_range doubt_range max_clip_frames max_what_if_frames max_text "
    "max_upload_bytes"
)


def create_app(
    worlds: World | Sequence[GalleryWorld],
    prompt: np.ndarray | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    text_to_image: TextToImage | None = None,
    allow_hosts: Sequence[str] = (),
    beside: RealGame | None = None,
) -> Starlette:
    """The web application that `jinn.player.server.serve` runs, with its arguments.

    The numbers of actions and prompts in the limits are each world's own. The first world is loaded when the server
    starts, the others when they are opened. Without a token only this machine may connect, by its own names and those
    of `allow_hosts`.
    """
    check_access(token, allow_hosts)
    if isinstance(worlds, World):
        loaded = worlds
        worlds = [GalleryWorld(loaded.name, loaded.prompts[0].cpu().numpy(), lambda: loaded)]
    if prompt is not None and (prompt.dtype != np.uint8 or prompt.ndim != 3 or prompt.shape[-1] != 3):
        raise JinnError(f"a prompt must be a uint8 picture (H, W, 3), got {prompt.dtype} {prompt.shape}")

    def share(world: World) -> Shared:
        prompts = _prompts(world, prompt)
        own = replace(limits or Limits(), actions=world.num_actions, prompts=len(prompts))
        shared = Shared(world, own, prompts, text_to_image, decoders)
        shared.real_game = beside
        shared.description = describe_world(shared)
        return shared

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await every[0].get()
        yield
        await asyncio.gather(*(lazy.close() for lazy in every), decoders.close())

    loading, decoders = asyncio.Lock(), Decoders(limits or Limits())
    every = [LazyShared(world, share, loading) for world in worlds]
    names = [world.name for world in worlds]
    several: list[BaseRoute] = []
    if len(every) > 1:
        mounts = [Mount(f"/{lazy.world.name}", _world_app(lazy, names)) for lazy in every]
        several = [Route("/", get_first), *mounts]
    auth = Middleware(Auth, token=token, allow_hosts=allow_hosts)
    return _world_app(every[0], names, several, middleware=[auth], lifespan=lifespan)


def _world_app(
    lazy: LazyShared, names: Sequence[str], before: Sequence[BaseRoute] = (), **options: Any
) -> Starlette:
    """The addresses of one world, after some others. ``names`` are those of all worlds of the server."""
    routes = [
        *before,
        Route("/", get_page),
        Route("/api/worlds", get_worlds),
        Route("/api/world", get_world),
        Route("/api/card.txt", get_card),
        Route("/api/thumbnail.png", get_thumbnail),
        Route("/api/prompts/{index:int}.png", get_prompt),
        Route("/api/film.{format}", post_film, methods=["POST"]),
        WebSocketRoute("/ws", play),
        WebSocketRoute("/game", play_beside),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, exception_handlers={404: unknown, JinnError: failed}, **options)
    app.state.lazy, app.state.names = lazy, names
    return app


def describe_world(shared: Shared) -> dict[str, Any]:
    """The properties of a world and the limits of its server, as ``/api/world`` reports them."""
    world, limits = shared.world, shared.limits
    own, (height, width) = world.config.sampling, world.size_hw
    # Worlds with the same digest and backend give the same frames for the same input.
    digest = hashlib.sha256(f"{world.config!r} {weights_hash(world)}".encode()).hexdigest()
    return {
        **{name: getattr(limits, name) for name in REPORTED_LIMITS.split()},
        "name": world.name,
        "about": _about(card(world)),
        "id": f"{digest[:16]}-{world.backend.name}",
        "legend": [asdict(meaning) for meaning in world.legend] if world.legend else None,
        "buttons": [button._asdict() for button in shared.buttons],
        "idle": shared.idle,
        "height": height,
        "width": width,
        "fit": world.config.fit,
        "fps": shared.fps,
        "sampling": {name: getattr(own, name) for name in SAMPLING if name != "doubt" or world.can_doubt},
        "window": world.config.dynamics.transformer.window,
        "palette": palette(np.concatenate([frames_BTHWC[0].numpy() for frames_BTHWC in shared.prompts])),
        "max_film_frames": limits.max_film_bytes // (3 * height * width),
        "real_game": shared.real_game is not None,
        "text": shared.text_to_image is not None,
        "text_why_not": "" if shared.text_to_image else NO_TEXT_MODEL,
    }


async def get_first(request: Request) -> Response:
    """The way to the first world's page, which keeps the token."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{quote(request.app.state.names[0])}/{query}")


async def get_page(request: Request) -> Response:
    """The page."""
    return FileResponse(STATIC / "index.html")


async def get_worlds(request: Request) -> Response:
    """The names of the server's worlds."""
    return JSONResponse({"worlds": request.app.state.names})


async def get_thumbnail(request: Request) -> Response:
    """How the world looks, as a PNG; it need not be loaded for that."""
    return Response(to_png(request.app.state.lazy.world.thumbnail_HWC), media_type="image/png")


async def get_world(request: Request) -> Response:
    """The world's properties and the server's limits."""
    return JSONResponse((await request.app.state.lazy.get()).description)


async def get_prompt(request: Request) -> Response:
    """A prompt of the world as a PNG."""
    prompts, index = (await request.app.state.lazy.get()).prompts, request.path_params["index"]
    if index >= len(prompts):
        return refusal(404, f"this world has the prompts 0 to {len(prompts) - 1}")
    return Response(to_png(prompts[index][0, 0].numpy()), media_type="image/png")


async def post_film(request: Request) -> Response:
    """A film of the frames in the body: RGB, row by row. One at a time for each network address."""
    shared: Shared = await request.app.state.lazy.get()
    limits, (height, width) = shared.limits, shared.world.size_hw
    format, (low, high) = request.path_params["format"], limits.fps_range
    try:
        fps = float(request.query_params.get("fps", shared.fps))
    except ValueError:
        fps = 0.0
    if format not in get_args(FilmFormat) or not low <= fps <= high:
        return refusal(400, f"a film must be mp4 or gif, of {low:g} to {high:g} frames a second")
    address = request.client.host if request.client else ""
    if address in shared.filming:
        return refusal(429, "another film of yours is being made: wait for it")
    shared.filming.add(address)
    try:
        async with asyncio.timeout(limits.film_upload_seconds):
            pixels = await read_body(request, limits.max_film_bytes)
        if not pixels or len(pixels) % (3 * height * width):
            most = shared.description["max_film_frames"]
            return refusal(400, f"a film must have 1 to {most} RGB frames of {width} x {height} pixels")
        frames_THWC = np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 3)
        data = await _while_connected(request, _encode(shared, frames_THWC, fps, format))
    except ClientDisconnect:
        return refusal(400, "the client has left")
    except TimeoutError:
        return refusal(408, "the frames arrived too slowly: keep a shorter film")
    except JinnError as error:
        return refusal(501, str(error))
    finally:
        shared.filming.discard(address)
    return Response(data, media_type=MEDIA_TYPE[format])


async def _encode(shared: Shared, frames_THWC: np.ndarray, fps: float, format: FilmFormat) -> bytes:
    """A film, made in its turn; a thread cannot be cancelled, so it looks whether this was."""
    ended = threading.Event()
    try:
        async with shared.film_slots:
            return await asyncio.to_thread(encode_film, frames_THWC, fps, format, ended.is_set)
    finally:
        ended.set()


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work for a client; if they leave before, it is cancelled, and `ClientDisconnect` raised."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(leave())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def play(websocket: WebSocket) -> None:
    """One player's session."""
    await websocket.accept()
    with suppress(asyncio.CancelledError):  # the server stops, and cannot wait any longer
        try:
            shared = await websocket.app.state.lazy.get()
        except JinnError as error:
            return await refuse(websocket, str(error), INTERNAL_ERROR)
        await Session(websocket, shared).run()


async def unknown(request: Request, error: Exception) -> Response:
    """The answer at an address that does not exist."""
    names: Sequence[str] = request.app.state.names
    paths = ", ".join(f"/{name}/" for name in names) if len(names) > 1 else "/"
    return refusal(404, f"there is nothing at this address: play at {paths}")


async def failed(request: Request, error: Exception) -> Response:
    """The answer where a world cannot be loaded."""
    return refusal(500, str(error))


async def get_card(request: Request) -> Response:
    """What is known of the world, as its folder's README.md says it."""
    shared = await request.app.state.lazy.get()
    return Response(card(shared.world), media_type="text/plain; charset=utf-8")


def card(world: World) -> str:
    """The README.md of a world's folder; empty if there is none."""
    path = world.folder / "README.md" if world.folder else None
    return path.read_text(encoding="utf-8", errors="replace") if path is not None and path.is_file() else ""


def _about(card: str) -> str:
    """The first paragraph of a world's card."""
    paragraphs = card.split("\n\n")
    first = next((text for text in paragraphs if text.strip() and not text.startswith(("#", "---"))), "")
    return " ".join(first.split())[:MAX_ABOUT]


def _prompts(world: World, prompt: np.ndarray | None) -> list[Tensor]:
    """Pictures to start from as ``frames_BTHWC`` with B = T = 1, the caller's own first."""
    frames = [frame_HWC.cpu()[None, None] for frame_HWC in world.prompts]
    if prompt is None:
        return frames
    own_HWC = fit_picture(Image.fromarray(prompt), world.size_hw, world.config.fit)
    return [torch.from_numpy(own_HWC)[None, None], *frames]
