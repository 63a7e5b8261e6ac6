"""The command line, from the user's side."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import jinn
from helpers_video import save
from jinn import __version__
from jinn.cli import main, parse
from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.synthetic import game_rollout, write_game
from jinn.errors import LONGEST
from jinn.files import read_tensors
from jinn.world.folder import BUILT_IN
from jinn.world.world import World

COMMANDS = (
    "play",
    "publish",
    "rate",
    "data",
    "record",
    "train",
    "plan",
    "eval",
    "label",
    "teach",
    "export",
    "info",
)


def help_of(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        parse([*command, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_prints_its_help(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    said = help_of(command, capsys)
    assert "usage: jinn" in said
    assert "tyro" not in said.lower()


def test_help_has_one_line_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    said = help_of((), capsys)
    for name in COMMANDS:
        assert re.search(rf"\W{name} +[A-Z].*\.\W*$", said, re.MULTILINE), name


def test_the_options_of_train_fit_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    said = help_of(("train",), capsys)
    options = re.findall(r"^\W*(?:-h, )?--(\w+)", said, re.MULTILINE)
    assert "set" in options
    assert len(options) <= 20


def test_parsing_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call = parse(["train", "nowhere", "--out", "x", "--set", "a=1", "b=2", "--seed", "3", "--set", "c=4"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JinnError, match="no value a: "):
        call()


def test_the_version_is_that_of_the_package() -> None:
    done = subprocess.run([sys.executable, "-m", "jinn", "--version"], capture_output=True, text=True)
    assert done.stdout == f"jinn {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere", "--out", "x"], "not a frame store"),
        (["train", "nowhere", "--out", "x", "--recipe", "huge"], "no recipe 'huge': choose one of tiny"),
        (["train", "nowhere", "--out", "x", "--recipe", "huge.py:small"], "no file 'huge.py'"),
        (["train", "nowhere", "--out", "x", "--set", "dynamics.clean_frames=3"], "at least 0 and below 1"),
        (["train", "nowhere", "--out", "x", "--set", "nowhere"], "PATH=VALUE"),
        (["train", "--recipe", "tiny"], "--out"),
        (["plan", "tiny", "--gpus", "0"], "--gpus is at least 1"),
        (["play", "atlantis"], "no world at 'atlantis'"),
        (["play", "--token", ""], "the token is empty"),
        (["play", "--allow-host", "https://a.example"], "--allow-host must be a name"),
        (["info", "atlantis"], "no world at 'atlantis'"),
        (["info", "coinrun", "--device", "gpu"], "no device 'gpu' here"),
        (["play", "coinrun", "--device", "cuda:99"], "no device 'cuda:99' here"),
        (["eval", "atlantis", "nowhere"], "no world at 'atlantis'"),
        (["eval", "coinrun"], "needs a frame store"),
        (["eval"], "needs a frame store"),
        (["label", "atlantis", "nowhere", "--out", "x"], "no world at 'atlantis'"),
        (["data", "nowhere.mp4", "--out", "x"], "nowhere.mp4"),
        (["data", "envpool:CoinrunHard-v0", "--out", "x", "--levels", "five"], "START:COUNT"),
        (["data", "--out", "x"], "source"),
        (["record", "--out", "x"], "name what to record"),
        (["record", "--screen", "0,0,x,9", "--out", "x"], "--screen is X,Y,WIDTH,HEIGHT"),
        (["record", "gymnasium:Nothing-v0", "--out", "x"], "cannot open gymnasium:Nothing-v0"),
    ],
)
def test_user_errors_are_one_sentence_with_exit_code_2(
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
    assert words in said.err + said.out
    assert "Traceback" not in said.err + said.out
    assert list(tmp_path.iterdir()) == []


# The modules that the extras bring, without `cli`, which brings the commands.
OPTIONAL = "av PIL tensorboard matplotlib starlette uvicorn websockets diffusers transformers onnx onnxscript"
OPTIONAL += " onnxruntime envpool gymnasium huggingface_hub"


def hide(modules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let modules seem not installed, also to parts of jinn that are imported already."""
    for name in list(sys.modules):
        if name.startswith(("jinn.player", "jinn.evaluation")) or name.partition(".")[0] in modules.split():
            monkeypatch.delitem(sys.modules, name)
    for name in ("player", "evaluation"):  # or the package would go on with new ones, which lack their parts
        monkeypatch.delattr(jinn, name, raising=False)
    for name in modules.split():
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("play coinrun", OPTIONAL, "play"),
        ("play coinrun", "starlette", "play"),
        ("play coinrun", "websockets", "play"),
        ("play coinrun", "PIL", "play"),
        ("play coinrun --text model", "diffusers", "text"),
        ("publish coinrun --out x", OPTIONAL, "play"),
        ("data nowhere.mp4 --out x", OPTIONAL, "video"),
        ("data pictures --out x", OPTIONAL, "video"),
        ("data envpool:CoinrunHard-v0 --out x", OPTIONAL, "games"),
        ("data gymnasium:CartPole-v1 --out x", OPTIONAL, "games"),
        ("record envpool:CoinrunHard-v0 --out x", "envpool", "games"),
        ("record envpool:CoinrunHard-v0 --out x", "starlette", "play"),
        ("record --screen 0,0,8,8 --out x", "mss", "screen"),
        ("train store --out x --recipe tiny --report quick", OPTIONAL, "train"),
        ("train envpool:CoinrunHard-v0 --out x --recipe tiny", OPTIONAL, "games"),
        ("eval coinrun store", OPTIONAL, "eval"),
        ("eval coinrun store", "PIL", "eval"),
        ("teach coinrun envpool:CoinrunHard-v0 --out x", OPTIONAL, "games"),
        ("export coinrun", OPTIONAL, "export"),
        ("export coinrun", "onnxscript", "export"),
    ],
)
def test_a_missing_extra_is_reported_in_one_sentence(
    command: str,
    missing: str,
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_game(tmp_path / "store", episodes=4, length=5, seed=0)
    save(tmp_path / "nowhere.mp4", shots(0, (32, 32)))
    (tmp_path / "pictures").mkdir()
    for number in range(16):
        (tmp_path / f"pictures/{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.chdir(tmp_path)
    hide(missing, monkeypatch)
    assert main(command.split()) == 2
    said = capsys.readouterr()
    assert f"pip install 'jinn[{extra}]'" in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.out == ""  # before any work


@pytest.mark.parametrize(
    "command",
    ["info coinrun", "plan tiny", "label coinrun store --out x", "teach coinrun store --out x"],
)
def test_the_other_commands_need_no_extra(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_game(tmp_path / "store", episodes=4, length=5, seed=0, size_hw=(64, 64))
    monkeypatch.chdir(tmp_path)
    hide(OPTIONAL, monkeypatch)
    assert main(command.split()) == 0


def test_the_command_line_starts_without_any_extra() -> None:
    code = "import sys\nfor name in sys.argv[1:]: sys.modules[name] = None\nfrom jinn.cli import main\nmain(['info'])"
    done = subprocess.run([sys.executable, "-c", code, *OPTIONAL.split()], capture_output=True, text=True)
    assert "backends: torch" in done.stdout, done.stderr


def test_a_recipe_may_be_a_function_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from jinn.recipes import tiny as small\n\ndef bad():\n    return 3\n")
    assert main(["plan", f"{file}:small", "--set", "dynamics.transformer.width=96"]) == 0
    assert "mine.py:small" in "".join(capsys.readouterr().out.split())
    assert main(["plan", f"{file}:bad"]) == 2
    assert "returns int" in capsys.readouterr().err


def test_info_describes_a_world(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "coinrun", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    world = World.load("coinrun")
    assert world.legend is not None
    words = [meaning.name for meaning in world.legend] + [
        f"{path.name} " for path in BUILT_IN.glob("coinrun/*")
    ]
    words += [f"{sum(p.numel() for p in world.dynamics.parameters()):,}", "PreviousFrameDynamicsConfig"]
    words += ["64 x 64", "15 per second", "MaskGIT with 6 steps", "6,466 levels", "backends: torch"]
    assert [word for word in words if word not in said] == []


def shots(seed: int, size_hw: tuple[int, int]) -> list[np.ndarray]:
    return list(game_rollout(seed, 60, size_hw)[0])


@pytest.mark.slow
def test_own_videos_become_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A typical folder: four kinds of valid files, a phone video, and two files that are no videos."""
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
    phases = {"tokenizer": 30, "latent_action": 20, "dynamics": 30, "self_rollout": 3}
    steps = [f"{phase}_training.steps={count}" for phase, count in phases.items()]
    steps.append("sampling.steps=2")
    assert main(["train", str(store), "--out", str(run), "--recipe", "tiny", "--set", *steps]) == 0
    assert "jinn play" in capsys.readouterr().out

    small = ["--frames", "6", "--clips", "8", "--long-rollouts", "2", "--long-frames", "60"]
    assert main(["eval", str(run), "--out", str(tmp_path / "report"), *small]) == 0  # on its own store
    assert "one held-out level or video only" in " ".join(capsys.readouterr().out.split())
    measured = json.loads((tmp_path / "report" / "report.json").read_text())["worlds"][0]
    assert set(measured["training"]) == {"tokenizer", "latent_actions", "dynamics", "self_rollout"}
    psnr = measured["estimates"]["tokenizer/psnr"]
    assert psnr["low"] <= psnr["value"] <= psnr["high"]
    assert psnr["value"] > 10

    labels = tmp_path / "labels.safetensors"
    assert main(["label", str(run), str(store), "--out", str(labels)]) == 0
    tensors = read_tensors(labels)
    assert len(tensors["actions"]) == opened.num_frames == int(tensors["lengths"].sum())
    assert bool((tensors["actions"] < 5).all())
    assert tensors["actions"].dtype == torch.int64


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("it is damaged: restore it", "it is damaged: restore it"),
        ("it is\ndamaged\r\n", "it is damaged"),
        ("the name \ud800 is\x1b[31m wrong\0", r"the name \ud800 is\x1b[31m wrong\x00"),
        ("é 漢", "é 漢"),
    ],
)
def test_an_error_is_one_line_that_can_be_printed(sentence: str, said: str) -> None:
    assert str(JinnError(sentence)) == said


def test_a_long_error_keeps_its_beginning_and_its_end() -> None:
    said = str(JinnError(f"begin {'x' * 10_000} end"))
    assert len(said) == LONGEST
    assert said.startswith("begin x")
    assert said.endswith("x end")
