"""Damaged inputs of every kind: some dozens of those that scripts/fuzz.py makes, in this process."""

from __future__ import annotations

import io
import math
import mmap
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from random import Random

import fuzz
import pytest
from fuzzing.kinds import KINDS
from fuzzing.mutations import damage

from jinn.errors import JinnError

# How many are read besides the valid ones; 40 of the other kinds, which take less time.
INPUTS = {"runs": 6, "films": 12, "messages": 13, "worlds": 22, "configs": 21}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SECONDS", math.inf)  # no test depends on a clock
    if kind == "sessions" and not shutil.which("node"):
        pytest.skip("the page's modules are run by node")
    valid = KINDS[kind].valid()
    found: Counter[str] = Counter()
    with KINDS[kind].reading() as read:
        for number in range(len(valid) + INPUTS.get(kind, 40)):
            result = fuzz.attempt(read, fuzz.make_input(valid, 0, number))
            assert result.outcome != "failed", f"input {number}: {result.message}"
            assert number >= len(valid) or result.outcome == "right", f"a valid input: {result.message}"
            found[result.outcome] += 1
    assert min(found["right"], found["refused"]) > 1


def test_failures_are_found_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "MEGABYTES", 8)

    def crash(folder: Path) -> None:
        raise KeyError((folder / "a.json").read_text())

    def babble(folder: Path) -> None:
        error = JinnError("two")
        error.args = ("two\nlines",)
        raise error

    def hoard(folder: Path) -> None:
        # Not of the memory that the process has already and does not use.
        with mmap.mmap(-1, 32 * 2**20) as pages:
            pages.write(bytes(32 * 2**20))

    for read, words in ((crash, "KeyError"), (babble, "line breaks"), (hoard, "MB")):
        result = fuzz.attempt(read, {"a.json": b"{}"})
        assert result.outcome == "failed"
        assert words in result.message
    kept = fuzz.zipped({"a/b.bin": b"\0\1"})
    assert zipfile.ZipFile(io.BytesIO(kept)).read("a/b.bin") == b"\0\1"


@pytest.mark.slow  # a process imports all that jinn reads with
def test_a_run_counts_its_inputs_and_replays_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(("pictures",), inputs=12, failures=tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| pictures | 12 |")
    (tmp_path / "pictures-0-5.zip").write_bytes(fuzz.zipped({"a.png": b"\x89PNG"}))
    assert fuzz.main(replay=tmp_path / "pictures-0-5.zip") == 0
    assert capsys.readouterr().out.startswith("refused")


def test_the_same_seed_does_the_same_damage() -> None:
    files = KINDS["pictures"].valid()[0]
    assert damage(files, Random(1)) == damage(files, Random(1)) != damage(files, Random(2))
