"""One player's WebSocket: what the client sends, what the world answers, and at what pace.

docs/protocol.md describes the protocol. In short: the client reports which keys are down, and the server
sends a frame when it is due and the one before it was acknowledged. So a slow client slows only itself.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

from jinn.errors import JinnError
from jinn.player.admission import MessageRate
from jinn.player.control import RolloutControl
from jinn.player.history import History
from jinn.player.protocol import NO_ACTION, FrameHeader, FrameKind, Message, parse
from jinn.player.scheduler import Frame, ModelError
from jinn.player.shared import Shared
from jinn.web.answers import refuse, send, tell

SAMPLING = ("steps", "temperature", "doubt")  # the values of `SamplingConfig` that players may set
POLICY_VIOLATION, INTERNAL_ERROR = 1008, 1011  # codes with which a WebSocket is closed
NO_TEXT_MODEL = (
    "this server has no text-to-image model: start it with jinn play --text MODEL, a model of diffusers"
)

NO_ROLLOUT = 'there is no roll-out yet: send {"type": "start", "prompt": 0} first'


class Request(NamedTuple):
    """A frame that does not wait for the beat: the first of a roll-out, or one to go back to."""

    kind: FrameKind
    compute: Callable[[], Coroutine[Any, Any, Frame]]


@dataclass(frozen=True)
class Settings:
    """What a player may set, beside `SAMPLING`, which is `RolloutControl.sampling`."""

    fps: float
    idle: int | None  # the action that is played while no key is down; None: the world waits
    paused: bool = False  # whether only presses are played
    look_ahead: bool = True  # whether frames are computed before the player asks for them


class Session:
    """One player's controls, as their messages set them, and the pace of their frames; the socket is accepted."""

    def __init__(self, socket: WebSocket, shared: Shared) -> None:
        self.socket, self.shared, self.limits = socket, shared, shared.limits
        self.address = socket.client.host if socket.client else ""
        memory = min(self.limits.history_bytes, self.limits.all_history_bytes // self.limits.players)
        self.control = RolloutControl(shared.world, shared.scheduler, memory, shared.limits.max_back)
        self.name = secrets.token_urlsafe(16)
        # Done when the session may play.
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.settings = Settings(shared.fps, shared.idle)
        self.held: int | None = None
        self.pressed: int | None = None  # an action to play once, even if its key is up again
        self.key_id = 0
        self.request: Request | None = None
        self.answer: asyncio.Task[Frame] | None = None  # the frame of the last request, computed or to be
        self.prompt_BTHWC: Tensor | None = None  # of the roll-out that was requested last
        self.uploads = 0  # that belong together
        self.seed: int | None = None  # of the roll-out that starts from them
        self.clip: list[Tensor] = []  # those of them that have arrived
        self.text_task: asyncio.Task[None] | None = None
        self.sent = self.acked = 0
        self.last_input = time.monotonic()  # the last message other than an acknowledgement
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Wait for a place and play, until the socket closes."""
        # In this order: a session that need not wait is admitted before its first message is read.
        tasks = {asyncio.create_task(self._queue_and_play()), asyncio.create_task(self._receive())}
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
            if self.control.history is not None:  # it can be resumed after a lost connection
                self.shared.parking.park(self.name, self.address, self.control.history)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _queue_and_play(self) -> None:
        try:
            async with self.shared.admission.admit(self):
                await tell(self.socket, "session", session=self.name)
                await self._play()
        except JinnError as error:
            await refuse(self.socket, str(error))

    # ---- Frames ---------------------------------------------------------------------------------------

    def next_action(self) -> int | None:
        """The action to play next; None: the world waits."""
        if self.control.history is None:
            return None
        if self.pressed is not None or self.settings.paused:
            return self.pressed
        return self.held if self.held is not None else self.settings.idle

    async def _play(self) -> None:
        """Compute and send one frame after the other, each in its turn."""
        due = 0.0
        while True:
            await self._wait_for_turn(due)
            turn, key_id = time.monotonic(), self.key_id
            try:
                frame, kind, action, ready = await self._compute()
            except JinnError as error:
                if isinstance(error, ModelError):
                    return await refuse(self.socket, str(error), INTERNAL_ERROR)
                await tell(self.socket, "error", message=str(error))
                if self.request is None:  # the next step would fail as well: wait for a new start
                    self.control.history = None
                continue
            # A frame that is a little late keeps the beat; one that is early or very late starts a new beat.
            on_beat = due <= turn < due + 0.5 / self.settings.fps
            due = (due if on_beat else turn) + 1 / self.settings.fps
            self.sent += 1
            step = self.control.history.step if self.control.history else 0
            waited_ms = 1000 * (time.monotonic() - turn)
            header = FrameHeader(kind, ready, action, self.sent, key_id, step, frame.model_ms, waited_ms)
            await send(self.socket, header.pack() + frame.pixels)

    async def _wait_for_turn(self, due: float) -> None:
        """Wait until there is something to play, the last frame was acknowledged and the next one is due."""
        while True:
            timeout = None
            acknowledged = self.acked == self.sent
            if acknowledged and self.request is not None:
                return  # a request does not wait for the beat
            playing = acknowledged and self.next_action() is not None
            if playing:
                timeout = due - time.monotonic()
                # Nor does a key that goes down, up to the highest pace.
                if self.pressed is not None:
                    timeout -= 1 / self.settings.fps - 1 / self.limits.fps_range[1]
                if timeout <= 0:
                    self.shared.scheduler.set_due(self, None)
                    return
            self.shared.scheduler.set_due(self, due if playing else None)
            self.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), timeout)

    async def _compute(self) -> tuple[Frame, FrameKind, int, bool]:
        """The next frame, its kind, the action that led to it, and whether it was computed already."""
        while self.request is not None:
            (kind, compute), self.request = self.request, None
            self.answer = asyncio.create_task(compute())
            try:
                return await self.answer, kind, NO_ACTION, False
            except asyncio.CancelledError:
                if self.request is None or self._is_ending():
                    raise
        action = self.next_action()
        assert action is not None  # or it would not be our turn
        self.pressed = None
        frame, ready = await self.control.step(action)
        return frame, FrameKind.NEXT, action, ready

    @staticmethod
    def _is_ending() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _ask(self, kind: FrameKind, compute: Callable[[], Coroutine[Any, Any, Frame]]) -> None:
        """Let a frame be the next one; the latest counts, and ends one that is still computed."""
        self.request = Request(kind, compute)
        if self.answer is not None:
            self.answer.cancel()

    async def _back(self, history: History, step: int) -> Frame:
        """The frame of an earlier step; the client is told how far it is, where that takes long."""
        told = False

        async def report(done: int, total: int) -> None:
            nonlocal told
            told = True
            sentence = f"Going back: {done} of {total} frames are computed again."
            await tell(self.socket, "note", message=sentence)

        try:
            return await self.control.back(history, step, report)
        finally:
            if told:
                with suppress(WebSocketDisconnect):
                    await tell(self.socket, "note", message="")

    async def _start(self, frames_BTHWC: Tensor, seed: int | None, show: bool) -> Frame:
        """The first frame of a roll-out; with ``show``, its prompt is sent to the client too."""
        frame = await self.control.start(frames_BTHWC, seed)
        if show:
            header = FrameHeader(FrameKind.PROMPT, False, NO_ACTION, 0, self.key_id, 0, 0.0, 0.0).pack()
            for frame_HWC in frames_BTHWC[0]:
                await send(self.socket, header + frame_HWC.cpu().numpy().tobytes())
        return frame

    async def _show_what_if(self, frame: Frame, action: int, step: int, seconds: float) -> None:
        times_ms = frame.model_ms, 1000 * seconds
        header = FrameHeader(FrameKind.WHAT_IF, False, action, 0, self.key_id, step, *times_ms)
        await send(self.socket, header.pack() + frame.pixels)

    async def _aside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what the play does not wait for, and report it if it cannot be done."""
        with suppress(WebSocketDisconnect):
            try:
                await work()
            except JinnError as error:
                await tell(self.socket, "error", message=str(error))

    # ---- Messages -------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        """Handle messages until the client leaves; answer those that are refused with a sentence."""
        rate = MessageRate(self.limits)
        while (received := await self.socket.receive())["type"] != "websocket.disconnect":
            if early := rate.count():
                await asyncio.sleep(early)
                if rate.flooding > self.limits.flood_seconds:
                    most = self.limits.messages_per_second
                    sentence = f"more than {most} messages a second are too many"
                    return await refuse(self.socket, sentence, POLICY_VIOLATION)
            data = received.get("bytes")
            try:
                message = parse(received.get("text") or "", self.limits) if data is None else None
                if message is not None and message.type == "ping":
                    await tell(self.socket, "pong")
                elif not self.admitted.done():
                    continue  # other messages of a client in the queue are ignored
                elif message is not None:
                    await self.handle(message)
                elif data is not None:
                    await self._take_upload(data)
            except JinnError as error:
                await tell(self.socket, "error", message=str(error))
            self.changed.set()

    async def handle(self, message: Message) -> None:
        """Apply a message; `JinnError` if it does not fit the state of this session."""
        if message.type == "ack":
            return self._acknowledge(message.frame)
        self.last_input = time.monotonic()
        match message.type:
            case "start":
                self._request_start(self.shared.prompts[message.prompt], message.seed)
            case "reset":
                if self.prompt_BTHWC is None:
                    raise JinnError(NO_ROLLOUT)
                self._request_start(self.prompt_BTHWC, message.seed)
            case "clip":
                self.uploads, self.seed, self.clip = message.frames, message.seed, []
            case "text":
                self._start_text(message.text, message.seed)
            case "keys":
                self.held = message.action
            case "action":
                self.pressed = message.action
            case "back":
                history = self._history()
                step = history.step if message.step is None else message.step
                if not history.first <= step <= history.step:
                    raise JinnError(f"step must be a whole number from {history.first} to {history.step}")
                self.held = self.pressed = None
                self._go_back(history, step)
            case "what_if":
                self._history()
                what_if = partial(self.control.what_if, message.depth, self._show_what_if)
                self.control.start_what_if(self._aside(what_if))
            case "settings":
                self._apply(message.settings)
            case "resume":
                parked = self.shared.parking.take(message.session)
                if parked is None:
                    return await tell(self.socket, "gone")
                self._go_back(parked, parked.step)
        if message.id is not None:
            self.key_id = message.id

    def _acknowledge(self, frame: int) -> None:
        if frame > self.sent:
            raise JinnError(f"frame must be a whole number from 0 to {self.sent}")
        self.acked = max(self.acked, frame)
        # Not before the acknowledgement: until then the processor is busy with showing the frame.
        if self.acked == self.sent and self.settings.look_ahead:
            self.control.look_ahead(self.next_action(), self.settings.idle)

    def _apply(self, changes: Mapping[str, Any]) -> None:
        if changes.get("doubt") and not self.shared.world.can_doubt:
            raise JinnError("doubt must be 0: this world was trained without doubt about the actions")
        chosen = {name: changes[name] for name in SAMPLING if name in changes}
        sampling = replace(self.control.sampling, **chosen)
        self.settings = replace(self.settings, **{k: v for k, v in changes.items() if k not in chosen})
        if sampling != self.control.sampling or not self.settings.look_ahead:
            self.control.cancel_ahead()
        self.control.sampling = sampling

    async def _take_upload(self, data: bytes) -> None:
        self.last_input = time.monotonic()
        world, most = self.shared.world, self.limits.max_clip_frames
        try:
            read = await self.shared.decoders.read(
                self.address, data, world.size_hw, most, world.fps, world.config.fit
            )
        except JinnError:
            self.uploads, self.clip = 0, []
            raise
        frames_THWC = torch.from_numpy(read)
        if self.uploads:
            self.clip.append(frames_THWC[-1:])
            if len(self.clip) < self.uploads:
                return
            frames_THWC = torch.cat(self.clip)
        self.uploads, self.clip = 0, []
        self._request_start(frames_THWC[None], self.seed, show=True)

    def _start_text(self, text: str, seed: int | None) -> None:
        text_to_image = self.shared.text_to_image
        if text_to_image is None:
            raise JinnError(NO_TEXT_MODEL)
        if self.text_task is not None and not self.text_task.done():
            raise JinnError("the picture of the last text is not finished: wait for it")

        async def generate_and_start() -> None:
            picture_HWC = await text_to_image(text, self.shared.world.size_hw)
            self._request_start(torch.from_numpy(picture_HWC)[None, None], seed, show=True)
            self.changed.set()

        self.text_task = asyncio.create_task(self._aside(generate_and_start))

    def _request_start(self, frames_BTHWC: Tensor, seed: int | None, show: bool = False) -> None:
        self._ask(FrameKind.START, partial(self._start, frames_BTHWC, seed, show))
        self.prompt_BTHWC = frames_BTHWC
        self.pressed = self.seed = None

    def _go_back(self, history: History, step: int) -> None:
        self._ask(FrameKind.BACK, partial(self._back, history, step))
        self.prompt_BTHWC = history.prompt_BTHWC

    def _history(self) -> History:
        if self.control.history is None:
            raise JinnError(NO_ROLLOUT)
        return self.control.history
