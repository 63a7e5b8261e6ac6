"""Requests and their answers, and sentences for those who are refused."""

from __future__ import annotations

import json
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

TRY_AGAIN_LATER = 1013  # a code with which a WebSocket is closed


async def read_body(request: Request, max_bytes: int) -> bytearray:
    """The body of a request; empty if it is larger than the limit."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            return bytearray()
    return body


def refusal(status: int, sentence: str) -> Response:
    """An error as this server's addresses report it."""
    return JSONResponse({"error": sentence}, status)


async def refuse(socket: WebSocket, sentence: str, code: int = TRY_AGAIN_LATER) -> None:
    """Send an error and close."""
    with suppress(WebSocketDisconnect, RuntimeError):
        await tell(socket, "error", message=sentence)
        await socket.close(code)


async def tell(socket: WebSocket, type: str, **fields: str | int) -> None:
    """Send a JSON message."""
    await send(socket, json.dumps({"type": type, **fields}))


async def send(socket: WebSocket, message: str | bytes) -> None:
    """Send text or bytes; a socket that is closed already counts as one that the client has left."""
    try:
        await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
    except RuntimeError as error:  # what Starlette raises then
        raise WebSocketDisconnect(1006) from error
