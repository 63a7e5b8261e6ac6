"""One player: what the browser says, what the world answers, and at what pace.

The browser sends text messages (JSON) and pictures (binary):

    {"type": "start", "prompt": 0, "seed": 7}   begin from a picture that came with the world
    <the bytes of a picture>                    begin from this picture
    {"type": "reset", "seed": 7}                begin again from the same picture
    {"type": "keys", "action": 3, "id": 12}     action 3 is held from now on; null: nothing is held
    {"type": "action", "action": 3, "id": 12}   play one frame of action 3, even if paused
    {"type": "settings", "fps": 12, "paused": false, "idle": null}
    {"type": "ack", "frame": 41}                frame 41 is on the screen

"seed", "id" and each setting may be left out. "idle" is the action played while nothing is held; with
null the world waits for a key. The latest state of the keys wins; a page that sends "action" beside
"keys" when a key goes down does not lose the key press that ends before the next frame begins.

The server sends frames (binary): a header of 16 bytes, then its pixels: RGB, row by row, of the size
that api/world tells. They are not compressed: a page draws them in the instant in which they come, and the
next frame is not kept waiting by a decoder. The header, little-endian, is
uint32 frame number, uint32 id of the latest key message it takes into account, float32 milliseconds in
the model, int32 action (-1: the picture that play begins from). Anything that goes wrong is told as
{"type": "error", "message": "..."}.

A frame is computed only when the one before it was acknowledged, so a slow browser slows itself alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

from jinn.contracts import JinnError
from jinn.player.pictures import read_picture
from jinn.world.rollout import World

HEADER = struct.Struct("<IIfi")
PROMPT_FRAME = -1
MIN_FPS, MAX_FPS = 1.0, 30.0

# Runs a function where the model may run, and awaits its result.
OnModelThread = Callable[[Callable[[], Any]], Awaitable[Any]]

log = logging.getLogger(__name__)


@dataclass
class Controls:
    """What a player has asked for: written by `_obey`, read by `_play`."""

    fps: float
    idle: int | None
    held: int | None = None
    once: int | None = None  # a press that must be played even if it is over by now
    key_id: int = 0
    paused: bool = False
    prompt: Tensor | None = None  # frames_BTHWC
    seed: int | None = None
    restart: bool = False
    sent: int = 0
    acked: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wanted(self) -> int | None:
        """The action to play next, None to wait."""
        if self.prompt is None:
            return None
        if self.once is not None or self.paused:
            return self.once
        return self.held if self.held is not None else self.idle


async def run_session(
    socket: WebSocket,
    world: World,
    prompts: list[Tensor],
    idle: int | None,
    on_model_thread: OnModelThread,
) -> None:
    """Play with one browser until its socket closes.

    Args:
        socket: an accepted WebSocket.
        world: the world, shared with the other sessions.
        prompts: uint8 ``frames_BTHWC`` (B = T = 1) to begin from.
        idle: the action played at first while no key is held; None: the world waits.
        on_model_thread: runs a function where the model may run and awaits its result.
    """
    controls = Controls(fps=min(max(world.fps, MIN_FPS), MAX_FPS), idle=idle)
    tasks = (
        asyncio.create_task(_hear(socket, world, prompts, controls)),
        asyncio.create_task(_play(socket, world, controls, on_model_thread)),
    )
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except WebSocketDisconnect:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _play(socket: WebSocket, world: World, controls: Controls, on_model_thread: OnModelThread) -> None:
    """Show one frame after the other: await a turn, compute, send."""
    state: Any = None
    due = 0.0
    while True:
        await _turn(controls, due)
        key_id = controls.key_id
        if controls.restart and controls.prompt is not None:
            action = PROMPT_FRAME
            seed = secrets.randbelow(2**31) if controls.seed is None else controls.seed
            controls.restart = False
            ask = partial(world.reset, controls.prompt, seed=seed)
        else:
            wanted = controls.wanted()
            assert wanted is not None  # or it would not be our turn
            action, controls.once = wanted, None
            ask = partial(world.step, state, torch.tensor([action]))
        # An early frame does not move the beat, a late one does not make the next ones hurry.
        due = max(due, time.monotonic()) + 1 / controls.fps
        try:
            state, pixels, model_ms = await on_model_thread(partial(_compute, ask))
        except JinnError as error:
            await tell(socket, error)
            if not controls.restart:  # the next step would fail as well: wait for a new beginning
                controls.prompt = None
            continue
        except Exception:
            log.exception("the model failed")
            await tell(socket, "the world broke down: see the terminal that runs jinn")
            return await socket.close(1011)
        controls.sent += 1
        await _send(socket, HEADER.pack(controls.sent, key_id, model_ms, action) + pixels)


async def _turn(controls: Controls, due: float) -> None:
    """Wait until there is something to play, the last frame is on the screen and the time has come."""
    while True:
        timeout = None
        if controls.acked == controls.sent and controls.restart:
            return  # a new beginning does not wait for the beat
        if controls.acked == controls.sent and controls.wanted() is not None:
            timeout = due - time.monotonic()
            if timeout <= 0:
                return
        controls.changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(controls.changed.wait(), timeout)


def _compute(ask: Callable[[], tuple[Any, Tensor]]) -> tuple[Any, bytes, float]:
    """On the model thread: the new state, its frame's pixels, and the milliseconds it took."""
    begin = time.perf_counter()
    state, frame_BHWC = ask()
    pixels = frame_BHWC[0].cpu().numpy().tobytes()
    model_ms = 1000 * (time.perf_counter() - begin)
    return state, pixels, model_ms


async def _hear(socket: WebSocket, world: World, prompts: list[Tensor], controls: Controls) -> None:
    """Obey messages until the browser leaves; answer those that cannot be obeyed with an error."""
    while True:
        received = await socket.receive()
        if received["type"] == "websocket.disconnect":
            return
        try:
            if (data := received.get("bytes")) is not None:
                # Decoding may take a while, and the other players' messages should not wait for it.
                frame_HWC = await asyncio.to_thread(read_picture, data, world.size_hw)
                _restart(controls, torch.from_numpy(frame_HWC)[None, None], None)
            else:
                _obey(received.get("text") or "", world, prompts, controls)
        except JinnError as error:
            await tell(socket, error)
        controls.changed.set()


def _obey(text: str, world: World, prompts: list[Tensor], controls: Controls) -> None:
    """Apply one JSON message to the controls; raise `JinnError` if that is not possible."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise JinnError('messages are JSON objects such as {"type": "reset"}')
    kind = message.get("type")
    if kind == "start":
        seed = _whole(message, "seed", 2**63)
        prompt = _whole(message, "prompt", len(prompts), default=0)
        _restart(controls, prompts[prompt or 0], seed)
    elif kind == "reset":
        if controls.prompt is None:
            raise JinnError('nothing has begun yet: send {"type": "start", "prompt": 0} first')
        _restart(controls, controls.prompt, _whole(message, "seed", 2**63))
    elif kind in ("keys", "action"):
        action = _whole(message, "action", world.num_actions)
        key_id = _whole(message, "id", 2**32, default=controls.key_id)
        if kind == "keys":
            controls.held = action
        else:
            controls.once = action
        controls.key_id = key_id or 0
    elif kind == "settings":
        fps, paused = message.get("fps", controls.fps), message.get("paused", controls.paused)
        if isinstance(fps, bool) or not isinstance(fps, int | float) or not MIN_FPS <= fps <= MAX_FPS:
            raise JinnError(f"fps must be a number from {MIN_FPS:.0f} to {MAX_FPS:.0f}")
        if not isinstance(paused, bool):
            raise JinnError("paused must be true or false")
        idle = _whole(message, "idle", world.num_actions) if "idle" in message else controls.idle
        controls.fps, controls.paused, controls.idle = float(fps), paused, idle
    elif kind == "ack":
        acked = _whole(message, "frame", controls.sent + 1, default=controls.acked)
        controls.acked = max(controls.acked, acked or 0)
    else:
        raise JinnError("the type of a message is start, reset, keys, action, settings or ack")


def _restart(controls: Controls, prompt_BTHWC: Tensor, seed: int | None) -> None:
    controls.prompt, controls.seed, controls.restart, controls.once = prompt_BTHWC, seed, True, None


def _whole(message: dict[str, Any], name: str, end: int, default: int | None = None) -> int | None:
    """The message's whole number in [0, end) of that name; the default where there is none."""
    value = message.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < end:
        raise JinnError(f"{name} must be a whole number from 0 to {end - 1}")
    return value


async def tell(socket: WebSocket, error: JinnError | str) -> None:
    """Send the browser a sentence to show to its player."""
    await _send(socket, json.dumps({"type": "error", "message": str(error)}))


async def _send(socket: WebSocket, message: str | bytes) -> None:
    try:
        await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
    except RuntimeError as error:  # Starlette's word for: this socket is closed already
        raise WebSocketDisconnect(1006) from error
