"""What does jinn do with damaged input? Each ends as a right result or as one sentence, soon and in little memory.

    python scripts/fuzz.py pictures worlds --inputs 1000 --seed 0
    python scripts/fuzz.py --replay fuzz-failures/worlds-0-17.zip

The first inputs of a kind are valid and must be read; the others are valid ones with one to three changes
(`fuzzing.mutations`): of bytes, or of the values that the bytes stand for. An input is refused by a `JinnError` whose
message is one sentence; a server also by closing a connection, and it must serve its other clients as before. Whatever
else happens is a failure: other exceptions, results that are not right, a crash, or more time or memory than the bounds
below. Inputs are read one after another in a process of its own, which is started anew after a failure. Those that
failed are kept as zip files, and the exit code is 1.
"""

from __future__ import annotations

import io
import multiprocessing
import re
import resource
import sys
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Literal

import tyro
from fuzzing.files import Files, write
from fuzzing.kinds import KINDS, Read
from fuzzing.mutations import damage

from jinn.errors import JinnError

SECONDS = 10.0  # of a processor for one input
HANG_SECONDS = 120.0  # until an answer comes; beyond them the process is killed
# By which the memory of the process may grow while it reads an input, as an upload on a server.
MEGABYTES = 768
HARD_MEGABYTES = 4096  # of address space: to ask for more fails, as on a machine without more
MAX_SENTENCE = 600  # characters of a message

Outcome = Literal["right", "refused", "failed"]


@dataclass(frozen=True)
class Result:
    """How an input ended: what was said, and what it took."""

    outcome: Outcome
    message: str
    seconds: float = 0.0
    megabytes: float = 0.0
    is_harmless: bool = False  # whether the process can read on


def make_input(valid: Sequence[Files], seed: int, number: int) -> Files:
    """The n-th input: first the valid ones, then damaged ones."""
    files = valid[number % len(valid)]
    return files if number < len(valid) else damage(files, Random(f"{seed} {number}"))


def attempt(read: Read, files: Files) -> Result:
    """Read an input in this process."""
    with TemporaryDirectory(prefix="jinn-fuzz-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name) / "input"
        folder.mkdir()
        write(files, folder)
        before, begun = reset_peak(), time.process_time()
        outcome: Outcome = "right"
        message = ""
        try:
            read(folder)
        except JinnError as error:
            message = str(error)
            wrong = not_a_sentence(message.replace(name, ""))
            outcome = "failed" if wrong else "refused"
            message = f"{wrong}: {message!r}\n{traceback.format_exc()}" if wrong else message
        except Exception:
            outcome, message = "failed", traceback.format_exc()
        is_harmless = True
        seconds, megabytes = time.process_time() - begun, peak_megabytes() - before
    for value, most, unit in ((seconds, SECONDS, "seconds"), (megabytes, MEGABYTES, "MB")):
        if value > most:
            is_harmless, outcome, message = (
                False,
                "failed",
                f"it took {value:.0f} {unit}, and at most {most:g} are allowed\n{message}",
            )
    return Result(outcome, message, seconds, megabytes, is_harmless)


def not_a_sentence(message: str) -> str:
    """Why a message cannot be shown to people as one sentence; empty if it can."""
    if not message or len(message) > MAX_SENTENCE:
        return f"a message of {len(message)} characters"
    if not message.isprintable():
        return "a message with line breaks or characters that cannot be printed"
    return ""


def reset_peak() -> float:
    """The present memory of this process in MB, from which `peak_megabytes` begins anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_megabytes()


def peak_megabytes() -> float:
    """The most memory that this process took, in MB."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(kind: str, inputs: Connection) -> None:
    """Read inputs until there are no more."""
    import torch

    torch.set_num_threads(1)
    with KINDS[kind].reading() as read:
        with suppress(OSError):
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            most = taken + HARD_MEGABYTES * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        inputs.send(None)  # it is ready
        with suppress(EOFError):  # there are no more
            while True:
                inputs.send(attempt(read, inputs.recv()))


class Reader:
    """A process that reads inputs of a kind, and the next one when it has ended."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.process: multiprocessing.process.BaseProcess | None = None

    def read(self, files: Files) -> Result:
        """How an input ends."""
        try:
            if self.process is None:
                self._start()
            self.inputs.send(files)
            if not self.inputs.poll(HANG_SECONDS):
                result = Result("failed", f"no answer in {HANG_SECONDS:g} seconds", HANG_SECONDS)
            else:
                result = self.inputs.recv()
        except (EOFError, OSError):
            assert self.process is not None
            self.process.join(5)
            result = Result("failed", f"the process ended with {self.process.exitcode}")
        if result.outcome == "failed" and not result.is_harmless:
            self.close()
        return result

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.inputs, theirs = spawn.Pipe()
        self.process = spawn.Process(target=work, args=(self.kind, theirs), daemon=False)
        self.process.start()
        theirs.close()
        self.inputs.recv()

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def fuzz(kind: str, inputs: int, seed: int, first: int, failures: Path) -> tuple[str, int]:
    """Read inputs of a kind; returns a row of the table, and how many failed."""
    valid, reader = KINDS[kind].valid(), Reader(kind)
    counts: Counter[str] = Counter()
    slowest = most = 0.0
    for number in range(first, max(inputs, len(valid))):
        files = make_input(valid, seed, number)
        result = reader.read(files)
        if number < len(valid) and result.outcome == "refused":
            result = Result("failed", f"a valid input was refused: {result.message}")
        counts[result.outcome] += 1
        slowest, most = max(slowest, result.seconds), max(most, result.megabytes)
        if result.outcome == "failed":
            path = failures / f"{kind}-{seed}-{number}.zip"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(zipped(files))
            print(f"{path}: {last_lines(result.message)}", flush=True)
        elif number % 100 == 99:
            print(f"{kind} {number + 1}: {dict(counts)}", flush=True)
    reader.close()
    figures = [counts.total(), *(counts[outcome] for outcome in ("right", "refused", "failed"))]
    return f"| {kind} | {' | '.join(map(str, figures))} | {slowest:.1f} s | {most:.0f} MB |", counts["failed"]


def last_lines(text: str) -> str:
    """The end of a traceback: where it happened, and what."""
    return " / ".join(line.strip() for line in text.strip().splitlines()[-5:])[-700:]


def zipped(files: Files) -> bytes:
    """Files as one."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def read_again(path: Path) -> int:
    """Read a kept input again."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    reader = Reader(path.name.partition("-")[0])
    result = reader.read(files)
    reader.close()
    print(f"{result.outcome}, {result.seconds:.1f} s, {result.megabytes:.0f} MB\n{result.message}")
    return int(result.outcome == "failed")


def main(
    kinds: tyro.conf.Positional[tuple[Literal[tuple(KINDS)], ...]] = tuple(KINDS),  # type: ignore[valid-type]
    /,
    inputs: int = 1000,
    seed: int = 0,
    first: int = 0,
    failures: Path = Path("fuzz-failures"),
    replay: Path | None = None,
) -> int:
    """Read damaged inputs of some kinds, and print a table; the exit code is 1 if any failed.

    Args:
        kinds: What is read; all kinds if none is named.
        inputs: Number of inputs of each kind.
        seed: Of the damage.
        first: The number of the first input, where a run is to go on.
        failures: Folder for the inputs that failed.
        replay: Read one of these again, and nothing else.
    """
    if replay is not None:
        return read_again(replay)
    rows = [fuzz(kind, inputs, seed, first, failures) for kind in kinds]
    print(
        "| kind | inputs | right | refused | failed | slowest | most memory |\n|---|---|---|---|---|---|---|"
    )
    print("\n".join(row for row, _ in rows))
    return int(any(failed for _, failed in rows))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
