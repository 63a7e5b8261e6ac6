"""The player's protocol: messages of a client, the header of a frame, and every limit of the server.

docs/protocol.md describes the protocol. This module needs nothing but the standard library, so that a client
imports neither torch nor a web server.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, ClassVar, Literal

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

    def max_film_frames(self, height: int, width: int) -> int:
        """The number of RGB frames that a film may have."""
        return self.max_film_bytes // (3 * height * width)

    def reported(self) -> dict[str, Any]:
        """The limits that ``/api/world`` reports to clients."""
        names = (
            "actions prompts fps_range steps_range temperature_range max_clip_frames max_what_if_frames "
            "max_text max_upload_bytes"
        )
        return {name: getattr(self, name) for name in names.split()}


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


@dataclass(frozen=True)
class Start:
    """Start from a prompt of the world; seed None: a random one."""

    prompt: int
    seed: int | None


@dataclass(frozen=True)
class Clip:
    """The next ``frames`` uploads are one prompt; 0: the next upload is a prompt by itself."""

    frames: int
    seed: int | None


@dataclass(frozen=True)
class Text:
    """Start from a picture of a text."""

    text: str
    seed: int | None


@dataclass(frozen=True)
class Reset:
    """Start again from the same prompt."""

    seed: int | None


@dataclass(frozen=True)
class Keys:
    """The action that is held from now on; None: no key is down. An id of None leaves the last one."""

    action: int | None
    id: int | None


@dataclass(frozen=True)
class Press:
    """Play one frame of an action, even if paused."""

    action: int | None
    id: int | None


@dataclass(frozen=True)
class Back:
    """Go back to a step of this roll-out; None: the newest."""

    step: int | None


@dataclass(frozen=True)
class WhatIf:
    """Send the frames that each action would lead to, were it held for ``depth`` frames."""

    depth: int


@dataclass(frozen=True)
class Settings:
    """Settings to change; a setting of None stays as it is.

    Attributes:
        fps: frames per second.
        paused: whether only presses are played.
        look_ahead: whether frames are computed before the player asks for them.
        idle: the action that is played while no key is down; None: the world waits.
        steps: MaskGIT steps per frame.
        temperature: sampling temperature, in hundredths: the server remembers every setting that was used.
    """

    fps: float | None
    paused: bool | None
    look_ahead: bool | None
    idle: int | Literal["unchanged"] | None
    steps: int | None
    temperature: float | None


@dataclass(frozen=True)
class Resume:
    """Continue a session that lost its connection."""

    session: str


@dataclass(frozen=True)
class Ack:
    """The client has shown all frames up to this number."""

    frame: int


Message = Start | Clip | Text | Reset | Keys | Press | Back | WhatIf | Settings | Resume | Ack


def parse(text: str, limits: Limits) -> Message:
    """Read a JSON message. A message with one bad field is refused as a whole.

    Args:
        text: the message.
        limits: the limits of its fields.

    Raises:
        JinnError: the text is not a message of the protocol; the sentence names the field.
    """
    fields = _read_object(text, limits)
    uint32 = 0, 2**32 - 1
    match fields.get("type"):
        case "start":
            return Start(_whole(fields, "prompt", 0, limits.prompts - 1) or 0, _seed(fields))
        case "clip":
            return Clip(_whole(fields, "frames", 0, limits.max_clip_frames) or 0, _seed(fields))
        case "text":
            return Text(_text(fields, limits), _seed(fields))
        case "reset":
            return Reset(_seed(fields))
        case "keys":
            return Keys(_whole(fields, "action", 0, limits.actions - 1), _whole(fields, "id", *uint32))
        case "action":
            return Press(_whole(fields, "action", 0, limits.actions - 1), _whole(fields, "id", *uint32))
        case "back":
            return Back(_whole(fields, "step", *uint32))
        case "what_if":
            return WhatIf(_whole(fields, "depth", 1, limits.max_what_if_frames) or 4)
        case "settings":
            return _settings(fields, limits)
        case "resume":
            return Resume(_session(fields))
        case "ack":
            return Ack(_whole(fields, "frame", *uint32) or 0)
    raise JinnError(
        "the type of a message must be start, clip, text, reset, keys, action, back, what_if, settings, "
        "resume or ack"
    )


def _read_object(text: str, limits: Limits) -> dict[str, Any]:
    try:  # other sessions would wait while a long message is parsed
        fields = json.loads(text) if len(text) <= limits.max_message else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise JinnError(
            f"a message must be a JSON object of at most {limits.max_message} characters, such as "
            '{"type": "reset"}'
        )
    return fields


def _settings(fields: Mapping[str, Any], limits: Limits) -> Settings:
    temperature = _number(fields, "temperature", *limits.temperature_range)
    return Settings(
        fps=_number(fields, "fps", *limits.fps_range),
        paused=_flag(fields, "paused"),
        look_ahead=_flag(fields, "look_ahead"),
        idle=_whole(fields, "idle", 0, limits.actions - 1) if "idle" in fields else "unchanged",
        steps=_whole(fields, "steps", *limits.steps_range),
        temperature=None if temperature is None else round(temperature, 2),
    )


def _seed(fields: Mapping[str, Any]) -> int | None:
    return _whole(fields, "seed", 0, 2**63 - 1)


def _text(fields: Mapping[str, Any], limits: Limits) -> str:
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip() or len(text) > limits.max_text:
        raise JinnError(f"text must be a description of 1 to {limits.max_text} characters")
    return text


def _session(fields: Mapping[str, Any]) -> str:
    session = fields.get("session")
    if not isinstance(session, str):
        raise JinnError("session must be the name that the server gave to a session")
    return session


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """A whole number from low to high; None if there is none of that name."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise JinnError(f"{name} must be a whole number from {low} to {high}")
    return value


def _number(fields: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    """A number from low to high; None if there is none of that name."""
    if name not in fields:
        return None
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise JinnError(f"{name} must be a number from {low:g} to {high:g}")
    return float(value)


def _flag(fields: Mapping[str, Any], name: str) -> bool | None:
    """True or false; None if there is none of that name."""
    if name not in fields:
        return None
    value = fields[name]
    if not isinstance(value, bool):
        raise JinnError(f"{name} must be true or false")
    return value
