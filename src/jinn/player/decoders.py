"""Pictures of strangers are decoded in processes of their own, with little memory and time, which can be ended.

A crafted file of some kilobytes may grow to gigabytes, or keep a decoder busy for minutes, and a thread cannot be
ended. A process answers one upload after another, so that a clip need not wait for 32 interpreters to start; one that
takes too long, or whose session ends, is killed.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from jinn.data.images import Fit
from jinn.errors import JinnError
from jinn.player.pictures import read_pictures
from jinn.player.protocol import Limits


class Decoders:
    """The processes of a server that decode pictures: at most `Limits.max_decodes`, one for each network address."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.slots = asyncio.Semaphore(limits.max_decodes)
        self.turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by network address
        self.waiting: list[Process] = []  # for the next picture

    async def read(
        self,
        address: str,
        data: bytes,
        size_hw: tuple[int, int],
        max_frames: int,
        fps: float,
        fit: Fit = "crop",
    ) -> np.ndarray:
        """`read_pictures` of an upload from a network address, uint8 ``frames_THWC``.

        Raises:
            JinnError: as `read_pictures`; or decoding takes too much time or memory.
        """
        turn = self.turns.setdefault(address, asyncio.Lock())
        async with turn, self.slots:
            process = self.waiting.pop() if self.waiting else await self._start()
            request = {
                "bytes": len(data),
                "size_hw": size_hw,
                "max_frames": max_frames,
                "fps": fps,
                "fit": fit,
            }
            try:
                async with asyncio.timeout(self.limits.decode_seconds):
                    answer, pixels = await _ask(process, request, data)
            except TimeoutError:
                await _end(process)
                seconds = self.limits.decode_seconds
                raise JinnError(
                    f"the picture takes more than {seconds:g} seconds to decode: save it as a PNG"
                ) from None
            except (OSError, EOFError, ValueError):  # it ended: the memory was too little even for an answer
                await _end(process)
                raise JinnError("the picture cannot be decoded: save it smaller or as a PNG") from None
            except BaseException:
                await _end(process)
                raise
            self.waiting.append(process)
        if "error" in answer:
            raise JinnError(answer["error"])
        return np.frombuffer(pixels, np.uint8).reshape(answer["shape"]).copy()

    async def close(self) -> None:
        """End the processes that wait; those that decode end with the sessions of their players."""
        while self.waiting:
            await _end(self.waiting.pop())

    async def _start(self) -> Process:
        command = [sys.executable, "-m", "jinn.player.decoders", json.dumps(asdict(self.limits))]
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each would take memory
        environment = {**os.environ, **one_thread}
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
        )


async def _ask(process: Process, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """What a process answers to a request: a shape and pixels, or an error."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n" + data)
    await process.stdin.drain()
    answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer, await process.stdout.readexactly(math.prod(answer.get("shape", [0])))


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def main() -> None:
    """Answer requests at the standard input, one after another, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
    limits = Limits(**json.loads(sys.argv[1]))
    with suppress(ImportError, ValueError, OSError):  # not on every system; the time is limited on all
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limits.decode_bytes, limits.decode_bytes))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request.pop("bytes"))
        try:
            frames_THWC = read_pictures(data, limits=limits, **request)
            answers.write(json.dumps({"shape": frames_THWC.shape}).encode() + b"\n" + frames_THWC.tobytes())
        except JinnError as error:
            answers.write(json.dumps({"error": str(error)}).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
