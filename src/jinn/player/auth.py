"""Who may connect: host names, origins, and the token that other machines need."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from urllib.parse import quote, unquote, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "jinn_token"
HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    b"frame-ancestors 'self'; form-action 'none'; base-uri 'none'",
    b"permissions-policy": b"camera=(self), gamepad=(self), microphone=(), geolocation=()",
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


class Auth:
    """Middleware that refuses clients without access, and forbids pages to load anything from elsewhere.

    Clients send the token in the address (``?token=...``, for which a browser is given a cookie), in that cookie, or
    as ``Authorization: Bearer ...``. If the token is None, the server must be addressed by a name of this machine, or
    a page elsewhere whose name is made to point here (DNS rebinding) would pass for ours.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        connection = HTTPConnection(scope)
        refusal = self._refusal(connection)
        if scope["type"] == "websocket":
            # Only a page of this server may ask. Browsers always send the origin; programs need not.
            origin, host = connection.headers.get("origin"), connection.headers.get("host", "")
            if refusal or (origin is not None and urlsplit(origin).netloc.lower() != host.lower()):
                await receive()
                return await send({"type": "websocket.close", "code": 1008})  # the browser sees 403
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
                if self.token is not None and "token" in connection.query_params and not refusal:
                    cookie = f"{COOKIE}={quote(self.token)}; Path=/; HttpOnly; SameSite=Strict"
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        app = PlainTextResponse(refusal, 403) if refusal else self.app
        await app(scope, receive, send_with_headers)

    def _refusal(self, connection: HTTPConnection) -> str:
        """The sentence with which a client is refused; empty if it has access."""
        if self.token is None:
            host = urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
            local = "Only local connections are allowed; restart with --token to allow others."
            return "" if is_loopback(host) else local
        given = (
            connection.query_params.get("token", ""),
            connection.headers.get("authorization", "").removeprefix("Bearer "),
            unquote(connection.cookies.get(COOKIE, "")),
        )
        if any(hmac.compare_digest(token.encode(), self.token.encode()) for token in given):
            return ""
        return "A token is needed: open the address that jinn printed, with ?token=... at its end."
