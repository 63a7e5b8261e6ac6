"""The player's protocol, without a server: messages, frame headers, and what a client imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jinn.errors import JinnError
from jinn.player.protocol import NO_ACTION, FrameHeader, FrameKind, Limits, Message, parse

LIMITS = Limits(actions=5, prompts=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "start", "prompt": 2, "seed": 7}', Message("start", prompt=2, seed=7)),
        ('{"type": "start"}', Message("start", prompt=0, seed=None)),
        ('{"type": "start", "prompt": null}', Message("start", prompt=0)),
        (
            '{"type": "clip", "frames": 32, "seed": 9223372036854775807}',
            Message("clip", frames=32, seed=2**63 - 1),
        ),
        ('{"type": "text", "text": "a cave"}', Message("text", text="a cave", seed=None)),
        ('{"type": "reset", "seed": null}', Message("reset", seed=None)),
        ('{"type": "keys", "action": null, "id": 4294967295}', Message("keys", action=None, id=2**32 - 1)),
        ('{"type": "keys", "action": 4}', Message("keys", action=4, id=None)),
        ('{"type": "action", "action": 0, "id": 1}', Message("action", action=0, id=1)),
        ('{"type": "back", "step": 17}', Message("back", step=17)),
        ('{"type": "back"}', Message("back", step=None)),
        ('{"type": "what_if", "depth": 16}', Message("what_if", depth=16)),
        ('{"type": "what_if"}', Message("what_if", depth=4)),
        ('{"type": "settings"}', Message("settings", settings={})),
        ('{"type": "settings", "steps": null}', Message("settings", settings={})),
        (
            '{"type": "settings", "fps": 12, "paused": true, "idle": null, "steps": 2, "temperature": 0.123, '
            '"look_ahead": false}',
            Message(
                "settings",
                settings={
                    "fps": 12,
                    "paused": True,
                    "idle": None,
                    "steps": 2,
                    "temperature": 0.12,
                    "look_ahead": False,
                },
            ),
        ),
        ('{"type": "resume", "session": "abc"}', Message("resume", session="abc")),
        ('{"type": "ack", "frame": 41, "more": [], "seed": "x"}', Message("ack", frame=41)),
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
        ('{"type": "settings", "doubt": 1.5}', "doubt"),
        ('{"type": "settings", "doubt": "much"}', "doubt"),
        ('{"type": "resume", "session": 7}', "session"),
        ('{"type": "ack", "frame": 1.0}', "frame"),
    ],
)
def test_invalid_messages_are_refused_in_one_sentence(text: str, word: str) -> None:
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
    program = "import sys, jinn.player, jinn.player.client, jinn.web.film; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "starlette", "uvicorn"} & set(run.stdout.split())
