"""Every backend computes the frames of the plain path, or reports in one sentence why it cannot."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers_world import make_world, play, prompt, small_world
from jinn.cli import main
from jinn.contracts import JinnError
from jinn.models.quantize import split_digits
from jinn.world.backends import fastest
from jinn.world.export import export_onnx, export_start
from jinn.world.graph import onnx_path
from jinn.world.state import stack
from jinn.world.world import World

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

ACTIONS = [[a] for a in (0, 3, 1, 1, 4, 2, 0, 2)]


def saved(folder: Path, kind: str) -> Path:
    torch.manual_seed(0)
    small_world(kind).save(folder)
    return folder


@pytest.fixture(scope="module", params=["frame-tokenizer", "video-tokenizer", "conv-tokenizer"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with both graphs, as `jinn export` makes them."""
    folder = saved(tmp_path_factory.mktemp("world"), request.param)
    assert main(["export", str(folder)]) == 0
    return folder


def frames_of(world: World, seed: int = 5) -> Tensor:
    state, _ = world.reset(prompt(1, T=2), seed=seed)
    return play(world, state, ACTIONS)[1]


def test_the_onnx_graph_plays_the_same_frames(folder: Path) -> None:
    plain = frames_of(World.load(folder))
    fast = frames_of(World.load(folder).with_backend("onnx"))
    assert (plain.int() - fast.int()).abs().max() <= 1
    assert not torch.equal(plain[:, 0], plain[:, 1])


@pytest.mark.parametrize("folder", ["video-tokenizer"], indirect=True)  # its decoder has a cache, too
def test_the_documented_program_plays_the_same_frames_without_torch(folder: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "graphs.md").read_text(), re.DOTALL)
    there: dict[str, Any] = {}
    exec(program, there)
    world = World.load(folder)
    export_start(world, folder)
    graphs = there["load"](str(folder))
    state, first_BHWC = world.reset(prompt(1), seed=5)
    values, frame_HWC = there["reset"](graphs, prompt(1)[0, 0].numpy())
    assert np.abs(frame_HWC.astype(int) - first_BHWC[0].numpy()).max() <= 1
    assert there["noise"](graphs, np.random.default_rng(0)).shape == world.noise(state).shape
    for (action,) in ACTIONS:
        values, frame_HWC = there["step"](graphs, values, action, world.noise(state).numpy())
        state, frame_BHWC = world.step(state, torch.tensor([action]))
        assert np.abs(frame_HWC.astype(int) - frame_BHWC[0].numpy()).max() <= 1


@pytest.mark.parametrize("backend", ["onnx", "onnx-int8"])
def test_a_batch_of_3_equals_3_singles(folder: Path, backend: str) -> None:
    world = World.load(folder).with_backend(backend)
    states = [world.reset(prompt(1, seed=i), seed=i)[0] for i in range(3)]
    singles = [play(world, s, [[a[0]] for a in ACTIONS])[1] for s in states]
    together = play(world, stack(states), [a * 3 for a in ACTIONS])[1]
    assert torch.equal(torch.cat(singles), together)


def test_a_graph_takes_the_doubt_about_each_action(tmp_path: Path) -> None:
    config = small_world().config
    torch.manual_seed(0)
    World(replace(config, dynamics=replace(config.dynamics, doubt=0.6))).eval().save(tmp_path)
    assert main(["export", str(tmp_path), "--precision", "float32"]) == 0
    world = World.load(tmp_path)
    fast = world.with_backend("onnx")
    state, _ = world.reset(prompt(1, T=2), seed=5)
    played = {}
    for doubt in (0, 0.5, 1):  # a page sends 0 as a whole number
        sampling = replace(config.sampling, doubt=doubt)
        plain = world.step(state, torch.tensor([3]), sampling)[1]
        assert (plain.int() - fast.step(state, torch.tensor([3]), sampling)[1].int()).abs().max() <= 1
        played[doubt] = plain
    assert not torch.equal(played[0], played[1])
    ignored = [world.step(state, torch.tensor([a]), replace(config.sampling, doubt=1.0))[1] for a in (0, 3)]
    assert torch.equal(*ignored)


def test_a_state_may_change_its_backend(folder: Path) -> None:
    """The state does not depend on the backend: half of the frames plain, half fast."""
    world, fast = World.load(folder), World.load(folder).with_backend("onnx")
    state, _ = world.reset(prompt(1), seed=5)
    state, first = play(world, state, ACTIONS[:4])
    _, second = play(fast, state, ACTIONS[4:])
    whole = play(world, world.reset(prompt(1), seed=5)[0], ACTIONS)[1]
    assert (torch.cat([first, second], dim=1).int() - whole.int()).abs().max() <= 1


@pytest.mark.long
def test_the_graph_of_a_built_in_world_is_cached_and_close_to_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 prompts, every action: at least 90% of the digits equal those in float32, and PSNR is at least 35 dB.

    Digits are drawn: where rounding changes one, those that are drawn after it follow.
    """
    monkeypatch.setenv("JINN_CACHE", str(tmp_path))
    plain = World.load("coinrun")
    assert plain.folder is not None
    assert fastest(plain.device, plain.folder) == "torch"
    [path] = export_onnx(plain, plain.folder, "int8")
    assert path.is_relative_to(tmp_path)
    assert fastest(plain.device, plain.folder) == "onnx-int8"
    fast = World.load("coinrun").with_backend("auto")
    agreement, error = [], []
    for action in range(plain.num_actions):
        actions_B = torch.full((len(plain.prompts),), action)
        state, _ = plain.reset(plain.prompts[:, None], seed=3)
        (a, frame_a), (b, frame_b) = plain.step(state, actions_B), fast.step(state, actions_B)
        digits = (split_digits(state.tokens_BN, plain.dynamics.levels) for state in (a, b))
        agreement.append(torch.eq(*digits).float().mean())
        error.append((frame_a.float() - frame_b.float()).square().mean())
    assert torch.stack(agreement).mean() > 0.9
    assert 10 * (255**2 / torch.stack(error).mean()).log10() > 35


def test_a_graph_of_other_weights_is_not_played(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    world = World.load(other)
    fast = world.with_backend("onnx")
    with torch.no_grad():
        world.dynamics.position_ND.add_(1.0)
    with pytest.raises(JinnError, match="weights have changed"):
        frames_of(fast)
    assert world.with_backend("auto").backend.name == "torch"
    with pytest.raises(JinnError, match="only in a folder"):
        world.with_backend("onnx")
    with pytest.raises(JinnError, match="other weights than the world"):
        export_onnx(world, other, "float32")
    world.save(other)
    assert fastest(torch.device("cpu"), other) == "torch"
    with pytest.raises(JinnError, match="jinn export"):
        World.load(other).with_backend("onnx")


def test_unavailable_backends_are_reported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(JinnError, match="only in a folder"):
        small_world().with_backend("onnx")
    bare = saved(tmp_path / "bare", "frame-tokenizer")
    with pytest.raises(JinnError, match="jinn export"):
        World.load(bare).with_backend("onnx-int8")
    with pytest.raises(JinnError, match="on a GPU"):
        World.load(bare).with_backend("cuda-graph")
    assert fastest(torch.device("cpu"), bare) == "torch"
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    onnx_path(damaged, "int8").write_bytes(b"no graph")
    with pytest.raises(JinnError, match="damaged"):
        World.load(damaged).with_backend("onnx-int8")


def test_exporting_needs_its_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(JinnError, match=r"onnxscript.*jinn\[export\]"):
        export_onnx(small_world(), saved(tmp_path / "bare", "frame-tokenizer"), "int8")
    assert not list((tmp_path / "bare").glob("*.onnx"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("players", [1, 4])
def test_a_cuda_graph_plays_the_same_frames(players: int) -> None:
    plain, fast = make_world().cuda(), make_world().cuda().with_backend("cuda-graph")
    start = prompt(players)
    rows = [a * players for a in ACTIONS]
    expected = play(plain, plain.reset(start)[0], rows)[1]
    got = play(fast, fast.reset(start)[0], rows)[1]
    assert (expected.int() - got.int()).abs().float().mean() < 1
