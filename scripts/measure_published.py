"""Measure a published page in a real browser: its first frame, its pace, what it needs, and that it plays offline.

    jinn publish platforms coinrun boxing --out site
    python scripts/measure_published.py site --world platforms --browser chromium --cores 1
    python scripts/measure_published.py site --world platforms --browser firefox --cores 2 --frames 10000
    python scripts/measure_published.py site --world platforms --cores 2 --threads 2

A plain web server of Python's gives the folder below a path, as a host of static files does. The page is visited twice:
the second time, with everything kept by the browser, is the warm one; then the server is gone, and the page is visited
again. There a key is held at the fastest pace. Memory is that of all processes of the browser, which share some of it,
so it is an upper bound.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # whose browsers these are

from browsers import launched

PLACE = "some/folder"  # of the host
WAIT = 300.0  # seconds until something counts as never happening
STEP = 2000  # frames between two looks at the memory


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A plain web server that prints nothing."""

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@contextmanager
def hosted(site: Path, threads: int | None = None) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a site below a path of a plain web server, and what ends that server.

    With `threads` the page believes that it is on a machine of twice as many cores, and so may use them.
    """
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / PLACE
        folder.parent.mkdir(parents=True)
        if threads is None:
            folder.symlink_to(site.resolve(), target_is_directory=True)
        else:
            shutil.copytree(site, folder)
            script = folder / "static/model.js"
            script.write_text(script.read_text().replace("navigator.hardwareConcurrency", str(2 * threads)))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=root))
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def stop() -> None:
            server.shutdown()
            server.server_close()

        yield f"http://127.0.0.1:{server.server_port}/{PLACE}/", stop


def until(page: Any, condition: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + WAIT
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise SystemExit(f"it never came true: {condition}; {page.evaluate('document.body.innerText')}")
        time.sleep(0.02)


def first_frame(page: Any, address: str) -> float:
    """Seconds from opening the page to its first frame."""
    begun = time.monotonic()
    page.goto(address)
    until(page, "(window.jinn?.frames ?? 0) >= 1")
    return time.monotonic() - begun


def megabytes() -> float:
    """Resident memory of all processes below this one."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(status.parent.name))
    found, rest = [], [os.getpid()]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    pages = 0
    for process in found:
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def play(page: Any, frames: int, key: str) -> None:
    """Hold a key for some frames, and print the pace, what a frame takes, and the memory now and then."""
    page.evaluate(
        "document.getElementById('look-ahead').checked && document.getElementById('look-ahead').click()"
    )
    speed = "document.getElementById('speed')"
    page.evaluate(f"({speed}.value = {speed}.max, {speed}.dispatchEvent(new Event('input')), 0)")
    page.evaluate("document.getElementById('screen').focus()")
    page.keyboard.down(key)
    begin = page.evaluate("jinn.frames")
    until(page, f"jinn.frames >= {begin + 30}")  # warm
    before, begun = page.evaluate("jinn.frames"), time.monotonic()
    times: list[float] = []
    looked = 0
    now = before
    while now - before < frames:
        now, model_ms = page.evaluate("[jinn.frames, jinn.modelMs]")
        times.append(model_ms)
        if (now - before) // STEP > looked:
            looked = (now - before) // STEP
            print(f"memory             {megabytes():6.0f} MB after {now - begin} frames", flush=True)
        time.sleep(0.5)  # seldom: asking takes time of the browser's
    rate = (now - before) / (time.monotonic() - begun)
    times.sort()
    print(f"frames/s           {rate:6.1f}  (over {now - before} frames, key {key} held)")
    print(
        f"a frame            {times[len(times) // 2]:6.1f} ms median, {times[len(times) // 10]:.1f} lowest tenth"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="folder that jinn publish made")
    parser.add_argument("--world", default="", help="name of one of several worlds")
    parser.add_argument("--browser", choices=("chromium", "firefox"), default="chromium")
    parser.add_argument("--cores", type=int, default=1, help="that the browser may use")
    parser.add_argument("--threads", type=int, help="that the page may use; default: half of the cores")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--key", default="4")
    options = parser.parse_args()
    every_core = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(every_core)[: options.cores]))  # which the browser inherits
    with ExitStack() as stack:
        address, stop = stack.enter_context(hosted(options.site, options.threads))
        address += f"{options.world}/" if options.world else ""
        page = stack.enter_context(launched(options.browser)).new_page()
        os.sched_setaffinity(0, every_core)
        print(f"first visit        {first_frame(page, address):6.1f} s to the first frame")
        until(page, "Boolean(navigator.serviceWorker?.controller)")
        time.sleep(3)  # it keeps the packs
        print(f"visited before     {first_frame(page, address):6.1f} s")
        threads = page.evaluate("[self.crossOriginIsolated, navigator.hardwareConcurrency].join()")
        print(f"isolated, cores    {threads}")
        stop()
        print(f"without a network  {first_frame(page, address):6.1f} s")
        play(page, options.frames, options.key)


if __name__ == "__main__":
    main()
