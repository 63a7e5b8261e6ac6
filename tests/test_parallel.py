"""Training in several processes: two ranks on one machine (gloo) compared with one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from helpers_processes import command, on_two_ranks
from helpers_training import HAS_AMX
from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.synthetic import write_game
from jinn.models.quantize import VQConfig
from jinn.models.transformer import STTransformer, TransformerConfig
from jinn.recipes import paper_coinrun, tiny
from jinn.training.checkpoints import newest
from jinn.training.optim import TrainingConfig, make_optimizers
from jinn.training.parallel import (
    ParallelConfig,
    Ranks,
    check_split,
    clip_gradients,
    distribute,
    gather,
    join,
    outline,
)
from jinn.training.recipe import Recipe
from jinn.training.run import run_recipe
from jinn.world.world import World

pytestmark = pytest.mark.slow

STAGES = ("tokenizer", "latent_actions", "dynamics")


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=40, length=21, seed=0)


STEPS = {"tokenizer_training": 5, "latent_action_training": 4, "dynamics_training": 5}


def short() -> Recipe:
    """All phases in a few steps; `OPTIONS` is the same for the command line."""
    recipe = tiny()
    phases = {
        name: replace(getattr(recipe, name), steps=steps, batch=8, log_every=1, warmup=2, checkpoint_every=2)
        for name, steps in STEPS.items()
    }
    # Muon evens out the lengths of all directions, and so enlarges what rounding leaves in the rare ones.
    for name in ("tokenizer_training", "dynamics_training"):
        phases[name] = replace(phases[name], optimizer="adamw")
    sampling = replace(recipe.sampling, steps=2)
    return replace(recipe, **phases, sampling=sampling, self_rollout_training=None)


OPTIONS = (
    ["--recipe", "tiny", "--precision", "float32", "--set"]
    + [
        f"{phase}.{name}={value}"
        for phase, steps in STEPS.items()
        for name, value in {
            "steps": steps,
            "batch": 8,
            "log_every": 1,
            "warmup": 2,
            "checkpoint_every": 2,
        }.items()
    ]
    + [f"{phase}.optimizer=adamw" for phase in ("tokenizer_training", "dynamics_training")]
    + ["sampling.steps=2", "self_rollout_training=none"]
)


def train(store: FrameStore, run: Path, *options: str) -> list[str]:
    """The arguments of `jinn train`."""
    return ["train", str(store.path), "--out", str(run), *OPTIONS, *options]


def start(store: FrameStore, run: Path, *options: str) -> subprocess.Popen[bytes]:
    """`jinn train` on two processes of torchrun."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "jinn"]
    arguments = [sys.executable, *launch, *train(store, run, *options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


def finish(process: subprocess.Popen[bytes]) -> str:
    try:
        return process.communicate(timeout=240)[0].decode()
    finally:
        process.terminate()  # not kill, because torchrun then ends its children


def figures(run: Path) -> list[tuple[str, int, float, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["phase"], line["step"], line["loss"], line["gradient_norm"]) for line in lines]


def assert_same(run: Path, other: Path) -> None:
    """The same steps, each once, with the same losses and gradients to 1e-5; the same world.

    On CPUs with AMX the other order of sums makes a difference of 1.5e-5 after some steps.
    """
    a, b = figures(run), figures(other)
    assert [line[:2] for line in a] == [line[:2] for line in b]
    np.testing.assert_allclose([x[2:] for x in a], [y[2:] for y in b], rtol=1e-4 if HAS_AMX else 1e-5)
    one, two = World.load(run).state_dict(), World.load(other).state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-4, msg=name)


@pytest.fixture(scope="module")
def alone(game: FrameStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    run_recipe(short(), game, run, "run", precision="float32")
    return run


@pytest.fixture(scope="module")
def two(game: FrameStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("two") / "run"
    on_two_ranks(run.parent, command, train(game, run))
    return run


def test_two_ranks_train_the_same_weights_as_one(alone: Path, two: Path) -> None:
    assert_same(alone, two)


def orthogonalise(place: Path) -> None:
    """A step of Muon, on one rank or on several; saves the weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 20, 3), nn.Flatten(), nn.Linear(720, 33), nn.Linear(33, 24))
    frames = torch.randn(100, 3, 8, 8)  # fewer than 33 would leave directions of rounding errors only
    with join(ParallelConfig(), torch.device("cpu")) as ranks:
        if ranks.mesh is not None:
            fully_shard(model, mesh=ranks.mesh["data"])
        model(frames).square().mean().backward()
        for optimizer in make_optimizers(TrainingConfig(optimizer="muon", learning_rate=0.1), [model]):
            optimizer.step()
        state = {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in model.state_dict().items()}
        if ranks.first:
            torch.save(state, place)


def test_muon_orthogonalises_whole_matrices_on_two_ranks(tmp_path: Path) -> None:
    orthogonalise(tmp_path / "one.pt")
    on_two_ranks(tmp_path, orthogonalise, tmp_path / "two.pt")
    one, two = (torch.load(tmp_path / place, weights_only=True) for place in ("one.pt", "two.pt"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_neither_micro_batches_nor_recomputation_change_the_result(
    alone: Path, game: FrameStore, tmp_path: Path
) -> None:
    layout = ParallelConfig(accumulate=4, recompute=True)
    run_recipe(short(), game, tmp_path / "run", "run", parallel=layout, precision="float32")
    assert_same(alone, tmp_path / "run")


LAYOUTS = {
    "data": ParallelConfig(accumulate=2),
    "tensor": ParallelConfig(tensor_parallel=2, recompute=True),
}


def joint() -> Recipe:
    """The paper's recipe at a small size: VQ in both models, and latent actions that learn with the dynamics."""
    paper = paper_coinrun()
    model = TransformerConfig(layers=2, width=32, heads=4, head_width=8, feedforward=0.25)
    phase = replace(paper.tokenizer_training, steps=4, batch=4, frames=3, log_every=1, warmup=2)
    return replace(
        paper,
        tokenizer=replace(paper.tokenizer, encoder=model, decoder=model, quantizer=VQConfig(32, 8)),
        latent_actions=replace(paper.latent_actions, encoder=model, decoder=model),
        dynamics=replace(paper.dynamics, transformer=model),
        sampling=replace(paper.sampling, steps=2),
        tokenizer_training=phase,
        dynamics_training=phase,
        self_rollout_training=replace(phase, frames=4),
    )


def train_joint(store: Path, run: Path, layout: str) -> None:
    parallel = LAYOUTS[layout]
    run_recipe(joint(), FrameStore.open(store), run, "run", parallel=parallel, precision="float32")


@pytest.fixture(scope="module")
def joint_alone(game: FrameStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("joint") / "run"
    run_recipe(joint(), game, run, "run", precision="float32")
    return run


@pytest.mark.parametrize("layout", ["data", pytest.param("tensor", marks=pytest.mark.long)])
def test_the_papers_joint_training_on_two_ranks(
    layout: str, joint_alone: Path, game: FrameStore, tmp_path: Path
) -> None:
    """Ranks have different clips or different heads; codebooks learn from the latents of all ranks."""
    on_two_ranks(tmp_path, train_joint, game.path, tmp_path / "two", layout)
    assert_same(joint_alone, tmp_path / "two")


def a_rank_of(process: subprocess.Popen[bytes]) -> int:
    """The process id of one of torchrun's children."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[-1])


def until(done: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds torchrun's children in Linux's /proc")
def test_a_killed_rank_changes_nothing_and_a_run_resumes_with_another_number_of_ranks(
    alone: Path, two: Path, game: FrameStore, tmp_path: Path
) -> None:
    """SIGKILL of one of two ranks; then the same command resumes, and so does one process on a copy."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    process = start(game, run)
    until(lambda: newest(run / "checkpoints" / "latent_actions") is not None, process)
    os.kill(a_rank_of(process), signal.SIGKILL)
    finish(process)
    assert process.returncode != 0  # torchrun stopped the other one too
    assert newest(run / "checkpoints" / "dynamics") is None
    shutil.copytree(run, copy)
    on_two_ranks(tmp_path, command, train(game, run))
    assert figures(run) == figures(two)
    whole, killed = World.load(two).state_dict(), World.load(run).state_dict()
    assert [name for name in whole if not torch.equal(whole[name], killed[name])] == []
    run_recipe(short(), game, copy, "run")  # in its first precision, on any machine
    assert_same(alone, copy)


def test_a_signal_stops_all_ranks_at_the_same_step(game: FrameStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(game, run, "--set", "tokenizer_training.steps=100000")
    until(lambda: newest(run / "checkpoints" / "tokenizer") is not None, process)
    process.send_signal(signal.SIGTERM)
    said = finish(process)
    assert "stopped and saved at step" in said
    place = newest(run / "checkpoints" / "tokenizer")
    assert place is not None
    assert f"step {json.loads((place / 'state.json').read_text())['step']};" in said


# Precision


@pytest.mark.long
def test_bfloat16_stays_near_float32_in_one_process_and_in_two(game: FrameStore, tmp_path: Path) -> None:
    """At low learning rates losses agree to half a percent: bfloat16 has three digits.

    The tokenizer's rate is the lowest: if some of its tokens differed, the dynamics would learn on others.
    """
    rates = {"tokenizer_training": 1e-7, "latent_action_training": 5e-5, "dynamics_training": 5e-5}
    gentle = {
        name: replace(getattr(short(), name), learning_rate=rate, final_learning_rate=rate)
        for name, rate in rates.items()
    }
    run_recipe(replace(short(), **gentle), game, tmp_path / "exact", "run", precision="float32")
    run_recipe(replace(short(), **gentle), game, tmp_path / "one", "run", precision="bfloat16")
    options = [
        f"{name}.{which}learning_rate={rate}" for name, rate in rates.items() for which in ("", "final_")
    ]
    on_two_ranks(tmp_path, command, train(game, tmp_path / "two", "--set", *options, "--precision=bfloat16"))
    exact = figures(tmp_path / "exact")
    for run in (tmp_path / "one", tmp_path / "two"):
        near = figures(run)
        assert [line[:2] for line in near] == [line[:2] for line in exact]
        assert near != exact
        np.testing.assert_allclose([line[2] for line in near], [line[2] for line in exact], rtol=0.005)


def test_a_run_keeps_the_precision_it_began_with(game: FrameStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_recipe(short(), game, run, "run", precision="bfloat16")
    place = newest(run / "checkpoints" / "dynamics")
    assert place is not None
    assert json.loads((place / "state.json").read_text())["precision"] == "bfloat16"
    with pytest.raises(JinnError, match="started with --precision bfloat16"):
        run_recipe(short(), game, run, "run", precision="float32")
    shutil.rmtree(run / "checkpoints" / "dynamics")
    run_recipe(short(), game, run, "run")  # auto: the fastest precision on this machine
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {line["precision"] for line in lines} == {"bfloat16"}


# Models


def test_a_gathered_model_is_a_copy(tmp_path: Path) -> None:
    model = STTransformer(TransformerConfig(layers=2, width=16, heads=2))
    empty = outline(model)
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    distribute(model, Ranks(ParallelConfig(recompute=True)))
    x = torch.randn(1, 3, 4, 16)
    before = model(x)
    plain = gather(model, empty, torch.device("cpu"))
    assert plain is not None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(plain(x), before)
    assert gather(model, empty, torch.device("cpu"), keep=False) is None


def test_gradients_are_clipped_to_a_norm() -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.full((3,), 2.0), torch.full((2, 2), 1.0)
    assert float(clip_gradients(parameters, 2.0)) == pytest.approx(4.0)
    assert float(parameters[0].grad.square().sum() + parameters[1].grad.square().sum()) == pytest.approx(4.0)


# Errors


def test_layouts_that_cannot_be_split_are_refused(game: FrameStore, tmp_path: Path) -> None:
    with pytest.raises(JinnError, match="multiple of 3"):
        run_recipe(short(), game, tmp_path / "run", "x", parallel=ParallelConfig(accumulate=3))
    with pytest.raises(JinnError, match="multiple of 5"):
        Ranks(size=5).rows(8)
    with pytest.raises(JinnError, match="groups of 2"):
        run_recipe(short(), game, tmp_path / "run", "x", parallel=ParallelConfig(tensor_parallel=2))
    with pytest.raises(JinnError, match="4 heads and 128 hidden channels"):
        check_split(short().latent_actions.encoder, 3)
    assert not (tmp_path / "run").exists()


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(JinnError, match=r"C\+\+ compiler"):
        distribute(nn.Linear(1, 1), Ranks(ParallelConfig(compile=True)))


def test_damaged_and_foreign_checkpoints_are_reported(alone: Path, game: FrameStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(alone, run)
    place = newest(run / "checkpoints" / "tokenizer")
    assert place is not None
    (file,) = place.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JinnError, match="damaged"):
        run_recipe(short(), game, run, "run")
    file.unlink()
    with pytest.raises(JinnError, match="lacks"):
        run_recipe(short(), game, run, "run")
