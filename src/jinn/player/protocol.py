"""The player's protocol: messages of a client, the header of a frame, and every limit of the server.

docs/protocol.md describes the protocol. This module needs nothing but the standard library, so that a client
imports neither torch nor a web server.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from jinn.errors import JinnError

NO_ACTION = -1


@dataclass(frozen=True)
class Limits:
    """What clients may ask of a server, and how much of it. Ranges include both ends.

    Attributes:
        actions: number of actions of the world.
        prompts: number of prompts of the world.
        fps_range: frames per second.
        steps_range: MaskGIT steps per frame.
        temperature_range: sampling temperature.
        max_clip_frames: frames of a prompt clip.
        max_what_if_frames: frames that each action is played for in a what-if.
        max_text: characters of a text prompt.
        max_waiting_texts: text prompts that wait for the text-to-image model.
        max_upload_bytes: bytes of an uploaded picture.
        max_picture_pixels: pixels of an uploaded picture, all frames of an animation together.
        max_animation_frames: frames of an uploaded animation.
        max_film_bytes: bytes of a film's uncompressed frames.
        max_films: films that are encoded at a time.
        film_upload_seconds: time in which the frames of a film must arrive.
        max_message: characters of a JSON message.
        messages_per_second: rate at which messages are read in the long run. Ten fingers send about fifty a
            second, and each frame is acknowledged.
        messages_at_once: messages that may arrive in one burst.
        flood_seconds: delay after which a client that sends faster is disconnected. Without an end, its
            messages would still be read long after it has left.
        players: sessions that play at a time.
        max_queue: clients that wait for a free session; later ones are refused.
        sockets_per_address: open sockets of one network address, waiting ones included; None: any number.
        idle_seconds: time without input after which a session ends.
        idle_seconds_when_full: the same while other clients wait.
        start_seconds_when_full: the same for a session without a roll-out, while other clients wait.
        max_parked: sessions without a connection that can be resumed.
        parked_seconds: time for which they can be resumed.
        parked_states: states that are cached for each of them.
        history_bytes: memory for the cached states of one session.
    """

    actions: int = 0
    prompts: int = 0
    fps_range: tuple[float, float] = (1.0, 30.0)
    steps_range: tuple[int, int] = (1, 25)
    temperature_range: tuple[float, float] = (0, 4.0)
    max_clip_frames: int = 32
    max_what_if_frames: int = 16
    max_text: int = 1000
    max_waiting_texts: int = 8
    max_upload_bytes: int = 4 * 2**20
    max_picture_pixels: int = 32 * 10**6
    max_animation_frames: int = 1000
    max_film_bytes: int = 48 * 2**20
    max_films: int = 2
    film_upload_seconds: float = 60.0
    max_message: int = 16_384
    messages_per_second: int = 150
    messages_at_once: int = 300
    flood_seconds: float = 5.0
    players: int = 64
    max_queue: int = 256
    sockets_per_address: int | None = None
    idle_seconds: float = 900.0
    idle_seconds_when_full: float = 60.0
    start_seconds_when_full: float = 10.0
    max_parked: int = 32
    parked_seconds: float = 120.0
    parked_states: int = 3
    history_bytes: int = 32 * 2**20


DEFAULT_LIMITS = Limits()


# ---- Frames, from the server ----------------------------------------------------------------------------


class FrameKind(IntEnum):
    """What a frame shows."""

    NEXT = 0  # the world one step later
    START = 1  # the newest prompt frame, as the tokenizer reconstructs it
    PROMPT = 2  # a prompt frame after cropping and resizing; not to be acknowledged
    BACK = 3  # an earlier frame that the player went back to
    WHAT_IF = 4  # a frame that an action would lead to; not to be acknowledged


@dataclass(frozen=True)
class FrameHeader:
    """The bytes before the pixels of a frame.

    Attributes:
        kind: what the frame shows.
        ready: whether the frame was computed before the player asked for it.
        action: the action that led to the frame; `NO_ACTION` if none did.
        number: the frame's number in its connection, counted from 1; 0 if it is not to be acknowledged.
        key: the id of the latest key message that the frame takes into account.
        step: frames since the prompt.
        model_ms: milliseconds in the model, for the whole batch that the frame was part of.
        waited_ms: milliseconds from the frame's turn until it was sent.
    """

    kind: FrameKind
    ready: bool
    action: int
    number: int
    key: int
    step: int
    model_ms: float
    waited_ms: float

    LAYOUT: ClassVar = struct.Struct("<BBhIIIff")
    SIZE: ClassVar[int] = LAYOUT.size

    def pack(self) -> bytes:
        """The header as bytes."""
        return self.LAYOUT.pack(*astuple(self))

    @classmethod
    def unpack(cls, data: bytes) -> FrameHeader:
        """The header of a frame's bytes."""
        kind, ready, *rest = cls.LAYOUT.unpack_from(data)
        return FrameHeader(FrameKind(kind), bool(ready), *rest)


# ---- Messages, from a client ----------------------------------------------------------------------------

# The types of messages and their fields.
FIELDS = {
    "start": ("prompt", "seed"),
    "clip": ("frames", "seed"),
    "text": ("text", "seed"),
    "reset": ("seed",),
    "keys": ("action", "id"),
    "action": ("action", "id"),
    "back": ("step",),
    "what_if": ("depth",),
    "settings": ("fps", "paused", "look_ahead", "idle", "steps", "temperature"),
    "resume": ("session",),
    "ack": ("frame",),
}


@dataclass(frozen=True)
class Message:
    """A message of a client, as docs/protocol.md describes it. What it does not say has the default.

    Attributes:
        type: a key of `FIELDS`.
        prompt: index of the prompt to start from.
        frames: the number of uploads that are one prompt; 0: the next upload is a prompt by itself.
        text: start from a picture of it.
        seed: seed of the roll-out; None: a random one.
        action: the action to hold or to play; None: no key is down.
        id: number of this key message; None leaves the last one.
        step: the step of this roll-out to go back to; None: the newest.
        depth: frames for which a what-if holds each action.
        session: name of the session to continue.
        frame: the client has shown all frames up to this number.
        settings: the settings to change.
    """

    type: str
    prompt: int = 0
    frames: int = 0
    text: str = ""
    seed: int | None = None
    action: int | None = None
    id: int | None = None
    step: int | None = None
    depth: int = 4
    session: str = ""
    frame: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str, limits: Limits) -> Message:
    """Read a JSON message. A message with one bad field is refused as a whole.

    Args:
        text: the message.
        limits: the limits of its fields.

    Raises:
        JinnError: the text is not a message of the protocol; the sentence names the field.
    """
    try:  # other sessions would wait while a long message is parsed
        fields = json.loads(text) if len(text) <= limits.max_message else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise JinnError(
            f"a message must be a JSON object of at most {limits.max_message} characters, such as "
            '{"type": "reset"}'
        )
    kind = str(fields.get("type"))
    if kind not in FIELDS:
        *others, last = FIELDS
        raise JinnError(f"the type of a message must be {', '.join(others)} or {last}")
    values: dict[str, Any] = {}
    for name in FIELDS[kind]:
        if name in fields or kind != "settings":
            value = _check(name, fields.get(name), limits)
            if value is not None or name == "idle":
                values[name] = value
    return Message(kind, settings=values) if kind == "settings" else Message(kind, **values)


def _check(name: str, value: Any, limits: Limits) -> Any:
    """The value of a field. Whole numbers may be None; other numbers are rounded to hundredths."""
    match name:
        case "text":
            fits = isinstance(value, str) and value.strip() and len(value) <= limits.max_text
            wanted = f"a description of 1 to {limits.max_text} characters"
        case "session":
            fits = isinstance(value, str)
            wanted = "the name that the server gave to a session"
        case "paused" | "look_ahead":
            fits = isinstance(value, bool)
            wanted = "true or false"
        case "fps" | "temperature":
            low, high = limits.fps_range if name == "fps" else limits.temperature_range
            fits = type(value) in (int, float) and low <= value <= high
            wanted = f"a number from {low:g} to {high:g}"
        case _:
            first, last = _whole_numbers(limits)[name]
            fits = value is None or (type(value) is int and first <= value <= last)
            wanted = f"a whole number from {first} to {last}"
    if not fits:
        raise JinnError(f"{name} must be {wanted}")
    return round(value, 2) if isinstance(value, float) else value


def _whole_numbers(limits: Limits) -> dict[str, tuple[int, int]]:
    """The smallest and the largest value of each field that is a whole number."""
    uint32 = 0, 2**32 - 1
    actions = 0, limits.actions - 1
    return {
        "prompt": (0, limits.prompts - 1),
        "frames": (0, limits.max_clip_frames),
        "seed": (0, 2**63 - 1),
        "action": actions,
        "idle": actions,
        "id": uint32,
        "step": uint32,
        "frame": uint32,
        "depth": (1, limits.max_what_if_frames),
        "steps": limits.steps_range,
    }
