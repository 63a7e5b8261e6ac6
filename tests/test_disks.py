"""Disks that are full or may not be written, and what killed processes leave: a sentence, and nothing half."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers_world import small_world
from jinn.cli import main
from jinn.data.store import FrameStore
from jinn.data.synthetic import write_game
from jinn.files import TEMPORARY, cache_folder, read_json, replacing, temporary_folder, what_to_do, write_json
from jinn.player.publish import Exported, Site, earlier_files, publish
from jinn.player.runtime import Runtime
from jinn.world.web import WebWorld

resource = pytest.importorskip("resource", reason="the size of files is limited by POSIX systems only")

TRAIN = """train store --out out/run --device cpu --recipe tiny --set sampling.steps=2 self_rollout_training=none
    tokenizer_training.steps=2 tokenizer_training.batch=2 tokenizer_training.warmup=1
    latent_action_training.steps=2 latent_action_training.batch=2 latent_action_training.warmup=1
    dynamics_training.steps=2 dynamics_training.batch=2 dynamics_training.warmup=1"""
EVAL = "--quick --clips 2 --frames 4 --draws 1 --long-rollouts 2 --long-frames 60 --device cpu"


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """What needs no rights of an administrator: files that would be larger cannot be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a store and an untrained world."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JINN_CACHE", str(tmp_path / "cache"))
    write_game(tmp_path / "store", episodes=20, length=65, seed=0)
    small_world().save(tmp_path / "world")
    return tmp_path


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".tmp")]


@pytest.mark.parametrize(
    ("command", "size"),
    [
        ("data synthetic:game --size 32 32 --frames 200 --out out/store", 100_000),
        ("label world store --out out/labels.safetensors", 8_000),
        ("teach world store --out out/taught", 100_000),
        pytest.param(TRAIN, 50_000, marks=pytest.mark.slow),
        pytest.param(f"eval world store --out out/report {EVAL}", 20_000, marks=pytest.mark.slow),
        pytest.param("export world --precision float32", 200_000, marks=pytest.mark.long),
    ],
)
def test_a_full_disk_is_a_sentence_and_the_same_command_goes_on(
    command: str, size: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_file_above(size):
        assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert "File too large" in said
    assert "make room, and " in said
    assert "Traceback" not in said
    assert main(command.split()) == 0
    assert leftovers(here) == []
    if command.startswith("data"):
        assert FrameStore.open(here / "out/store").lengths.tolist() == [100, 100]


def test_a_site_on_a_full_disk_goes_on(tmp_path: Path) -> None:
    """Also if the first attempt was of another world, whose files nobody needs any more."""
    runtime = Runtime(b"script", os.urandom(1000))
    world = small_world()

    def write(folder: Path, weights: bytes) -> set[str]:
        exported = Exported(world, WebWorld({"frame": b"graph"}, weights))
        publish({"tiny": exported}, folder, Site("title", "sentence"), runtime)
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    weights, site = os.urandom(200_000), tmp_path / "site"
    wanted = write(tmp_path / "whole", weights)
    for attempt in (os.urandom(200_000), weights):
        with no_file_above(100_000), pytest.raises(OSError, match="File too large"):
            write(site, attempt)
        assert earlier_files(site)  # it is known as a site, although its service worker is missing
        assert not (site / "sw.js").exists()
    assert write(site, weights) == wanted
    assert all((site / path).read_bytes() == (tmp_path / "whole" / path).read_bytes() for path in wanted)


@pytest.mark.parametrize(
    "command",
    [
        "data synthetic:game --size 32 32 --frames 200 --out {}/store",
        TRAIN.replace("out/run", "{}/run"),
        "label world store --out {}/labels.safetensors",
        "teach world store --out {}/taught",
        f"eval world store --out {{}}/report {EVAL}",
        "publish world --anyway --out {}/site",
    ],
)
def test_a_forbidden_folder_is_a_sentence(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = here / "forbidden"
    place.mkdir(mode=0o555)
    if os.access(place, os.W_OK):
        place = Path("/sys/fs")  # an administrator may write everywhere but in what the kernel shows
        if not place.exists():
            pytest.skip("administrators may write everywhere here")
    assert main(command.format(place).split()) == 2
    said = capsys.readouterr().err
    assert str(place) in said
    assert "may not be read or written" in said
    assert "name another place" in said


def test_sentences_name_the_variables_of_other_folders() -> None:
    said = what_to_do(PermissionError(13, "Permission denied", str(cache_folder() / "real")))
    assert "set JINN_CACHE to another folder" in said
    said = what_to_do(PermissionError(13, "Permission denied", f"/tmp/jinn-export.1{TEMPORARY}"))
    assert "set TMPDIR to another folder" in said
    assert what_to_do(FileNotFoundError(2, "No such file", "x.png")) == "x.png: No such file"
    assert what_to_do(OSError("odd")) == "odd"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, "old")
    for _ in range(3):
        child = os.fork()
        if not child:
            with replacing(path) as temporary:
                temporary.write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert len(leftovers(tmp_path)) == 1  # the next one removed that of the one before
        assert read_json(path) == "old"
    with temporary_folder("used", tmp_path) as used:
        write_json(path, "new")
        assert leftovers(tmp_path) == [used]
    assert read_json(path) == "new"
    assert sorted(tmp_path.iterdir()) == [path]
