"""Who may connect: host names, origins, and the token that other machines need."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import quote, unquote

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from jinn.errors import JinnError
from jinn.web.answers import refuse

log = logging.getLogger(__name__)

# A name or an address, and perhaps a port; nothing else of a client's is repeated in a sentence or the terminal.
HOST = re.compile(r"([\w.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:\d{1,5})?", re.ASCII)
HOST_PORT = re.compile(r":\d{1,5}$", re.ASCII)
MAX_TOLD = 20  # sentences in the terminal
COOKIE = "jinn_token"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
HEADERS = {
    b"permissions-policy": b"camera=(self), gamepad=(self), microphone=(), geolocation=()",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-cache",  # always ask whether it changed: pages of two versions must not mix
}


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_access(token: str | None, allow_hosts: Sequence[str]) -> None:
    """Raise `JinnError` if a token or the names of `Auth` would let in others than its user meant."""
    if token is not None and not token.strip():
        raise JinnError("the token is empty: give --token some characters, or leave it out to have one made")
    for name in allow_hosts:
        if not HOST.fullmatch(name):
            raise JinnError(f"--allow-host must be a name such as play.example.com, got {name!r}")


class Auth:
    """Middleware that refuses clients without access, and forbids pages to load anything from elsewhere.

    Clients send the token in the address (``?token=...``, for which a browser is given a cookie), in that cookie, or
    as ``Authorization: Bearer ...``. If the token is None, the server must be addressed by a name of this machine or
    one of `allow_hosts`, or a page elsewhere whose name is made to point here (DNS rebinding) would pass for ours.

    Pages of other sites may link to the page, and nothing more. Those at `allow_hosts` are ours as well, since a proxy
    may address this server by another name or port than browsers address the proxy; they may also frame the page.
    """

    def __init__(self, app: ASGIApp, token: str | None, allow_hosts: Sequence[str] = ()) -> None:
        self.app, self.token = app, token
        self.allow_hosts = {name.lower() for name in allow_hosts}
        self.told: set[str] = set()
        framing = [name if HOST_PORT.search(name) else f"{name}:*" for name in sorted(self.allow_hosts)]
        policy = " ".join([POLICY, *framing]).encode()
        self.headers = [*HEADERS.items(), (b"content-security-policy", policy)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403; a WebSocket is told why, which browsers hide of a 403."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        connection = HTTPConnection(scope)
        elsewhere = self._comes_from_elsewhere(connection)
        if elsewhere and elsewhere not in self.told and len(self.told) < MAX_TOLD:
            self.told.add(elsewhere)
            log.warning("A client was refused: %s", elsewhere)
        refusal = elsewhere or self._lacks_token(connection)
        if scope["type"] == "websocket":
            if not refusal:
                return await self.app(scope, receive, send)
            socket = WebSocket(scope, receive, send)
            await socket.accept()
            return await refuse(socket, refusal)

        mount = scope.get("root_path", "")  # of the server: below it a world's own is added to the scope

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
                if self.token is not None and "token" in connection.query_params and not refusal:
                    cookie = f"{_cookie(scope)}={quote(self.token)}; Path={mount}/; "
                    cookie += "HttpOnly; SameSite=Strict" + ("; Secure" if scope["scheme"] == "https" else "")
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        app = PlainTextResponse(refusal, 403) if refusal else self.app
        await app(scope, receive, send_with_headers)

    def _comes_from_elsewhere(self, connection: HTTPConnection) -> str:
        """The sentence for who addresses another host, or for a page of another site; empty for others."""
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        if not HOST.fullmatch(host):
            return "The Host header names no host: open the address that jinn printed."
        if self.token is None and not (is_loopback(_name(host).lower()) or self._allows(host)):
            return (
                f"This server is not known as {host}. If that is your proxy, start jinn with --allow-host "
                f"{_name(host)}; to let other machines in, start it with --token."
            )
        if origin is not None:
            # Only a page of this server may ask. Browsers always send the origin with what may change something.
            site = origin.partition("://")[2]
            if not HOST.fullmatch(site):
                return "Pages of other sites may not use this server."
            if site.lower() == host.lower() or self._allows(site):
                return ""
            return (
                f"A page at {site} may not use this server, which was addressed as {host}. If {site} is your proxy, "
                f"start jinn with --allow-host {_name(site)}."
            )
        headers = connection.headers
        link = headers.get("sec-fetch-mode") == "navigate" and connection.scope.get("method") in (
            "GET",
            "HEAD",
        )
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not link:
            return "Pages of other sites may not use this server."
        return ""

    def _allows(self, host: str) -> bool:
        return not self.allow_hosts.isdisjoint((host.lower(), _name(host).lower()))

    def _lacks_token(self, connection: HTTPConnection) -> str:
        """The sentence for who has not the token; empty for others."""
        given = (
            connection.query_params.get("token", ""),
            connection.headers.get("authorization", "").removeprefix("Bearer "),
            unquote(connection.cookies.get(_cookie(connection.scope), "")),
        )
        if self.token is None or any(hmac.compare_digest(t.encode(), self.token.encode()) for t in given):
            return ""
        return "A token is needed: open the address that jinn printed, with ?token=... at its end."


def _name(host: str) -> str:
    """A host without its port."""
    return HOST_PORT.sub("", host)


def _cookie(scope: Scope) -> str:
    """The name of a server's cookie. Browsers do not tell the ports of a host apart, hence the number."""
    _, port = scope.get("server") or ("", None)
    return f"{COOKIE}_{port}" if port else COOKIE
