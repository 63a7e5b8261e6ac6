"""One player: what the browser says, what the world answers, and at what pace.

The protocol is written down in docs/protocol.md. In short: the browser says which keys are down, the server
sends a frame when its time has come and the one before it was seen. So a slow browser slows itself alone.
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
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

from jinn.contracts import JinnError
from jinn.models.maskgit import SamplingConfig
from jinn.player.history import History
from jinn.player.pictures import read_pictures
from jinn.player.scheduler import Frame, Job, Priority, Scheduler
from jinn.world.world import World

# kind, whether it was ready before it was asked for, action, number, key, step, model_ms, waited_ms
HEADER = struct.Struct("<BBhIIIff")
NO_ACTION = -1
MIN_FPS, MAX_FPS = 1.0, 30.0
MAX_STEPS, MAX_TEMPERATURE = 25, 4.0
MAX_CLIP = 32
MAX_DEPTH = 16
MAX_TEXT = 1000
MAX_MESSAGE = 16_384  # of JSON, in characters
# A person with ten fingers sends some fifty messages a second, and an acknowledgement for each frame.
MESSAGES_A_SECOND, MESSAGES_AT_ONCE = 150, 300
# Who sends more is read more slowly, and not for ever: what he has sent may be there long after he has left.
FLOOD_SECONDS = 5.0
POLICY = 1008

# Makes a uint8 (H, W, 3) picture of a text; of any size.
TextToPicture = Callable[[str], Awaitable[np.ndarray]]

log = logging.getLogger(__name__)


class Kind(IntEnum):
    """What a frame is."""

    NEXT = 0  # the world, one step on
    BEGIN = 1  # the prompt, as the tokenizer sees it
    PICTURE = 2  # the prompt as it was understood: cropped and resized; not to be acknowledged
    BACK = 3  # a frame that was played before
    WHAT_IF = 4  # what would follow; not to be acknowledged


@dataclass(frozen=True)
class Begin:
    """Begin a roll-out."""

    frames_BTHWC: Tensor
    seed: int | None
    show: bool  # also the picture itself


@dataclass(frozen=True)
class Back:
    """Go back to a step of this roll-out, or of one whose player found his way back to the server."""

    step: int
    history: History


class Session:
    """One player's controls, as his messages set them, and where he stands.

    Args:
        socket: an accepted WebSocket.
        world: shared with the other sessions.
        scheduler: computes the frames.
        prompts: uint8 ``frames_BTHWC`` (B = T = 1) to begin from.
        idle: the action played at first while no key is held; None: the world waits.
        parked: roll-outs of players who lost their connection, by the name that the server gave them.
        draw: makes pictures of texts; None: the server cannot.
        why_not: the sentence that says why.
    """

    def __init__(
        self,
        socket: WebSocket,
        world: World,
        scheduler: Scheduler,
        prompts: list[Tensor],
        idle: int | None,
        parked: dict[str, History],
        draw: TextToPicture | None = None,
        why_not: str = "",
    ) -> None:
        self.socket, self.world, self.scheduler = socket, world, scheduler
        self.prompts, self.parked = prompts, parked
        self.draw, self.why_not = draw, why_not
        self.name = secrets.token_urlsafe(16)
        self.fps = min(max(world.fps, MIN_FPS), MAX_FPS)
        self.idle = idle
        self.paused = False
        self.sampling: SamplingConfig | None = None  # None: the world's own
        self.look_ahead = True
        self.held: int | None = None
        self.once: int | None = None  # a press that must be played even if it is over by now
        self.key_id = 0
        self.order: Begin | Back | None = None
        self.clip: list[Tensor] = []  # frames of a prompt of several pictures, as they come
        self.clip_frames = 0
        self.next_seed: int | None = None  # of the picture or clip that is to come
        self.history: History | None = None
        self.ahead: dict[int, Job] = {}  # what follows the present frame, by action
        self.what_if: asyncio.Task[None] | None = None
        self.drawing: asyncio.Task[None] | None = None
        self.sent = self.acked = 0
        self.touched = time.monotonic()  # when the player last did something
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Play until the socket closes."""
        await self._send(json.dumps({"type": "session", "session": self.name}))
        tasks = {asyncio.create_task(self._hear()), asyncio.create_task(self._play())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except WebSocketDisconnect:
            pass
        finally:
            self._forget_ahead()
            self.scheduler.expect(self, None)
            tasks |= {task for task in (self.what_if, self.drawing) if task}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ---- Playing ------------------------------------------------------------------------------------

    def wanted(self) -> int | None:
        """The action to play next, None to wait."""
        if self.history is None:
            return None
        if self.once is not None or self.paused:
            return self.once
        return self.held if self.held is not None else self.idle

    async def _play(self) -> None:
        """Show one frame after the other: await a turn, compute, send."""
        due = 0.0
        while True:
            await self._turn(due)
            turn, key_id = time.monotonic(), self.key_id
            order, self.order = self.order, None
            try:
                if isinstance(order, Begin):
                    kind, action, ready = Kind.BEGIN, NO_ACTION, False
                    frame = await self._begin(order)
                elif isinstance(order, Back):
                    kind, action, ready = Kind.BACK, NO_ACTION, False
                    frame = await self._go_back(order)
                else:
                    wanted = self.wanted()
                    assert wanted is not None  # or it would not be our turn
                    kind, action, self.once = Kind.NEXT, wanted, None
                    frame, ready = await self._step(action)
            except JinnError as error:
                await self.tell(error)
                if self.order is None:  # the next step would fail as well: wait for a new beginning
                    self.history = None
                continue
            except WebSocketDisconnect:
                raise
            except Exception:
                log.exception("the model failed")
                await self.tell("the world broke down: see the terminal that runs jinn")
                return await self.socket.close(1011)
            # A little late is on the beat; very late, or early, it begins anew.
            on_beat = due <= turn < due + 0.5 / self.fps
            due = (due if on_beat else turn) + 1 / self.fps
            self.sent += 1
            await self._show(kind, frame, action, key_id, ready, waited=time.monotonic() - turn)

    async def _turn(self, due: float) -> None:
        """Wait until there is something to play, the last frame is on the screen and the time has come."""
        while True:
            timeout = None
            seen = self.acked == self.sent
            if seen and self.order is not None:
                return  # an order does not wait for the beat
            wanted = self.wanted()
            if seen and wanted is not None:
                timeout = due - time.monotonic()
                # Nor does a key that goes down, as long as the pace stays one that can be looked at.
                if self.once is not None:
                    timeout -= 1 / self.fps - 1 / MAX_FPS
                if timeout <= 0:
                    self.scheduler.expect(self, None)
                    return
            self.scheduler.expect(self, due if seen and wanted is not None else None)
            self.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), timeout)

    async def _begin(self, order: Begin) -> Frame:
        seed = secrets.randbelow(2**31) if order.seed is None else order.seed
        self._forget_ahead()
        frame = await result(self.scheduler.begin(lambda: self.world.reset(order.frames_BTHWC, seed=[seed])))
        self.history = History(order.frames_BTHWC, frame)
        if order.show:
            for frame_HWC in order.frames_BTHWC[0]:
                header = HEADER.pack(Kind.PICTURE, 0, NO_ACTION, 0, self.key_id, 0, 0.0, 0.0)
                await self._send(header + frame_HWC.cpu().numpy().tobytes())
        return frame

    async def _go_back(self, order: Back) -> Frame:
        history, step = order.history, order.step
        self._forget_ahead()
        self.history = history
        if step == history.step:
            return history.now
        at = history.before(step)
        frame = history.kept[at]
        while at < step:
            at += 1
            frame = await result(self.scheduler.step(frame.state, *history.way_to(at)))
        history.go_back(step, frame)
        return frame

    async def _step(self, action: int) -> tuple[Frame, bool]:
        """The frame after an action, and whether it was there already."""
        history = self.history
        assert history is not None
        sampling = self.sampling
        job = self.ahead.pop(action, None)
        self._forget_ahead()
        ready = job is not None and job.frame.done()
        if job is None:
            job = self.scheduler.step(history.now.state, action, sampling)
        frame = await result(self.scheduler.hurry(job))
        history.add(action, sampling, frame)
        return frame, ready

    def _begin_ahead(self) -> None:
        """Ask for the next frame of every action, the likeliest first, where there is time to spare."""
        if self.history is None or not self.look_ahead:
            return
        last = self.history.actions[-1] if self.history.actions else None
        likely = [k for k in (self.wanted(), last, self.idle) if k is not None]
        for action in dict.fromkeys([*likely, *range(self.world.num_actions)]):
            self.ahead[action] = self.scheduler.step(
                self.history.now.state, action, self.sampling, Priority.LOOK_AHEAD
            )

    def _forget_ahead(self) -> None:
        self.scheduler.drop(self.ahead.values())
        self.ahead = {}
        if self.what_if is not None:
            self.what_if.cancel()

    async def _show_what_if(self, depth: int) -> None:
        """Send what each action would lead to, were it held for some frames."""
        history = self.history
        assert history is not None
        step, begun = history.step, time.monotonic()

        async def hold(action: int) -> None:
            state, sampling = history.now.state, self.sampling
            for ahead in range(1, depth + 1):
                job = self.ahead.get(action) if ahead == 1 else None
                if job is None:
                    job = self.scheduler.step(state, action, sampling, Priority.LEISURE)
                frame = await asyncio.shield(result(self.scheduler.hurry(job, Priority.LEISURE)))
                waited = time.monotonic() - begun
                await self._show(Kind.WHAT_IF, frame, action, self.key_id, False, waited, step + ahead)
                state = frame.state

        try:
            await asyncio.gather(*(hold(action) for action in range(self.world.num_actions)))
        except WebSocketDisconnect:
            pass
        except Exception as error:
            log.exception("the model failed")
            await self.tell(error if isinstance(error, JinnError) else "the world broke down: begin anew")

    async def _show(
        self,
        kind: Kind,
        frame: Frame,
        action: int,
        key_id: int,
        ready: bool,
        waited: float,
        step: int | None = None,
    ) -> None:
        number = self.sent if kind is not Kind.WHAT_IF else 0
        if step is None:
            step = self.history.step if self.history else 0
        header = HEADER.pack(kind, ready, action, number, key_id, step, frame.model_ms, 1000 * waited)
        await self._send(header + frame.pixels)

    # ---- Hearing ------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        """Obey messages until the browser leaves; answer those that cannot be obeyed with a sentence."""
        allowed, counted, flooding = float(MESSAGES_AT_ONCE), time.monotonic(), 0.0
        while True:
            received = await self.socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            now = time.monotonic()
            allowed = min(MESSAGES_AT_ONCE, allowed + (now - counted) * MESSAGES_A_SECOND) - 1
            counted = now
            if allowed < 0:
                await asyncio.sleep(-allowed / MESSAGES_A_SECOND)
                flooding -= allowed / MESSAGES_A_SECOND
                if flooding > FLOOD_SECONDS:
                    await self.tell(f"more than {MESSAGES_A_SECOND} messages a second are too many")
                    return await self.socket.close(POLICY)
            elif allowed > MESSAGES_AT_ONCE / 2:
                flooding = 0.0
            try:
                if (data := received.get("bytes")) is not None:
                    await self._take_picture(data)
                else:
                    await self._obey(received.get("text") or "")
            except JinnError as error:
                await self.tell(error)
            self.changed.set()

    async def _take_picture(self, data: bytes) -> None:
        self.touched = time.monotonic()
        # Decoding may take a while, and the other players' messages should not wait for it.
        try:
            read = await asyncio.to_thread(read_pictures, data, self.world.size_hw, MAX_CLIP, self.world.fps)
        except JinnError:
            self.clip, self.clip_frames = [], 0
            raise
        frames_THWC = torch.from_numpy(read)
        if self.clip_frames:
            self.clip.append(frames_THWC[-1:])
            if len(self.clip) < self.clip_frames:
                return
            frames_THWC = torch.cat(self.clip)
            self.clip, self.clip_frames = [], 0
        self._restart(Begin(frames_THWC[None], self.next_seed, show=True))

    async def _obey(self, text: str) -> None:
        """Apply one JSON message; raise `JinnError` if that is not possible."""
        try:  # to read a long one would keep the others waiting
            message = json.loads(text) if len(text) <= MAX_MESSAGE else None
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise JinnError(
                f'messages are JSON objects of at most {MAX_MESSAGE} characters: {{"type": "reset"}}'
            )
        kind, actions = message.get("type"), self.world.num_actions
        if kind == "ack":
            acked = whole(message, "frame", self.sent + 1)
            self.acked = max(self.acked, acked or 0)
            if self.acked == self.sent and not self.ahead:
                self._begin_ahead()  # and not before: drawing the frame needs the processor too
            return
        self.touched = time.monotonic()
        if kind == "start":
            prompt = whole(message, "prompt", len(self.prompts)) or 0
            self._restart(Begin(self.prompts[prompt], whole(message, "seed", 2**63), show=False))
        elif kind == "clip":
            self.next_seed = whole(message, "seed", 2**63)
            self.clip, self.clip_frames = [], whole(message, "frames", MAX_CLIP + 1) or 0
        elif kind == "text":
            self._begin_drawing(message)
        elif kind == "reset":
            history = self._begun()
            seed = whole(message, "seed", 2**63)
            self._restart(Begin(history.prompt_BTHWC, seed, show=False))
        elif kind in ("keys", "action"):
            action = whole(message, "action", actions)
            if kind == "keys":
                self.held = action
            else:
                self.once = action
            self.key_id = whole(message, "id", 2**32, default=self.key_id) or 0
        elif kind == "back":
            history = self._begun()
            step = whole(message, "step", history.step + 1, default=history.step)
            self.held = self.once = None
            self.order = Back(step or 0, history)
        elif kind == "what_if":
            self._begun()
            depth = whole(message, "depth", MAX_DEPTH + 1, default=4) or 1
            if self.what_if is not None:
                self.what_if.cancel()
            self.what_if = asyncio.create_task(self._show_what_if(depth))
        elif kind == "settings":
            self._settle(message)
        elif kind == "resume":
            parked = self.parked.pop(str(message.get("session")), None)
            if parked is None:
                return await self._send(json.dumps({"type": "gone"}))
            self.order = Back(parked.step, parked)
        else:
            raise JinnError(
                "the type of a message is start, clip, text, reset, keys, action, back, what_if, settings, "
                "resume or ack"
            )

    def _settle(self, message: dict[str, Any]) -> None:
        own = self.world.config.sampling
        now = self.sampling or own
        fps = number(message, "fps", MIN_FPS, MAX_FPS, self.fps)
        paused = truth(message, "paused", self.paused)
        look_ahead = truth(message, "look_ahead", self.look_ahead)
        idle = whole(message, "idle", self.world.num_actions) if "idle" in message else self.idle
        steps = whole(message, "steps", MAX_STEPS + 1, default=now.steps, first=1)
        assert steps is not None
        # Hundredths, so that a player cannot make the server remember a million settings.
        temperature = round(number(message, "temperature", 0, MAX_TEMPERATURE, now.temperature), 2)
        wanted = replace(now, steps=steps, temperature=temperature)
        if wanted != now or not look_ahead:
            self._forget_ahead()
        self.fps, self.paused, self.idle, self.look_ahead = fps, paused, idle, look_ahead
        self.sampling = None if wanted == own else wanted

    def _begin_drawing(self, message: dict[str, Any]) -> None:
        text, seed = message.get("text"), whole(message, "seed", 2**63)
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
            raise JinnError(f"text must be a description of 1 to {MAX_TEXT} characters")
        if self.draw is None:
            raise JinnError(self.why_not)
        if self.drawing is not None and not self.drawing.done():
            raise JinnError("the last text is still being drawn: wait for its picture")
        draw = self.draw

        async def draw_and_begin() -> None:
            try:
                picture_HWC = await draw(text)
            except JinnError as error:
                with suppress(WebSocketDisconnect):
                    await self.tell(error)
                return
            self._restart(Begin(torch.from_numpy(picture_HWC)[None, None], seed, show=True))
            self.changed.set()

        self.drawing = asyncio.create_task(draw_and_begin())

    def _begun(self) -> History:
        if self.history is None:
            raise JinnError('nothing has begun yet: send {"type": "start", "prompt": 0} first')
        return self.history

    def _restart(self, begin: Begin) -> None:
        self.order, self.once, self.next_seed = begin, None, None

    async def tell(self, error: JinnError | str) -> None:
        """Send a sentence to be shown to the player."""
        await self._send(json.dumps({"type": "error", "message": str(error)}))

    async def _send(self, message: str | bytes) -> None:
        await send(self.socket, message)


async def send(socket: WebSocket, message: str | bytes) -> None:
    """Send text or bytes; a socket that is closed already is one that the player has left."""
    try:
        await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
    except RuntimeError as error:  # Starlette's word for it
        raise WebSocketDisconnect(1006) from error


async def result(job: Job) -> Frame:
    """Await a frame."""
    return await asyncio.wrap_future(job.frame)


def whole(
    message: dict[str, Any], name: str, end: int, default: int | None = None, first: int = 0
) -> int | None:
    """The message's whole number in [first, end) of that name; the default where there is none."""
    value = message.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not first <= value < end:
        raise JinnError(f"{name} must be a whole number from {first} to {end - 1}")
    return value


def number(message: dict[str, Any], name: str, low: float, high: float, default: float) -> float:
    """The message's number in [low, high] of that name; the default where there is none."""
    value = message.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise JinnError(f"{name} must be a number from {low:g} to {high:g}")
    return float(value)


def truth(message: dict[str, Any], name: str, default: bool) -> bool:
    """The message's true or false of that name; the default where there is none."""
    value = message.get(name, default)
    if not isinstance(value, bool):
        raise JinnError(f"{name} must be true or false")
    return value
