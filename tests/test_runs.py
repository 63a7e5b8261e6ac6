"""Runs that go on: nothing that was learned is made again or replaced, and what does not fit is one sentence."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from helpers_training import micro
from jinn.cli import main
from jinn.cli.console import Lines
from jinn.cli.play import tell_progress
from jinn.cli.train import in_words
from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.synthetic import write_game
from jinn.files import locked, write_json
from jinn.overrides import override
from jinn.training.checkpoints import Saver, newest, resume
from jinn.training.folder import LOCK
from jinn.training.log import RunLog
from jinn.training.loop import Interrupted
from jinn.training.parallel import ParallelConfig, Ranks
from jinn.training.recipe import Recipe
from jinn.training.run import run_recipe
from jinn.training.stages import LatentActionStage
from jinn.training.timing import Estimate
from jinn.world.world import World


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=12, length=21, seed=0)


@pytest.fixture(scope="module")
def complete(game: FrameStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to its end."""
    run = tmp_path_factory.mktemp("complete") / "run"
    run_recipe(micro(), game, run, "x")
    return run


@pytest.fixture
def run(complete: Path, tmp_path: Path) -> Path:
    """A copy of `complete`, to be gone on with."""
    return Path(shutil.copytree(complete, tmp_path / "run"))


def weights(world: World | Path) -> dict[str, torch.Tensor]:
    loaded = World.load(world) if isinstance(world, Path) else world
    return {name: value.clone() for name, value in loaded.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def press(number: signal.Signals, phase: str, step: int) -> Callable[..., None]:
    """Send signals to this process after a step of a phase."""

    def on_step(now: str, done: int, *_: float) -> None:
        if (now, done) == (phase, step):
            os.kill(os.getpid(), number)
            if number == signal.SIGHUP:  # the terminal and the shell both send it
                os.kill(os.getpid(), number)

    return on_step


# What is learned


def test_the_codebook_is_part_of_the_checkpoint(
    run: Path, game: FrameStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights(run)
    monkeypatch.setattr(LatentActionStage, "finish", lambda *_: pytest.fail("it is made again"))
    assert_equal(weights(run_recipe(micro(), game, run, "x")), before)


def test_a_stop_in_the_last_step_keeps_the_codebook(
    complete: Path, game: FrameStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        run_recipe(micro(), game, run, "x", on_step=press(signal.SIGINT, "latent_actions", 4))
    monkeypatch.setattr(LatentActionStage, "finish", lambda *_: pytest.fail("it is made again"))
    assert_equal(weights(run_recipe(micro(), game, run, "x")), weights(complete))


def test_a_run_of_an_earlier_version_gets_its_codebook(
    run: Path, game: FrameStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last checkpoint was written before k-means, and its config says nothing of the frames."""
    shutil.rmtree(run / "checkpoints" / "dynamics")
    (file,) = run.glob("checkpoints/latent_actions/*/state.json")
    state, config = json.loads(file.read_text()), json.loads((run / "config.json").read_text())
    write_json(file, {name: state[name] for name in ("step", "precision", "files")})
    write_json(run / "config.json", {name: value for name, value in config.items() if name != "frames"})
    name = "latent_actions.quantizer.codebook_KD"
    monkeypatch.setattr(LatentActionStage, "finish", lambda *_: {name: torch.ones(5, 8)})
    assert torch.equal(weights(run_recipe(micro(), game, run, "x"))[name], torch.ones(5, 8))
    assert json.loads(file.read_text())["finished"]


# How long it takes, and what there is to play meanwhile


def test_an_estimate_changes_nothing(complete: Path, game: FrameStore, tmp_path: Path) -> None:
    told: list[Estimate] = []
    with pytest.raises(Interrupted):
        run_recipe(
            micro(), game, tmp_path / "run", "x", on_step=press(signal.SIGINT, "dynamics", 1),
            on_estimate=told.append,
        )  # fmt: skip
    assert [name for name, _ in told[0].phases] == ["tokenizer", "latent_actions", "dynamics"]
    assert told[0].first_world is not None
    before = sum(seconds for _, seconds in told[0].phases[:2])
    assert before < told[0].first_world < before + told[0].phases[2][1]
    run_recipe(micro(), game, tmp_path / "run", "x", on_estimate=told.append)
    assert [name for name, _ in told[1].phases] == ["dynamics"]
    assert told[1].first_world is None  # it was saved when the run was stopped
    assert_equal(weights(tmp_path / "run"), weights(complete))


def test_a_run_in_progress_says_what_it_has_learned(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tell_progress([str(run)])
    assert capsys.readouterr().out == ""  # it is finished
    (checkpoint,) = run.glob("checkpoints/dynamics/step-*")
    checkpoint.rename(checkpoint.with_name("step-00000002"))
    tell_progress([str(run)])
    assert "this is its world after 2 of 4 steps of the phase dynamics" in capsys.readouterr().out
    for folder in (run / "world", run / "checkpoints" / "dynamics"):
        shutil.rmtree(folder)
    assert main(["play", str(run)]) == 2
    assert "it has learned 4 of 4 steps of the phase latent_actions, and the first" in capsys.readouterr().err
    shutil.rmtree(run / "checkpoints")  # it has just begun
    assert main(["play", str(run)]) == 2
    assert "0 of 4 steps of the phase tokenizer" in capsys.readouterr().err


# With what a run goes on


def test_other_frames_are_refused_and_the_same_elsewhere_are_not(
    run: Path, complete: Path, game: FrameStore, tmp_path: Path
) -> None:
    grown = write_game(tmp_path / "grown", episodes=14, length=21, seed=0)
    alike = write_game(tmp_path / "alike", episodes=12, length=21, seed=1)
    for other in (grown, alike):
        with pytest.raises(JinnError, match="started with other frames"):
            run_recipe(micro(), other, run, "x")
    trained_on = World.load(run).trained_on
    assert trained_on is not None
    assert set(trained_on) == set(game.groups[game.select("train")])
    moved = FrameStore.open(shutil.copytree(game.path, tmp_path / "moved"))
    assert_equal(weights(run_recipe(micro(), moved, run, "x")), weights(complete))
    assert json.loads((run / "config.json").read_text())["store"] == str(moved.path)


def changed(recipe: Recipe, phase: str, **values: Any) -> Recipe:
    return replace(recipe, **{phase: replace(getattr(recipe, phase), **values)})


def test_what_may_not_change_is_named(run: Path, game: FrameStore, tmp_path: Path) -> None:
    other = changed(micro(), "dynamics_training", steps=9, betas=(0.8, 0.9))
    said = (
        r"started with dynamics_training\.steps=4, dynamics_training\.betas=0\.9,0\.95: give the same again"
    )
    with pytest.raises(JinnError, match=said):
        run_recipe(other, game, run, "x")
    wider = replace(micro(), tokenizer=replace(micro().tokenizer, cell=4))
    with pytest.raises(JinnError, match=r"with --seed 0, tokenizer\.cell=2:"):
        run_recipe(wider, game, run, "x", seed=1)
    joint = replace(micro(), latent_action_training=None)
    with pytest.raises(JinnError, match=r"latent_action_training\.steps=4.*and so on"):
        run_recipe(joint, game, run, "x")


def test_what_is_logged_and_what_has_not_begun_may_change(run: Path, game: FrameStore) -> None:
    shutil.rmtree(run / "checkpoints" / "dynamics")
    recipe = changed(micro(log_every=1), "dynamics_training", steps=3, learning_rate=1e-5)
    run_recipe(recipe, game, run, "x")
    assert json.loads((run / "config.json").read_text())["recipe"]["dynamics_training"]["steps"] == 3
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["phase"] == "dynamics"] == [1, 2, 3]
    shutil.rmtree(run / "checkpoints" / "tokenizer")
    with pytest.raises(JinnError, match="has no tokenizer, which dynamics was trained after"):
        run_recipe(recipe, game, run, "x")


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"seed": 0}', '{"recipe": null}', "words"])
def test_a_damaged_config_of_a_run_is_one_sentence(text: str, run: Path, game: FrameStore) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(JinnError, match=r"config\.json"):
        run_recipe(micro(), game, run, "x")


def test_lines_of_a_log_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    lines = [
        b'{"phase": "tokenizer", "step": 9}',
        b'{"phase": "dynamics", "step": 2}',
        b'{"phase": "dynamics", "step": 3}',  # of a run that was killed behind step 2
        b'{"phase": "dynamics", "step": "2"}',
        *(b"[]", b"5", b"{}", b'{"phase": "dyn', b"\xff", b"[" * 100_000),
    ]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    with RunLog(tmp_path, "dynamics", 2, "float32"):
        assert (tmp_path / "log.jsonl").read_bytes().splitlines() == lines[:2]


def test_a_damaged_checkpoint_is_one_sentence_and_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint, tensors = tmp_path / "step-00000002", {"a": torch.zeros(3)}
    checkpoint.mkdir()
    state = {"step": 2, "precision": "float32", "finished": True, "files": ["a.safetensors"]}
    (checkpoint / "state.json").write_text(json.dumps(state))
    ranks = Ranks(ParallelConfig(), torch.device("cpu"))
    save_file(tensors, checkpoint / "a.safetensors", {"DCP_SHARDING_INFO": "[]"})
    whole = (checkpoint / "a.safetensors").read_bytes()
    for content in (whole, whole[:20], b""):
        (checkpoint / "a.safetensors").write_bytes(content)
        with pytest.raises(JinnError, match="damaged or of another model"):
            resume(tmp_path, tensors, ranks)
    (checkpoint / "state.json").write_text(json.dumps({**state, "step": -1}))
    with pytest.raises(JinnError, match="it says that it is of step -1"):  # else it would train for ever
        resume(tmp_path, tensors, ranks)
    assert not caplog.records


def test_a_doubt_that_is_never_learned_is_told_before_the_first_step(
    game: FrameStore, tmp_path: Path
) -> None:
    recipe = override(micro(), ["dynamics.doubt=0", "sampling.doubt=0.3"])
    with pytest.raises(JinnError, match=r"set sampling\.doubt=0, or dynamics\.doubt above 0"):
        run_recipe(recipe, game, tmp_path / "run", "x")
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_here_is_one_sentence(game: FrameStore, tmp_path: Path) -> None:
    with pytest.raises(JinnError, match="no device 'gpu' here"):
        run_recipe(micro(), game, tmp_path / "run", "x", device="gpu")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(game: FrameStore, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(JinnError, match=r"not a run \(letter\.txt\)"):
        run_recipe(micro(), game, tmp_path, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_one_process_trains_in_a_folder(game: FrameStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with locked(run / LOCK, ""), pytest.raises(JinnError, match="another process trains in"):
        run_recipe(micro(), game, run, "x")
    with pytest.raises(Interrupted):  # the lock is free, and a folder with nothing else is no other's
        run_recipe(micro(), game, run, "x", on_step=press(signal.SIGTERM, "tokenizer", 1))


def test_a_lock_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def locking(number: int, mode: str, count: int) -> None:
        if held:
            raise PermissionError
        held.append(number)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK="at once"))
    monkeypatch.setattr(sys, "platform", "win32")
    with locked(tmp_path / LOCK, ""), pytest.raises(JinnError, match=r"^taken$"):
        locked(tmp_path / LOCK, "taken")
    assert len(held) == 1


# What goes wrong


def test_diverged_weights_replace_no_checkpoint_and_the_advice_works(run: Path, game: FrameStore) -> None:
    shutil.rmtree(run / "checkpoints" / "dynamics")
    wild = changed(micro(), "dynamics_training", steps=9, learning_rate=1e30, checkpoint_every=3)
    with pytest.raises(
        JinnError, match=r"dynamics has diverged.*lower --set dynamics_training\.learning_rate"
    ):
        run_recipe(wild, game, run, "x")
    assert all(bool(value.isfinite().all()) for value in weights(run).values())
    assert newest(run / "checkpoints" / "dynamics") is None
    run_recipe(micro(), game, run, "x")


def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    tensors = {"x": torch.zeros(3)}
    with Saver(tmp_path, Ranks()) as saver:
        saver.save(1, False, tensors, None)
        saver.wait()
        with monkeypatch.context() as patch:
            patch.setattr(dcp.HuggingFaceStorageWriter, "write_data", full)
            saver.save(2, False, {"x": torch.ones(3)}, None)
            with pytest.raises(JinnError, match=r"no checkpoint can be written.*No space left.*make room"):
                saver.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_json(tmp_path / "config.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert resume(tmp_path, tensors, Ranks()) == (1, False)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_closed_terminal_saves_the_run(game: FrameStore, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup themselves
    try:
        with pytest.raises(Interrupted):
            run_recipe(micro(), game, tmp_path / "run", "x", on_step=press(signal.SIGHUP, "tokenizer", 1))
        saved = newest(tmp_path / "run" / "checkpoints" / "tokenizer")
        assert saved is not None
        assert saved.name == "step-00000001"
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        run_recipe(micro(), game, tmp_path / "run", "x", on_step=press(signal.SIGHUP, "tokenizer", 2))
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_while_a_checkpoint_loads_damages_nothing(
    run: Path, game: FrameStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = dcp.load

    def interrupted(*values: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        load(*values, **options)

    with monkeypatch.context() as patch:
        patch.setattr(dcp, "load", interrupted)
        with pytest.raises(Interrupted):
            run_recipe(micro(), game, run, "x")

    def stopped(*_: Any, **__: Any) -> None:
        raise dcp.CheckpointException("", {0: (KeyboardInterrupt(), None)})  # type: ignore[dict-item]

    monkeypatch.setattr(dcp, "load", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(micro(), game, run, "x")


# What is printed


def test_where_there_is_no_terminal_a_line_is_printed_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    lines = Lines(seconds=30, clock=lambda: now)
    for step in range(101):
        now = 2.0 * step
        lines.show("dynamics", step, 100, note="loss 0.1000" if step else "")
    assert capsys.readouterr().out.splitlines() == [
        "dynamics: 15 of 100, loss 0.1000, 0:00:30 passed, about 0:02:50 left",
        "dynamics: 30 of 100, loss 0.1000, 0:01:00 passed, about 0:02:20 left",
        "dynamics: 45 of 100, loss 0.1000, 0:01:30 passed, about 0:01:50 left",
        "dynamics: 60 of 100, loss 0.1000, 0:02:00 passed, about 0:01:20 left",
        "dynamics: 75 of 100, loss 0.1000, 0:02:30 passed, about 0:00:50 left",
        "dynamics: 90 of 100, loss 0.1000, 0:03:00 passed, about 0:00:20 left",
        "dynamics: 100 of 100, loss 0.1000, 0:03:20 passed",
    ]


def test_no_loss_is_shown_before_there_is_one() -> None:
    assert in_words(float("nan"), 0.0) == ""
    assert in_words(float("nan"), 3.25) == "3.2 clips/s"
    assert in_words(0.25, 3.25) == "loss 0.2500  3.2 clips/s"
