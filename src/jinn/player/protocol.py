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
    """What clients may ask of a server, and how much of it. Ranges include both ends."""

    actions: int = 0  # number of actions of the world
    prompts: int = 0  # number of prompts of the world
    fps_range: tuple[float, float] = (1.0, 30.0)  # frames per second
    steps_range: tuple[int, int] = (1, 25)  # MaskGIT steps per frame
    temperature_range: tuple[float, float] = (0, 4.0)  # sampling temperature
    doubt_range: tuple[float, float] = (-1.0, 1.0)  # doubt about the action
    max_clip_frames: int = 32  # frames of a prompt clip
    max_what_if_frames: int = 16  # frames that each action is played for in a what-if
    max_text: int = 1000  # characters of a text prompt
    max_waiting_texts: int = 8  # text prompts that wait for the text-to-image model
    max_upload_bytes: int = 4 * 2**20  # bytes of an uploaded picture
    max_picture_pixels: int = 32 * 10**6  # of an uploaded picture, all frames of an animation together
    max_animation_frames: int = 1000  # frames of an uploaded animation
    max_decodes: int = 2  # pictures that are decoded at a time, one for each network address
    decode_seconds: float = 10.0  # time in which a picture must be decoded
    decode_bytes: int = 768 * 2**20  # memory of a process that decodes pictures
    max_film_bytes: int = 48 * 2**20  # bytes of a film's uncompressed frames
    max_films: int = 2  # films that are encoded at a time
    film_upload_seconds: float = 60.0  # time in which the frames of a film must arrive
    max_message: int = 16_384  # characters of a JSON message
    # Rate at which messages are read in the long run. Ten fingers send about fifty a second, and each frame is
    # acknowledged. A client that sends faster is delayed, and disconnected after `flood_seconds` of delay: its
    # messages would still be read long after it has left.
    messages_per_second: int = 150
    messages_at_once: int = 300  # messages that may arrive in one burst
    flood_seconds: float = 5.0
    players: int = 64  # sessions that play at a time
    max_queue: int = 256  # clients that wait for a free session; later ones are refused
    sockets_per_address: int | None = None  # open sockets, waiting ones included; None: any number
    idle_seconds: float = 900.0  # time without input after which a session ends
    idle_seconds_when_full: float = 60.0  # the same while other clients wait
    start_seconds_when_full: float = 10.0  # the same for a session without a roll-out, while others wait
    max_parked: int = 32  # sessions without a connection that can be resumed
    parked_seconds: float = 120.0  # time for which they can be resumed
    parked_states: int = 3  # states that are cached for each of them
    parked_bytes: int = 256 * 2**20  # memory of all of them
    max_back: int = 200_000  # frames of a session that one can go back, about a hundred bytes each
    history_bytes: int = 32 * 2**20  # memory for the cached states of one session
    all_history_bytes: int = 2 * 2**30  # the same for all sessions that play; each has its share


DEFAULT_LIMITS = Limits()


class FrameKind(IntEnum):
    """What a frame shows."""

    NEXT = 0  # the world one step later
    START = 1  # the newest prompt frame, as the tokenizer reconstructs it
    PROMPT = 2  # a prompt frame after cropping and resizing; not to be acknowledged
    BACK = 3  # an earlier frame that the player went back to
    WHAT_IF = 4  # a frame that an action would lead to; not to be acknowledged


@dataclass(frozen=True)
class FrameHeader:
    """The bytes before the pixels of a frame from the server."""

    kind: FrameKind
    ready: bool  # whether the frame was computed before the player asked for it
    action: int  # the action that led to the frame; `NO_ACTION` if none did
    number: int  # the frame's number in its connection, counted from 1; 0 if it is not to be acknowledged
    key: int  # the id of the latest key message that the frame takes into account
    step: int  # frames since the prompt
    model_ms: float  # milliseconds in the model, for the whole batch that the frame was part of
    waited_ms: float  # milliseconds from the frame's turn until it was sent

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


# The types of a client's messages and their fields.
FIELDS = {
    "start": ("prompt", "seed"),
    "clip": ("frames", "seed"),
    "text": ("text", "seed"),
    "reset": ("seed",),
    "keys": ("action", "id"),
    "action": ("action", "id"),
    "back": ("step",),
    "what_if": ("depth",),
    "settings": ("fps", "paused", "look_ahead", "idle", "steps", "temperature", "doubt"),
    "resume": ("session",),
    "ack": ("frame",),
    "ping": (),
}


@dataclass(frozen=True)
class Message:
    """A message of a client, as docs/protocol.md describes it. What it does not say has the default."""

    type: str  # a key of `FIELDS`
    prompt: int = 0  # index of the prompt to start from
    frames: int = 0  # the number of uploads that are one prompt; 0: the next upload is a prompt by itself
    text: str = ""  # start from a picture of it
    seed: int | None = None  # seed of the roll-out; None: a random one
    action: int | None = None  # the action to hold or to play; None: no key is down
    id: int | None = None  # number of this key message; None leaves the last one
    step: int | None = None  # the step of this roll-out to go back to; None: the newest
    depth: int = 4  # frames for which a what-if holds each action
    session: str = ""  # name of the session to continue
    frame: int = 0  # the client has shown all frames up to this number
    settings: Mapping[str, Any] = field(default_factory=dict)  # the settings to change


def parse(text: str, limits: Limits) -> Message:
    """Read a JSON message; one with a bad field, which the `JinnError` names, is refused as a whole."""
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
        case "fps" | "temperature" | "doubt":
            low, high = getattr(limits, f"{name}_range")
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
