"""Measure what a player feels: frames a second and the time from key to canvas, in a real browser.

    python scripts/measure_player.py --world platforms --seconds 20
    python scripts/measure_player.py --think 0.6        # with look-ahead; and --no-look-ahead
    python scripts/measure_player.py --browser firefox

Starts the player in this process, opens it in a headless browser, holds random keys for the given time,
and prints the figures that the page itself measures: a latency runs from the key going down to the frame
that answers it being drawn. The page, the server and the model share this machine's processors, as they do
for somebody who plays on a laptop. With --think the world waits between short presses that far apart: what a
player feels whose next frames were computed while he thought.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jinn.cli.play import load
from jinn.player.api import create_app
from jinn.player.server import running
from jinn.world.folder import find_world

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # whose browsers these are

from browsers import launched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="platforms", help="name or path of a world")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--fps", type=int, default=30, help="the pace asked of the server")
    parser.add_argument("--backend", default="auto", help="see jinn.world.backends")
    parser.add_argument("--think", type=float, default=0.0, help="seconds between presses; 0 holds keys")
    parser.add_argument("--look-ahead", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    parser.add_argument("--browser", choices=("chromium", "firefox"), default="chromium")
    args = parser.parse_args()

    # The graph of a built-in world is made here if it is missing, as jinn play does.
    world = load(find_world(args.world), "cpu", args.backend).with_backend(args.backend, args.threads)
    with running(create_app(world)) as address:
        measured = drive(address, args)
    latencies = measured["latencies"]
    ready = measured["ready"]
    print(f"frames/s           {measured['rate']:6.1f}  (asked for {args.fps})")
    print(f"model, last frame  {measured['modelMs']:6.1f} ms")
    print(f"key to canvas      {statistics.median(latencies):6.1f} ms median of {len(latencies)}")
    print(f"                   {np.percentile(latencies, 95):6.1f} ms p95")
    print(f"ready when asked   {100 * statistics.mean(ready):6.1f}% of frames")
    if any(ready) and args.think:
        known = [latency for latency, was in zip(latencies, ready, strict=True) if was]
        print(f"key to canvas      {statistics.median(known):6.1f} ms median of {len(known)} that were ready")
        print(f"                   {np.percentile(known, 95):6.1f} ms p95")


def drive(address: str, args: argparse.Namespace) -> dict[str, Any]:
    """Play random keys on the page for a while; return what it measured meanwhile."""
    with launched(args.browser) as browser:
        page = browser.new_page()
        page.goto(address)
        page.evaluate(f"document.getElementById('look-ahead').checked = {str(args.look_ahead).lower()}")
        page.locator("#speed").fill(str(args.fps))
        page.locator("#auto").set_checked(not args.think)
        page.wait_for_timeout(3000)  # the first frames warm the model and the browser up
        actions = page.evaluate("jinn.world.actions")
        before = page.evaluate("jinn.latencies.length = 0, jinn.ready.length = 0, jinn.frames")
        started = page.evaluate("performance.now()")
        chance = random.Random(0)
        while page.evaluate("performance.now()") < started + 1000 * args.seconds:
            key = "1234567890"[chance.randrange(min(actions, 10))]
            if args.think:
                page.keyboard.press(key)
                page.wait_for_timeout(1000 * args.think)
                continue
            page.keyboard.down(key)
            page.wait_for_timeout(chance.uniform(100, 600))
            page.keyboard.up(key)
            page.wait_for_timeout(chance.uniform(0, 150))
        fields = ("latencies", "ready", "modelMs", "frames")
        measured = {field: page.evaluate(f"jinn.{field}") for field in fields}
        elapsed = (page.evaluate("performance.now()") - started) / 1000
    return {**measured, "rate": (measured["frames"] - before) / elapsed}


if __name__ == "__main__":
    main()
