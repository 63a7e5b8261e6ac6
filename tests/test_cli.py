"""The command line as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from jinn.cli import main
from jinn.data.store import FrameStore
from jinn.data.synthetic import game_rollout
from jinn.files import read_tensors

av = pytest.importorskip("av", reason="LOUD: videos cannot be tested without the extra 'video'")

from test_data_video import save  # noqa: E402


def jinn(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "jinn.cli", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("command", [(), ("data",), ("train",), ("play",), ("eval",), ("label",)])
def test_every_help_reads_well(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "usage: jinn" in said
    assert "tyro" not in said.lower()


def test_the_defaults_of_train_are_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--recipe", "tiny", "--help"])
    said = capsys.readouterr().out
    assert "(default: 32 32)" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere", "--out", "x"], "not a frame store"),
        (["train", "nowhere", "--out", "x", "--recipe", "huge"], "no recipe 'huge': choose one of tiny"),
        (["play", "atlantis"], "no world at 'atlantis'"),
        (["eval", "atlantis", "nowhere"], "no world at 'atlantis'"),
        (["eval", "coinrun"], "needs a frame store"),
        (["eval"], "needs a frame store"),
        (["label", "atlantis", "nowhere", "--out", "x"], "no world at 'atlantis'"),
        (["data", "nowhere.mp4", "--out", "x"], "nowhere.mp4"),
        (["data", "envpool:CoinrunHard-v0", "--out", "x", "--levels", "five"], "START:COUNT"),
        (["data", "--out", "x"], "source"),
    ],
)
def test_mistakes_are_one_sentence_and_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    assert code == 2
    assert words in said.err
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_impossible_values_are_told() -> None:
    done = jinn("train", "nowhere", "--out", "x", "--dynamics.clean-frames", "3")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    assert "at least 0 and below 1" in done.stderr + done.stdout


def shots(seed: int, size_hw: tuple[int, int]) -> list[np.ndarray]:
    return list(game_rollout(seed, 60, size_hw)[0])


def test_own_videos_become_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder that people have: four sorts of good files, a phone video, two that are none."""
    folder = tmp_path / "my_videos"
    folder.mkdir()
    save(folder / "a.mp4", shots(0, (96, 128)))
    save(folder / "b.webm", shots(1, (64, 64)), codec="libvpx")
    save(folder / "c.gif", shots(2, (64, 64)), codec="gif", pix_fmt="rgb8", rate=10)
    save(folder / "phone.mp4", shots(3, (96, 128)), turn=90)
    times = np.cumsum(np.random.default_rng(0).choice([0.02, 0.05, 0.1], 60))
    save(folder / "vfr.mp4", shots(4, (64, 96)), times=list(times))
    (folder / "notes.mp4").write_text("these are only words\n")
    (folder / "empty.mp4").write_bytes(b"")

    store = tmp_path / "store"
    assert main(["data", str(folder), "--out", str(store), "--size", "32", "32"]) == 0
    said = capsys.readouterr().out
    assert "2 files skipped" in said
    assert "notes.mp4" in said
    assert "empty.mp4" in said
    opened = FrameStore.open(store)
    assert opened.num_episodes == 5
    assert len(opened.select("heldout")) >= 1

    run = tmp_path / "run"
    steps = ["--tokenizer-training.steps", "30", "--dynamics-training.steps", "30"]
    when = ["--latent-action-training.steps", "20"]
    assert main(["train", str(store), "--out", str(run), "--recipe", "tiny", *steps, *when]) == 0
    assert "jinn play" in capsys.readouterr().out

    small = ["--frames", "6", "--clips", "8", "--long-rollouts", "2", "--long-frames", "30"]
    assert main(["eval", str(run), "--out", str(tmp_path / "report"), *small]) == 0  # on its own store
    assert "one held-out level or video only" in " ".join(capsys.readouterr().out.split())
    measured = json.loads((tmp_path / "report" / "report.json").read_text())["worlds"][0]
    assert set(measured["training"]) == {"tokenizer", "latent_actions", "dynamics"}
    psnr = measured["figures"]["tokenizer/psnr"]
    assert psnr["low"] <= psnr["value"] <= psnr["high"]
    assert psnr["value"] > 10

    labels = tmp_path / "labels.safetensors"
    assert main(["label", str(run), str(store), "--out", str(labels)]) == 0
    tensors = read_tensors(labels)
    assert len(tensors["actions"]) == opened.num_frames == int(tensors["lengths"].sum())
    assert bool((tensors["actions"] < 5).all())
    assert tensors["actions"].dtype == torch.int64
