"""Session files, for `fuzz.py`: the page reads them, so its module runs in node."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinn.errors import JinnError
from jinn.player.api import STATIC
from jinn.player.protocol import Limits, parse

LIMITS = Limits(actions=5, prompts=2)
HEAP_MEGABYTES = 256  # of node: a session that takes more would end the page
# What the page knows of a world, as `/api/world` tells it.
WORLD = {
    "id": "0123abcd-torch",
    "name": "small",
    "actions": LIMITS.actions,
    "prompts": LIMITS.prompts,
    "max_clip_frames": LIMITS.max_clip_frames,
    "sampling": {"steps": 6, "temperature": 0.0, "doubt": 0.3},
    "steps_range": LIMITS.steps_range,
    "temperature_range": LIMITS.temperature_range,
    "doubt_range": LIMITS.doubt_range,
}
# What the page does with a session, as far as that needs no browser. A sentence is an Error; other mistakes have types.
PROGRAM = """
import {{ readSession, Tape }} from "{tape}";
import {{ createInterface }} from "node:readline";
const world = {world};
for await (const line of createInterface({{ input: process.stdin }})) {{
  let answer;
  try {{
    const {{ prompt, seed, script, last }} = readSession(Buffer.from(line, "base64").toString(), world);
    prompt.pictures?.forEach((url) => atob(url.split(",")[1]));
    const tape = new Tape(10);
    tape.start(prompt, seed, new Uint8Array(3));
    const saved = tape.toSession(world, script, last).keys.length;
    answer = {{ prompt: prompt.pictures ? null : prompt.index, seed, first: script.slice(0, 100), saved }};
  }} catch (error) {{
    answer = error.constructor === Error ? {{ refused: error.message }} : {{ failed: error.stack }};
  }}
  console.log(JSON.stringify(answer));
}}
"""


@contextmanager
def reading_sessions() -> Iterator[Callable[[Path], None]]:
    """The page's module in node; what it accepts, the server must accept too."""
    node = shutil.which("node")
    if node is None:
        raise JinnError("session files are read by the page: install node, or leave out the sessions")
    program = PROGRAM.format(tape=(STATIC / "tape.js").as_uri(), world=json.dumps(WORLD))
    command = [node, f"--max-old-space-size={HEAP_MEGABYTES}", "--input-type=module", "-e", program]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(folder: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(base64.b64encode((folder / "session.json").read_bytes()).decode() + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise AssertionError("the page's process has ended")
        check_answer(json.loads(line))

    try:
        yield read
    finally:
        process.kill()
        process.communicate()


def check_answer(answer: dict[str, Any]) -> None:
    """Raise `JinnError` if the page refuses a session, AssertionError unless it can be played on the server."""
    if "failed" in answer:
        raise AssertionError(answer["failed"])
    if "refused" in answer:
        raise JinnError(answer["refused"])
    messages: list[dict[str, Any]] = [{"type": "start", "prompt": answer["prompt"], "seed": answer["seed"]}]
    for key in answer["first"]:
        chosen = {name: key[name] for name in ("steps", "temperature", "doubt")}
        messages += [{"type": "settings", **chosen}, {"type": "action", "action": key["action"]}]
    for message in messages:
        try:
            parse(json.dumps(message), LIMITS)
        except JinnError as error:
            raise AssertionError(f"the page accepts what the server refuses: {message}, {error}") from None
