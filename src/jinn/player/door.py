"""Who may come in: hosts, origins, and the token that other machines need."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http.cookies import SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qs, quote, unquote, urlsplit

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


class Door:
    """Middleware that lets in who may come in, and tells browsers to load nothing from anywhere else.

    Args:
        app: what lies behind.
        token: what a client must know: in the address (``?token=...``, which a browser is given as a cookie
            for), in that cookie, or as ``Authorization: Bearer ...``. None: nobody needs one, but the server
            must be spoken to by a name of this machine: a page elsewhere that has its own name point here
            (DNS rebinding) would pass for ours.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        why_not = self._why_not(headers, asked)
        if scope["type"] == "websocket":
            if why_not or not same_origin(headers):
                await receive()
                return await send({"type": "websocket.close", "code": 1008})  # the browser sees 403
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
                if self.token is not None and asked and not why_not:
                    cookie = f"{COOKIE}={quote(self.token)}; Path=/; HttpOnly; SameSite=Strict"
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        app = PlainTextResponse(why_not, 403) if why_not else self.app
        await app(scope, receive, send_with_headers)

    def _why_not(self, headers: Mapping[str, str], asked: str) -> str:
        if self.token is None:
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            return (
                "" if is_loopback(host) else "this world is played by its own machine: start it with --token"
            )
        cookie = SimpleCookie()
        try:
            cookie.load(headers.get("cookie", ""))
        except Exception:  # what a stranger calls a cookie
            cookie.clear()
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        known = (asked, bearer, unquote(cookie[COOKIE].value) if COOKIE in cookie else "")
        if any(hmac.compare_digest(said.encode(), self.token.encode()) for said in known):
            return ""
        return "a token is needed: open the address that jinn printed, with ?token=... at its end"


def same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a page of this server asks. Browsers always tell the origin; programs need not."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
