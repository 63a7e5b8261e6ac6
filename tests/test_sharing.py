"""Worlds and states that leave their process: files, the Hugging Face hub, pickles and forks; and half precision."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers_world import make_world
from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.writer import StoreWriter
from jinn.files import read_tensors, write_tensors
from jinn.world.backends import Backend
from jinn.world.state import State
from jinn.world.world import World
from tiny_world import tiny_world

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of OWNER/NAME in an empty cache of a hub that cannot be reached."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache" / "models--somebody--world"


def second_frame(world: World) -> torch.Tensor:
    return world.step(world.reset(world.prompts[:1, None])[0], 1)[1]


@pytest.mark.parametrize("kind", ["frame-tokenizer", "video-tokenizer"])
def test_a_saved_state_goes_on_to_the_same_frames(kind: str, tmp_path: Path) -> None:
    world = make_world(kind)
    state, _ = world.step(world.reset(world.prompts[:2, None], 7)[0], [0, 1])
    state.save(tmp_path / "state.safetensors")
    kept = State.load(str(tmp_path / "state.safetensors"), world)
    assert repr(kept) == "State(2 roll-outs of 64 tokens on cpu, frames [1, 1])"
    assert torch.equal(world.step(kept, [2, 3])[1], world.step(state, [2, 3])[1])


def test_files_that_are_no_states_are_reported(tmp_path: Path, world: World) -> None:
    world.save(tmp_path)
    for name, words in (("nothing", "there is no state"), ("prompts.safetensors", "holds no state")):
        with pytest.raises(JinnError, match=words):
            State.load(tmp_path / name, world)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokens_BN", lambda x: x[:1]),
        ("tokens_BN", lambda x: x[0]),
        ("tokens_BN", lambda x: x + 10**6),  # such tokens do not exist
        ("tokens_BN", torch.Tensor.float),
        ("past_keys_LBNHPC", lambda x: x[:0]),
        ("past_keys_LBNHPC", lambda x: torch.full_like(x, float("nan"))),
        ("past_values_LBNHPC", lambda x: x[..., :1]),
        ("past_valid_BP", torch.Tensor.long),
        ("past_frames_B", lambda x: -x - 1),
        ("drawn_keys_LBNHPC", lambda x: None),
        ("more", lambda _: torch.zeros(2)),
        ("seeds_B", lambda x: x[:0]),
        ("frames_B", lambda x: torch.full_like(x, 2**62)),
    ],
)
def test_a_state_of_another_world_is_reported(
    name: str, change: Callable[[Any], torch.Tensor | None], tmp_path: Path
) -> None:
    world, path = make_world("video-tokenizer"), tmp_path / "state.safetensors"
    world.reset(world.prompts[:2, None])[0].save(path)
    tensors = read_tensors(path)
    changed = {**tensors, name: change(tensors.get(name))}
    write_tensors(path, {key: value for key, value in changed.items() if value is not None})
    with pytest.raises(JinnError, match="holds no state of this world"):
        State.load(path, world)


def test_a_world_describes_itself_in_a_line(world: World) -> None:
    assert repr(world) == (
        "World('tiny', 32 x 32 pixels, 10 fps, 5 actions, 0.4M parameters, backend 'torch', on cpu)"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["frame-tokenizer", "conv-tokenizer"])
def test_a_world_plays_in_half_precision(kind: str, dtype: torch.dtype) -> None:
    world = make_world(kind)
    half = copy.deepcopy(world).to(dtype)
    first, frame = half.reset(world.prompts[:2, None])
    difference = frame.float() - world.reset(world.prompts[:2, None])[1].float()
    assert difference.abs().mean() < 3
    state, frame = half.step(first, [0, 1])
    assert (frame.dtype, state.dynamics_cache.keys_LBNHPC.dtype) == (torch.uint8, dtype)
    assert half.observe(first, [0, 1], state.tokens_BN).frames_B.tolist() == [1, 1]


def test_paths_may_begin_at_home(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    world.save("~/world")
    assert (tmp_path / "world" / "config.json").is_file()
    assert World.load("~/world").folder == tmp_path / "world"
    with StoreWriter("~/store", (32, 32), 10.0) as writer:
        writer.append(np.zeros((2, 32, 32, 3), np.uint8))
        writer.end_episode("film")
    assert FrameStore.open("~/store").num_frames == 2


def test_pretrained_worlds_are_folders(world: World, tmp_path: Path) -> None:
    world.save_pretrained(tmp_path / "world")
    assert torch.equal(second_frame(World.from_pretrained(tmp_path / "world")), second_frame(world))
    assert World.from_pretrained("platforms").name == World.load("platforms").name


def test_pretrained_worlds_come_from_the_hub(world: World, cache: Path) -> None:
    with pytest.raises(
        JinnError, match="'somebody/world' is no folder, and could not be had from the Hugging"
    ):
        World.from_pretrained("somebody/world")
    world.save(cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    assert torch.equal(second_frame(World.from_pretrained("somebody/world")), second_frame(world))


def test_a_world_is_put_on_the_hub(world: World, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's two calls are replaced by a copy into its cache."""
    import huggingface_hub

    with pytest.raises(JinnError, match="could not be put on the Hugging Face hub as 'somebody/world'"):
        world.push_to_hub("somebody/world")

    def upload_folder(_: Any, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, cache / "snapshots" / COMMIT)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text(COMMIT)

    api = huggingface_hub.HfApi
    monkeypatch.setattr(api, "create_repo", lambda _, repo, **options: f"https://hub.invalid/{repo}")
    monkeypatch.setattr(api, "upload_folder", upload_folder)
    assert world.push_to_hub("somebody/world") == "https://hub.invalid/somebody/world"
    assert "library_name: jinn" in (cache / "snapshots" / COMMIT / "README.md").read_text()
    assert torch.equal(second_frame(World.from_pretrained("somebody/world")), second_frame(world))


def test_a_backend_is_made_again_where_a_world_is_unpickled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph cannot be pickled: it stands for what a session of ONNX Runtime is."""
    made: list[str] = []

    def make_backend(name: str, next_frame: Any, *_: Any) -> Backend:
        made.append(name)
        return Backend(name, 1, lambda *inputs: next_frame(*inputs))

    monkeypatch.setattr("jinn.world.world.make_backend", make_backend)
    fast = world.with_backend("onnx")
    assert copy.copy(fast).backend is fast.backend
    kept = pickle.loads(pickle.dumps(fast))
    assert made == ["onnx", "onnx"]
    assert kept.backend.next_frame is not None
    assert torch.equal(second_frame(kept), second_frame(world))


def test_environments_work_in_processes_of_their_own(world: World) -> None:
    """Forked after torch has computed on two threads: a child that waited for them would hang."""
    gymnasium = pytest.importorskip("gymnasium", reason="environments need gymnasium")
    import jinn.env  # noqa: F401 it registers what happens after a fork

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(512, 512) @ torch.ones(512, 512)
    options = {"num_envs": 2, "world": world, "vectorization_mode": "async"}
    envs = gymnasium.make_vec("jinn.env:jinn/World-v0", vector_kwargs={"context": "fork"}, **options)
    try:
        envs.reset_async(seed=3)
        frames, info = envs.reset_wait(timeout=60)
        prompts_BTHWC = world.prompts[info["prompt"]][:, None]
        assert np.array_equal(frames, world.reset(prompts_BTHWC, info["seed"])[1])
        envs.step_async(np.array([0, 1]))
        assert envs.step_wait(timeout=60)[0].shape == (2, 32, 32, 3)
    finally:
        envs.close(terminate=True)
        torch.set_num_threads(threads)


def test_gymnasium_finds_the_environment_by_the_packages_name() -> None:
    """As in a worker process, and without importing torch for it."""
    pytest.importorskip("gymnasium", reason="environments need gymnasium")
    lines = (
        "import sys, gymnasium, jinn",
        "assert 'jinn/World-v0' in gymnasium.registry",
        "assert 'torch' not in sys.modules",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
