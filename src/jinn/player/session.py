"""One player's WebSocket: what the client sends, what the world answers, and at what pace.

docs/protocol.md describes the protocol. In short: the client reports which keys are down, and the server
sends a frame when it is due and the one before it was acknowledged. So a slow client slows only itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

from jinn.errors import JinnError
from jinn.player.admission import MessageRate, send
from jinn.player.control import RolloutControl
from jinn.player.history import History
from jinn.player.pictures import read_pictures
from jinn.player.protocol import (
    NO_ACTION,
    Ack,
    Back,
    Clip,
    FrameHeader,
    FrameKind,
    Keys,
    Limits,
    Message,
    Press,
    Reset,
    Resume,
    Settings,
    Start,
    Text,
    WhatIf,
    parse,
)
from jinn.player.scheduler import Frame, Scheduler
from jinn.world.world import World

# Codes with which a WebSocket is closed.
POLICY_VIOLATION, INTERNAL_ERROR = 1008, 1011
MODEL_FAILED = "Internal model error; see the server log."
NO_TEXT_MODEL = (
    "this server has no text-to-image model: start it with jinn play --text MODEL, a model of diffusers"
)

# Makes a uint8 (H, W, 3) picture of the world's size from a text; raises `JinnError`.
TextToImage = Callable[[str], Awaitable[np.ndarray]]

log = logging.getLogger(__name__)


@dataclass
class Shared:
    """What all sessions of a server share.

    Attributes:
        world: the world that all play.
        scheduler: computes the frames.
        limits: what clients may ask for.
        prompts: uint8 ``frames_BTHWC`` (B = T = 1) to start from.
        idle: the action that is played at first while no key is down; None: the world waits.
        text_to_image: makes pictures of texts; None: the server cannot.
        parked: roll-outs of players who lost their connection, by the name of their session.
    """

    world: World
    scheduler: Scheduler
    limits: Limits
    prompts: list[Tensor]
    idle: int | None = None
    text_to_image: TextToImage | None = None
    parked: dict[str, History] = field(default_factory=dict)


@dataclass(frozen=True)
class NewRollout:
    """A request to start from ``frames_BTHWC``; with ``show``, these frames are sent to the client too."""

    frames_BTHWC: Tensor
    seed: int | None
    show: bool


@dataclass(frozen=True)
class Rewind:
    """A request to go back to a step of a roll-out, this session's own or one that is resumed."""

    step: int
    history: History


class Session:
    """One player's controls, as their messages set them, and the pace of their frames.

    Args:
        socket: an accepted WebSocket.
        shared: what the sessions of this server share.
    """

    def __init__(self, socket: WebSocket, shared: Shared) -> None:
        self.socket, self.shared, self.limits = socket, shared, shared.limits
        self.control = RolloutControl(shared.world, shared.scheduler, shared.limits.history_bytes)
        self.name = secrets.token_urlsafe(16)
        low, high = self.limits.fps_range
        self.fps = min(max(shared.world.fps, low), high)
        self.idle = shared.idle
        self.paused = False
        self.look_ahead = True
        self.held: int | None = None
        self.pressed: int | None = None  # an action to play once, even if its key is up again
        self.key_id = 0
        self.request: NewRollout | Rewind | None = None
        self.expected = Clip(0, None)  # the uploads that belong together
        self.clip: list[Tensor] = []  # those of them that have arrived
        self.text_task: asyncio.Task[None] | None = None
        self.sent = self.acked = 0
        self.last_input = time.monotonic()
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Play until the socket closes."""
        await self._send(json.dumps({"type": "session", "session": self.name}))
        tasks = {asyncio.create_task(self._receive()), asyncio.create_task(self._play())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except WebSocketDisconnect:
            pass
        finally:
            self.control.cancel_ahead()
            self.shared.scheduler.set_due(self, None)
            tasks |= {task for task in (self.control.what_if_task, self.text_task) if task}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ---- Frames ---------------------------------------------------------------------------------------

    def next_action(self) -> int | None:
        """The action to play next; None: the world waits."""
        if self.control.history is None:
            return None
        if self.pressed is not None or self.paused:
            return self.pressed
        return self.held if self.held is not None else self.idle

    async def _play(self) -> None:
        """Compute and send one frame after the other, each in its turn."""
        due = 0.0
        while True:
            await self._wait_for_turn(due)
            turn, key_id = time.monotonic(), self.key_id
            try:
                frame, kind, action, ready = await self._compute()
            except JinnError as error:
                await self.report(error)
                if self.request is None:  # the next step would fail as well: wait for a new start
                    self.control.history = None
                continue
            except WebSocketDisconnect:
                raise
            except Exception:
                log.exception("the model failed")
                await self.report(MODEL_FAILED)
                return await self.socket.close(INTERNAL_ERROR)
            # A frame that is a little late keeps the beat; one that is early or very late starts a new beat.
            on_beat = due <= turn < due + 0.5 / self.fps
            due = (due if on_beat else turn) + 1 / self.fps
            self.sent += 1
            step = self.control.history.step if self.control.history else 0
            waited_ms = 1000 * (time.monotonic() - turn)
            header = FrameHeader(kind, ready, action, self.sent, key_id, step, frame.model_ms, waited_ms)
            await self._send(header.pack() + frame.pixels)

    async def _wait_for_turn(self, due: float) -> None:
        """Wait until there is something to play, the last frame was acknowledged and the next one is due."""
        scheduler = self.shared.scheduler
        while True:
            timeout = None
            acknowledged = self.acked == self.sent
            if acknowledged and self.request is not None:
                return  # a request does not wait for the beat
            waiting = self.next_action() is None
            if acknowledged and not waiting:
                timeout = due - time.monotonic()
                # Nor does a key that goes down, up to the highest pace.
                if self.pressed is not None:
                    timeout -= 1 / self.fps - 1 / self.limits.fps_range[1]
                if timeout <= 0:
                    scheduler.set_due(self, None)
                    return
            scheduler.set_due(self, due if acknowledged and not waiting else None)
            self.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), timeout)

    async def _compute(self) -> tuple[Frame, FrameKind, int, bool]:
        """The next frame, its kind, the action that led to it, and whether it was computed already."""
        request, self.request = self.request, None
        if isinstance(request, NewRollout):
            frame = await self.control.start(request.frames_BTHWC, request.seed)
            if request.show:
                header = FrameHeader(FrameKind.PROMPT, False, NO_ACTION, 0, self.key_id, 0, 0.0, 0.0).pack()
                for frame_HWC in request.frames_BTHWC[0]:
                    await self._send(header + frame_HWC.cpu().numpy().tobytes())
            return frame, FrameKind.START, NO_ACTION, False
        if isinstance(request, Rewind):
            return await self.control.back(request.history, request.step), FrameKind.BACK, NO_ACTION, False
        action = self.next_action()
        assert action is not None  # or it would not be our turn
        self.pressed = None
        frame, ready = await self.control.step(action)
        return frame, FrameKind.NEXT, action, ready

    async def _what_if(self, depth: int) -> None:
        async def show(frame: Frame, action: int, step: int, seconds: float) -> None:
            times_ms = frame.model_ms, 1000 * seconds
            header = FrameHeader(FrameKind.WHAT_IF, False, action, 0, self.key_id, step, *times_ms)
            await self._send(header.pack() + frame.pixels)

        try:
            await self.control.what_if(depth, show)
        except WebSocketDisconnect:
            pass
        except JinnError as error:
            await self.report(error)
        except Exception:
            log.exception("the model failed")
            await self.report(MODEL_FAILED)

    # ---- Messages -------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        """Handle messages until the client leaves; answer those that are refused with a sentence."""
        rate = MessageRate(self.limits)
        while (received := await self.socket.receive())["type"] != "websocket.disconnect":
            if early := rate.count():
                await asyncio.sleep(early)
                if rate.flooding > self.limits.flood_seconds:
                    await self.report(
                        f"more than {self.limits.messages_per_second} messages a second are too many"
                    )
                    return await self.socket.close(POLICY_VIOLATION)
            try:
                if (data := received.get("bytes")) is not None:
                    await self._take_upload(data)
                else:
                    await self.handle(parse(received.get("text") or "", self.limits))
            except JinnError as error:
                await self.report(error)
            self.changed.set()

    async def handle(self, message: Message) -> None:
        """Apply a message.

        Raises:
            JinnError: the message does not fit the state of this session.
        """
        if not isinstance(message, Ack):
            self.last_input = time.monotonic()
        match message:
            case Ack(frame):
                self._acknowledge(frame)
            case Start(prompt, seed):
                self._request_start(self.shared.prompts[prompt], seed, show=False)
            case Reset(seed):
                self._request_start(self._history().prompt_BTHWC, seed, show=False)
            case Clip():
                self.expected, self.clip = message, []
            case Text():
                self._start_text(message)
            case Keys(action, id):
                self.held, self.key_id = action, self.key_id if id is None else id
            case Press(action, id):
                self.pressed, self.key_id = action, self.key_id if id is None else id
            case Back(step):
                history = self._history()
                if step is not None and step > history.step:
                    raise JinnError(f"step must be a whole number from 0 to {history.step}")
                self.held = self.pressed = None
                self.request = Rewind(history.step if step is None else step, history)
            case WhatIf(depth):
                self._history()
                self.control.start_what_if(self._what_if(depth))
            case Settings():
                self._apply(message)
            case Resume(session):
                parked = self.shared.parked.pop(session, None)
                if parked is None:
                    return await self._send(json.dumps({"type": "gone"}))
                self.request = Rewind(parked.step, parked)

    def _acknowledge(self, frame: int) -> None:
        if frame > self.sent:
            raise JinnError(f"frame must be a whole number from 0 to {self.sent}")
        self.acked = max(self.acked, frame)
        # Not before the acknowledgement: until then the processor is busy with showing the frame.
        if self.acked == self.sent and self.look_ahead and self.control.history is not None:
            actions = self.control.history.actions
            likely = (self.next_action(), actions[-1] if actions else None, self.idle)
            self.control.look_ahead(action for action in likely if action is not None)

    def _apply(self, settings: Settings) -> None:
        own = self.shared.world.config.sampling
        current = self.control.sampling or own
        sampling = replace(
            current,
            steps=current.steps if settings.steps is None else settings.steps,
            temperature=current.temperature if settings.temperature is None else settings.temperature,
        )
        self.fps = self.fps if settings.fps is None else settings.fps
        self.paused = self.paused if settings.paused is None else settings.paused
        self.look_ahead = self.look_ahead if settings.look_ahead is None else settings.look_ahead
        self.idle = self.idle if settings.idle == "unchanged" else settings.idle
        if sampling != current or not self.look_ahead:
            self.control.cancel_ahead()
        self.control.sampling = None if sampling == own else sampling

    async def _take_upload(self, data: bytes) -> None:
        self.last_input = time.monotonic()
        world, most = self.shared.world, self.limits.max_clip_frames
        # Decoding takes a while, and the messages of other players must not wait for it.
        try:
            read = await asyncio.to_thread(read_pictures, data, world.size_hw, most, world.fps, self.limits)
        except JinnError:
            self.expected, self.clip = replace(self.expected, frames=0), []
            raise
        frames_THWC = torch.from_numpy(read)
        if self.expected.frames:
            self.clip.append(frames_THWC[-1:])
            if len(self.clip) < self.expected.frames:
                return
            frames_THWC = torch.cat(self.clip)
        seed, self.expected, self.clip = self.expected.seed, Clip(0, None), []
        self._request_start(frames_THWC[None], seed, show=True)

    def _start_text(self, message: Text) -> None:
        text_to_image = self.shared.text_to_image
        if text_to_image is None:
            raise JinnError(NO_TEXT_MODEL)
        if self.text_task is not None and not self.text_task.done():
            raise JinnError("the picture of the last text is not finished: wait for it")

        async def generate_and_start() -> None:
            try:
                picture_HWC = await text_to_image(message.text)
            except JinnError as error:
                with suppress(WebSocketDisconnect):
                    await self.report(error)
                return
            self._request_start(torch.from_numpy(picture_HWC)[None, None], message.seed, show=True)
            self.changed.set()

        self.text_task = asyncio.create_task(generate_and_start())

    def _request_start(self, frames_BTHWC: Tensor, seed: int | None, show: bool) -> None:
        self.request, self.pressed = NewRollout(frames_BTHWC, seed, show), None
        self.expected = replace(self.expected, seed=None)

    def _history(self) -> History:
        if self.control.history is None:
            raise JinnError('there is no roll-out yet: send {"type": "start", "prompt": 0} first')
        return self.control.history

    async def report(self, error: JinnError | str) -> None:
        """Send a sentence to be shown to the player."""
        await self._send(json.dumps({"type": "error", "message": str(error)}))

    async def _send(self, message: str | bytes) -> None:
        await send(self.socket, message)
