"""The player's protocol, without a server: messages, frame headers, and what a client imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jinn.errors import JinnError
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

LIMITS = Limits(actions=5, prompts=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "start", "prompt": 2, "seed": 7}', Start(2, 7)),
        ('{"type": "start"}', Start(0, None)),
        ('{"type": "clip", "frames": 32, "seed": 9223372036854775807}', Clip(32, 2**63 - 1)),
        ('{"type": "text", "text": "a cave"}', Text("a cave", None)),
        ('{"type": "reset", "seed": null}', Reset(None)),
        ('{"type": "keys", "action": null, "id": 4294967295}', Keys(None, 2**32 - 1)),
        ('{"type": "keys", "action": 4}', Keys(4, None)),
        ('{"type": "action", "action": 0, "id": 1}', Press(0, 1)),
        ('{"type": "back", "step": 17}', Back(17)),
        ('{"type": "back"}', Back(None)),
        ('{"type": "what_if", "depth": 16}', WhatIf(16)),
        ('{"type": "what_if"}', WhatIf(4)),
        ('{"type": "settings"}', Settings(None, None, None, "unchanged", None, None)),
        (
            '{"type": "settings", "fps": 12, "paused": true, "idle": null, "steps": 2, "temperature": 0.123, '
            '"look_ahead": false}',
            Settings(12.0, True, False, None, 2, 0.12),
        ),
        ('{"type": "resume", "session": "abc"}', Resume("abc")),
        ('{"type": "ack", "frame": 41, "more": []}', Ack(41)),
    ],
)
def test_messages_are_parsed(text: str, message: Message) -> None:
    assert parse(text, LIMITS) == message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[1]", "JSON"),
        ('{"type": "ack"}' + " " * 16_384, "JSON"),
        ('{"type": "ack", "frame": ' + "9" * 9999 + "}", "JSON"),
        ("{}", "type"),
        ('{"type": ["keys"]}', "type"),
        ('{"type": "play"}', "type"),
        ('{"type": "start", "prompt": 3}', "prompt"),
        ('{"type": "start", "seed": "x"}', "seed"),
        ('{"type": "clip", "frames": 33}', "frames"),
        ('{"type": "text"}', "text"),
        ('{"type": "text", "text": " "}', "text"),
        ('{"type": "text", "text": 7}', "text"),
        ('{"type": "keys", "action": 5}', "action"),
        ('{"type": "action", "action": -1}', "action"),
        ('{"type": "keys", "action": true}', "action"),
        ('{"type": "keys", "action": 1e400}', "action"),
        ('{"type": "keys", "action": 0, "id": 4294967296}', "id"),
        ('{"type": "back", "step": -1}', "step"),
        ('{"type": "what_if", "depth": 1000}', "depth"),
        ('{"type": "settings", "fps": 0}', "fps"),
        ('{"type": "settings", "fps": null}', "fps"),
        ('{"type": "settings", "fps": NaN}', "fps"),
        ('{"type": "settings", "paused": 1}', "paused"),
        ('{"type": "settings", "look_ahead": null}', "look_ahead"),
        ('{"type": "settings", "idle": 5}', "idle"),
        ('{"type": "settings", "steps": 0}', "steps"),
        ('{"type": "settings", "steps": 2.5}', "steps"),
        ('{"type": "settings", "temperature": -1}', "temperature"),
        ('{"type": "resume", "session": 7}', "session"),
        ('{"type": "ack", "frame": 1.0}', "frame"),
    ],
)
def test_garbage_is_refused_in_a_sentence(text: str, word: str) -> None:
    with pytest.raises(JinnError, match=word):
        parse(text, LIMITS)


def test_the_header_of_a_frame_is_these_24_bytes() -> None:
    header = FrameHeader(FrameKind.WHAT_IF, True, NO_ACTION, 1, 2**32 - 1, 258, 0.5, -2.0)
    data = bytes.fromhex("04 01 ffff 01000000 ffffffff 02010000 0000003f 000000c0")
    assert header.pack() == data
    assert FrameHeader.SIZE == 24
    assert FrameHeader.unpack(data + b"pixels") == header
    assert [kind.value for kind in FrameKind] == [0, 1, 2, 3, 4]


def test_a_client_needs_neither_torch_nor_a_web_server() -> None:
    program = "import sys, jinn.player, jinn.player.client, jinn.player.film; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "starlette", "uvicorn"} & set(run.stdout.split())
