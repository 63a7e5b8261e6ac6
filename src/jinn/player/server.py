"""The player's web server: it listens, prints its address and stops in good order."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote

import numpy as np
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from jinn.errors import JinnError
from jinn.player.api import create_app
from jinn.player.beside import RealGame
from jinn.player.gallery import GalleryWorld
from jinn.player.protocol import DEFAULT_LIMITS, Limits
from jinn.player.shared import TextToImage
from jinn.web.auth import is_loopback
from jinn.world.world import World

USUAL_PORT = 7860
# Larger than any picture that is accepted: one a little too large is answered with a sentence, not a closed socket.
MAX_MESSAGE_BYTES = 4 * DEFAULT_LIMITS.max_upload_bytes
MAX_SOCKETS = 65_536
HEADER_SECONDS = 20.0  # in which a client must send the whole head of its request
SOCKETS_PER_ADDRESS = 16  # where other machines may play


def serve(
    worlds: World | Sequence[GalleryWorld],
    host: str = "127.0.0.1",
    port: int | None = None,
    prompt: np.ndarray | None = None,
    open_browser: bool = True,
    token: str | None = None,
    players: int = 64,
    text_to_image: TextToImage | None = None,
    allow_hosts: Sequence[str] = (),
    beside: RealGame | None = None,
) -> None:
    """Serve worlds to browsers until Ctrl-C or SIGTERM; then sockets are closed and pending frames finished.

    Args:
        worlds: the world to play, at ``/``; or several (`jinn.player.gallery.gallery`), each at ``/NAME/``. The first
            of them is loaded at once, the others when they are opened.
        host: the address to listen at; "0.0.0.0" lets the whole network play.
        port: the port to listen at, an error if it is taken. None: the one in the environment variable JINN_PORT or
            7860, and if that is taken any free one.
        prompt: a uint8 (H, W, 3) picture to start from, of any size; it becomes the first prompt of each world.
        open_browser: show the page, where there is likely to be a browser.
        token: the access token of clients. If None and other machines can reach the server, one is generated; it is
            part of the address that is printed.
        players: number of players of a world at a time; others wait in its queue.
        text_to_image: makes pictures of texts, such as `jinn.player.text.TextToImage`.
        allow_hosts: names by which a proxy is addressed (docs/proxies.md), such as "play.example.com"; with a port,
            such as "play.example.com:8443", only at that port.
        beside: the real game that players of the only world can see beside it, see `jinn.player.beside`.

    Raises:
        JinnError: the address cannot be used, the token is empty, or a name is none.
    """
    alone = is_loopback(host)
    if token is None and not alone:
        token = secrets.token_urlsafe(12)
    only_here = alone and not allow_hosts
    limits = Limits(players=players, sockets_per_address=None if only_here else SOCKETS_PER_ADDRESS)
    app = create_app(worlds, prompt, limits, token, text_to_image, allow_hosts, beside)
    names = worlds.name if isinstance(worlds, World) else ", ".join(world.name for world in worlds)
    serve_app(app, f"playing {names}", host, port, open_browser, token)


def serve_app(
    app: Starlette, what: str, host: str, port: int | None, open_browser: bool, token: str | None = None
) -> None:
    """Serve an application until Ctrl-C or SIGTERM, and say what jinn does there; see `serve`."""
    with listen(host, port) as listener:
        address = _address(listener) + (f"/?token={quote(token)}" if token else "")
        print(f"jinn is {what} at {address} (Ctrl-C stops it)", flush=True)
        if open_browser:
            _show(address)
        # uvicorn shuts down in good order, and then raises again what made it do so.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: None)
        with suppress(KeyboardInterrupt):
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


class PatientProtocol(H11Protocol):
    """HTTP that hangs up if no whole request comes: uvicorn waits for ever for the end of one that is half sent."""

    patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait_for_request()

    def on_response_complete(self) -> None:
        """Wait for another request."""
        super().on_response_complete()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self.patience is not None:
            self.patience.cancel()

    def _wait_for_request(self) -> None:
        if self.patience is not None:
            self.patience.cancel()
        self.patience = self.loop.call_later(HEADER_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if not answering and self.transport.get_protocol() is self:  # not if it became a WebSocket
            self.transport.close()


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


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the server's owner should read it; uvicorn prints a traceback for each text that is not UTF-8."""
    return not str(record.msg).startswith("Invalid UTF-8")


def _config(app: Starlette) -> uvicorn.Config:
    _allow_many_sockets()
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        forwarded_allow_ips=["127.0.0.1", "::1"],  # a proxy on this machine tells whom it speaks for
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
    """Open the page in a browser if there may be one; never wait."""
    desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if desktop and not os.environ.get("SSH_CONNECTION"):
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
