"""Runs that are stopped, killed and resumed, or based on another world: the final weights are the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_processes import PATIENCE, command, fork
from helpers_training import micro
from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.synthetic import write_game
from jinn.files import read_tensors
from jinn.recipes import paper_coinrun
from jinn.training.checkpoints import Saver, newest
from jinn.training.loop import Interrupted
from jinn.training.parallel import ParallelConfig, Ranks
from jinn.training.recipe import Recipe
from jinn.training.run import run_recipe
from jinn.world.world import World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=40, length=21, seed=0)


def short() -> Recipe:
    """All phases in a few seconds, with every kind of event."""
    recipe = micro(steps=20, warmup=2, checkpoint_every=3, preview_every=15, log_every=2, batch=4)
    dynamics = recipe.dynamics_training
    return replace(
        recipe,
        dynamics_training=replace(dynamics, steps=40),
        self_rollout_training=replace(dynamics, steps=10),
    )


SHORT = """
    --recipe tiny --set sampling.steps=2
    tokenizer_training.steps=30 dynamics_training.steps=40
    tokenizer_training.warmup=2 tokenizer_training.batch=4
    tokenizer_training.checkpoint_every=1 tokenizer_training.preview_every=7
    dynamics_training.warmup=2 dynamics_training.batch=4
    dynamics_training.checkpoint_every=1 dynamics_training.preview_every=17
    latent_action_training.steps=20 latent_action_training.batch=8
    latent_action_training.warmup=2 latent_action_training.checkpoint_every=1
    latent_action_training.optimizer=muon self_rollout_training=none
"""

STAGES = ("tokenizer", "latent_actions", "dynamics")


def train(store: FrameStore, run: Path) -> list[str]:
    """The arguments of `jinn train`."""
    return ["train", str(store.path), "--out", str(run), *SHORT.split()]


def progress(run: Path) -> list[str]:
    return [str(newest(run / "checkpoints" / stage)) for stage in STAGES]


def read_checkpoint(place: Path) -> dict[str, torch.Tensor]:
    (file,) = place.glob("*.safetensors")
    return read_tensors(file)


@pytest.mark.long
def test_kills_change_nothing(game: FrameStore, tmp_path: Path) -> None:
    """SIGKILL at random moments, then to the end: the weights equal those of an uninterrupted run.

    Some times; scripts/kill.py does it as often as one likes, to all commands.
    """
    whole, killed, said = (tmp_path / name for name in ("whole", "killed", "said"))
    process = fork(said, command, train(game, whole))
    process.join(PATIENCE)
    assert process.exitcode == 0, said.read_text()
    chance = random.Random(0)
    for _ in range(4):
        before, deadline = progress(killed), time.monotonic() + PATIENCE
        process = fork(said, command, train(game, killed))
        while progress(killed) == before:  # each process makes progress and is killed soon after
            assert process.is_alive(), said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process = fork(said, command, train(game, killed))
    process.join(PATIENCE)
    assert process.exitcode == 0, said.read_text()
    for stage in STAGES:
        places = [newest(run / "checkpoints" / stage) for run in (whole, killed)]
        assert places[0] is not None
        assert places[1] is not None
        assert places[0].name == places[1].name
        a, b = (read_checkpoint(place) for place in places if place)
        assert a.keys() == b.keys()
        assert [name for name in a if not torch.equal(a[name], b[name])] == []
    lines = [json.loads(line) for line in (killed / "log.jsonl").read_text().splitlines()]
    steps = [(line["phase"], line["step"]) for line in lines]
    assert steps == sorted(set(steps), key=lambda place: (STAGES.index(place[0]), place[1]))


def test_ctrl_c_saves_and_prints_how_to_resume(game: FrameStore, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "jinn", *train(game, tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while newest(tmp_path / "run" / "checkpoints" / "tokenizer") is None:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[0].decode()
    assert process.returncode == 130, said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said


def test_a_stop_in_the_last_step_of_a_phase_does_not_start_the_next(game: FrameStore, tmp_path: Path) -> None:
    def press(stage: str, step: int, steps: int, *_: float) -> None:
        if (stage, step) == ("tokenizer", steps):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        run_recipe(short(), game, tmp_path / "run", "x", on_step=press)
    assert newest(tmp_path / "run" / "checkpoints" / "tokenizer") is not None
    assert not (tmp_path / "run" / "checkpoints" / "latent_actions").exists()


def test_on_a_base_only_the_dynamics_are_learned(game: FrameStore, tmp_path: Path) -> None:
    base = run_recipe(short(), game, tmp_path / "base", "base")
    base.trained_on = np.array([7], np.uint64)  # as if it had been trained on other data
    recipe = replace(short(), tokenizer=paper_coinrun().tokenizer, latent_action_training=None)
    straight = run_recipe(recipe, game, tmp_path / "straight", "x", base=base)
    made = straight.state_dict()  # the dynamics of the base's own run had the same seed, clips and tokens
    assert all(torch.equal(made[key], kept) for key, kept in base.state_dict().items())
    assert straight.trained_on is not None
    assert straight.legend
    assert World.load(tmp_path / "straight").legend == straight.legend  # a legend of its actions
    assert set(straight.trained_on) == {7, *game.groups[game.select("train")]}
    assert sorted(os.listdir(tmp_path / "straight" / "checkpoints")) == ["dynamics", "self_rollout"]

    def press(stage: str, step: int, *_: float) -> None:
        if (stage, step) in {("dynamics", 25), ("self_rollout", 5)}:
            os.kill(os.getpid(), signal.SIGINT)

    for _ in range(2):
        with pytest.raises(Interrupted):
            run_recipe(recipe, game, tmp_path / "run", "x", on_step=press, base=base)
    other = World(base.config)
    with pytest.raises(JinnError, match="another --base"):
        run_recipe(recipe, game, tmp_path / "run", "x", base=other)
    large = World(replace(base.config, tokenizer=replace(base.config.tokenizer, size_hw=(64, 64))))
    with pytest.raises(JinnError, match="--size 64 64"):
        run_recipe(recipe, game, tmp_path / "large", "x", base=large)
    gone_on = run_recipe(recipe, game, tmp_path / "run", "x", base=base)
    assert torch.equal(gone_on.dynamics.position_ND, straight.dynamics.position_ND)


def test_a_checkpoint_leaves_the_threads_of_the_training_alone(tmp_path: Path) -> None:
    """A second team of OpenMP threads would slow every step that follows (research log, "Attention on the CPU")."""
    threads = torch.get_num_threads()
    found: list[int] = []
    with Saver(tmp_path, Ranks(ParallelConfig(), torch.device("cpu"))) as saver:
        saver.save(1, False, {"x": torch.zeros(3)}, lambda: found.append(torch.get_num_threads()))
        saver.wait()
    assert found == [1]
    assert torch.get_num_threads() == threads
