"""Roll-outs: batched equals single, old states stay valid, the size of a state does not grow."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import jinn
from helpers_world import make_world, play, prompt
from jinn.contracts import JinnError, find_device
from jinn.models.maskgit import SamplingConfig
from jinn.models.ours.conv_tokenizer import ConvTokenizer
from jinn.recipes import RECIPES
from jinn.world.backends import Backend, while_unchanged
from jinn.world.config import WorldConfig
from jinn.world.folder import built_in_worlds, find_world, is_saved
from jinn.world.motion import global_motion
from jinn.world.state import stack, take
from jinn.world.world import World

MAPS = Path("/proc/self/maps")


@pytest.fixture(scope="module", params=["frame-tokenizer", "video-tokenizer", "conv-tokenizer"])
def world(request: pytest.FixtureRequest) -> World:
    return make_world(request.param)


def assert_same(world: World, a: Tensor, b: Tensor) -> None:
    """Equal frames; in a batch convolutions sum in another order, which may change a grey level."""
    assert (a.int() - b.int()).abs().max() <= isinstance(world.tokenizer, ConvTokenizer)


def test_a_batch_of_4_equals_4_singles(world: World) -> None:
    frames, actions = prompt(4), [[0, 1, 2, 3], [4, 3, 2, 1], [1, 1, 1, 1], [0, 2, 4, 0], [3, 3, 0, 1]]
    state, first = world.reset(frames, seed=10)
    _, together = play(world, state, actions)
    for i in range(4):
        state, alone_first = world.reset(frames[i : i + 1], seed=10 + i)
        _, alone = play(world, state, [[row[i]] for row in actions])
        assert_same(world, alone_first[0], first[i])
        assert_same(world, alone[0], together[i])


def test_roll_outs_of_different_lengths_can_share_a_batch(world: World) -> None:
    old, _ = play(world, world.reset(prompt(1), seed=1)[0], [[0], [1], [2], [3], [4], [0]])
    young, _ = world.reset(prompt(1, T=2, seed=1), seed=2)
    _, apart_old = play(world, old, [[1], [2]])
    _, apart_young = play(world, young, [[3], [4]])
    _, joined = play(world, stack([old, young]), [[1, 3], [2, 4]])
    assert_same(world, joined[0], apart_old[0])
    assert_same(world, joined[1], apart_young[0])


def test_a_state_is_never_changed(world: World) -> None:
    state, _ = world.reset(prompt(1), seed=5)
    once = world.step(state, torch.tensor([1]))[1]
    world.step(state, torch.tensor([2]))
    again = world.step(state, torch.tensor([1]))[1]
    assert torch.equal(once, again)


def test_forks_are_independent_and_depend_on_the_seed(world: World) -> None:
    state, _ = world.reset(prompt(1), seed=5)
    forked = take(state, [0, 0])
    _, frames = world.step(forked, torch.tensor([1, 1]))
    assert torch.equal(frames[0], frames[1])
    other, _ = world.reset(prompt(1), seed=6)
    assert not torch.equal(world.step(other, torch.tensor([1]))[1], frames[:1])


@pytest.mark.slow
def test_a_state_does_not_grow(world: World) -> None:
    state, _ = world.reset(prompt(1))
    size = [t.numel() for t in (state.tokens_BN, *state.dynamics_cache, *(state.decoder_cache or ()))]
    for _ in range(8):
        state, _ = world.step(state, torch.tensor([0]))
    assert [t.numel() for t in (state.tokens_BN, *state.dynamics_cache, *(state.decoder_cache or ()))] == size
    assert bool(state.dynamics_cache.valid_BP.all())
    assert state.frames_B.tolist() == [8]


@pytest.mark.long
def test_play_does_not_leak_memory(world: World) -> None:
    """The objects after 300 frames are those after 20; `benchmarks.play --endurance` plays 100,000."""

    def living() -> tuple[int, int]:
        gc.collect()
        tensors = [x for x in gc.get_objects() if issubclass(type(x), Tensor)]
        return len(tensors), sum(x.numel() * x.element_size() for x in tensors)

    state, _ = world.reset(prompt(1))
    counts = []
    for frame in range(301):
        state, _ = world.step(state, torch.tensor([frame % 5]))
        if frame in (20, 300):
            counts.append(living())
    # Objects of an earlier test may be freed meanwhile; none may be added.
    assert counts[1] <= counts[0]


def test_long_prompts_use_the_newest_window(world: World) -> None:
    long = prompt(1, T=7)
    a, _ = world.reset(long, actions_BTm1=torch.tensor([[0, 1, 2, 3, 4, 0]]))
    b, _ = world.reset(long[:, -4:], actions_BTm1=torch.tensor([[3, 4, 0]]))
    assert torch.equal(world.step(a, torch.tensor([2]))[1], world.step(b, torch.tensor([2]))[1])


def test_the_actions_of_a_prompt_are_inferred(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, inferred = prompt(2, T=3), torch.tensor([[1, 2], [3, 0]])
    known = {frames.numpy().tobytes(): inferred}  # an untrained model would infer the same action everywhere
    monkeypatch.setattr(world.latent_actions, "encode", lambda clip: known[clip.numpy().tobytes()])
    a, b = world.reset(frames)[0], world.reset(frames, actions_BTm1=inferred)[0]
    other = world.reset(frames, actions_BTm1=(inferred + 1) % world.num_actions)[0]
    assert torch.equal(a.dynamics_cache.keys_LBNHPC, b.dynamics_cache.keys_LBNHPC)
    assert not torch.equal(a.dynamics_cache.keys_LBNHPC, other.dynamics_cache.keys_LBNHPC)


def test_observing_a_frame_equals_starting_from_the_longer_clip(world: World) -> None:
    frames, actions = prompt(2, T=3), torch.tensor([[1, 2], [3, 0]])
    whole, _ = world.reset(frames, actions_BTm1=actions)
    state, _ = world.reset(frames[:, :1])
    tokens = world.tokenizer.encode(frames)
    for t in (1, 2):
        state = world.observe(state, actions[:, t - 1], tokens[:, t])
    assert torch.equal(state.tokens_BN, whole.tokens_BN)
    for a, b in zip(state.dynamics_cache, whole.dynamics_cache, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    # The noise depends on the frame number of the roll-out, which is the same in both.
    state = state._replace(frames_B=whole.frames_B)
    step = torch.tensor([4, 1])
    assert_same(world, world.step(state, step)[1], world.step(whole, step)[1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda w: w.reset(prompt(1).float()), "uint8"),
        (lambda w: w.reset(prompt(1)[:, :, :16]), "trained on 32x32"),
        (lambda w: w.reset(prompt(1)[:, :0]), "at least one frame"),
        (lambda w: w.reset(prompt(2), seed=[1]), "one for each of 2 roll-outs"),
        (lambda w: w.reset(prompt(1, T=2), actions_BTm1=torch.tensor([[5]])), "integers from 0 to 4"),
        (lambda w: w.step(w.reset(prompt(1))[0], torch.tensor([5])), "integers from 0 to 4"),
        (lambda w: w.step(w.reset(prompt(1))[0], torch.tensor([-1])), "integers from 0 to 4"),
        (lambda w: w.step(w.reset(prompt(1))[0], torch.tensor([0, 1])), "shape"),
        (lambda w: w.step(w.reset(prompt(1))[0], torch.tensor([0.5])), "integers.*got torch.float32"),
        (lambda w: w.step(w.reset(prompt(1))[0], "2"), "integers.*got '2'"),
        (lambda w: w.step(w.reset(prompt(1))[0], True), "integers.*got True"),
        (lambda w: w.step(w.reset(prompt(2))[0], [[0], [1, 2]]), "integers"),
        (lambda w: w.reset(prompt(1), seed=1.5), "a seed is an integer.*got 1.5"),
        (lambda w: w.reset(prompt(1), seed=2**70), "a seed is an integer"),
        (lambda w: w.reset(prompt(1).numpy() / 255), "got float64 of shape"),
        (lambda w: w.reset([1, 2]), r"got \[1, 2\]"),
        (
            lambda w: w.step(w.reset(prompt(1))[0], torch.tensor([0]), SamplingConfig(doubt=0.5)),
            "trained without doubt",
        ),
    ],
)
def test_mistakes_are_reported(world: World, call: object, words: str) -> None:
    with pytest.raises(JinnError, match=words):
        call(world)  # type: ignore[operator]


def test_plain_values_serve_as_well_as_tensors(world: World) -> None:
    frames, actions = prompt(1, T=2), np.array([[3]], np.uint8)
    state, frame = world.reset(frames, 3, torch.tensor([[3]]))
    again, same = world.reset(frames.numpy()[..., ::-1][..., ::-1], np.int64(3), actions)
    assert torch.equal(frame, same)
    assert torch.equal(state.seeds_B, again.seeds_B)
    _, expected = world.step(state, torch.tensor([2]))
    for action in (2, [2], np.int32(2), np.array([2]), np.array([[2]]), torch.tensor(2, dtype=torch.uint8)):
        assert torch.equal(world.step(state, action)[1], expected)


def test_frames_and_states_take_part_in_a_loss(world: World) -> None:
    factor = torch.ones(1, requires_grad=True)
    state, first = world.reset(prompt(1))
    state, frame = world.step(state, 1)
    for tensor in (first, frame, state.tokens_BN, *state.dynamics_cache):
        (tensor * factor).sum().backward()
    assert factor.grad is not None
    assert all(parameter.grad is None for parameter in world.parameters())


def test_a_saved_world_is_loaded_unchanged(world: World, tmp_path: Path) -> None:
    world.save(tmp_path / "w")
    loaded = jinn.World.load(tmp_path / "w")
    assert loaded.config == world.config
    assert torch.equal(loaded.prompts, world.prompts)
    a, b = (play(w, w.reset(prompt(1), seed=3)[0], [[0], [1], [2]])[1] for w in (world, loaded))
    assert torch.equal(a, b)


def test_damaged_worlds_are_reported(tmp_path: Path) -> None:
    with pytest.raises(JinnError, match="no world at"):
        World.load(tmp_path / "nothing")
    make_world().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "colour": 1}))
    with pytest.raises(JinnError, match="unknown keys \\['colour'\\]"):
        World.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(JinnError, match="damaged"):
        World.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(JinnError, match="damaged"):
        World.load(tmp_path)


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:99"])
def test_a_device_that_is_not_here_is_one_sentence(name: str) -> None:
    with pytest.raises(JinnError, match=f"there is no device '{name}' here.*choose one of cpu"):
        World.load("coinrun", name)


def test_a_device_without_float64_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's MPS, on which no frame could be computed."""

    def zeros(*size: int, dtype: torch.dtype = torch.float32, device: object) -> torch.Tensor:
        if dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        return torch.empty(*size)

    monkeypatch.setattr(torch, "zeros", zeros)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(JinnError, match=r"float64.*choose one of cpu") as error:
        find_device("mps")
    assert "of cpu, mps" not in str(error.value)


@pytest.mark.skipif(not MAPS.exists(), reason="the system does not tell what is mapped")
def test_a_loaded_world_maps_none_of_its_files(tmp_path: Path) -> None:
    """Windows replaces no file that is mapped, so a run could not save while its world is played."""
    World.load("coinrun").save(tmp_path)
    world = World.load(tmp_path)
    assert world.trained_on is not None
    assert str(tmp_path) not in MAPS.read_text()


def test_an_unknown_backend_is_one_sentence() -> None:
    with pytest.raises(JinnError, match="no backend 'cuda': choose one of auto, torch"):
        make_world().with_backend("cuda")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.load_state_dict(world.state_dict()),
        lambda world: world.dynamics.load_state_dict(world.dynamics.state_dict(), assign=True),
        lambda world: nn.init.zeros_(world.tokenizer.to_latent.weight),
    ],
)
def test_a_backend_is_not_played_once_the_weights_have_changed(change: Callable[[World], object]) -> None:
    world = make_world()
    play_frame = while_unchanged(world, Backend("fast", 1, lambda *values: values))  # type: ignore[arg-type]
    play_frame(None)
    change(world)
    with pytest.raises(JinnError, match="since the backend fast was made"):
        play_frame(None)


def test_a_world_is_saved_until_it_changes(tmp_path: Path) -> None:
    world = make_world()
    assert not is_saved(world, tmp_path)
    world.save(tmp_path)
    assert is_saved(world, tmp_path)
    nn.init.zeros_(world.dynamics.position_ND)
    assert not is_saved(world, tmp_path)


# Parameters in millions as the paper prints them; jinn.recipes documents what the paper leaves open.
PAPER_DYNAMICS = {
    "paper_platformers_41m": 41,
    "paper_platformers_96m": 96,
    "paper_platformers_192m": 192,
    "paper_platformers_404m": 404,
    "paper_platformers_811m": 811,
    "paper_platformers_1b6": 1_600,
    "paper_platformers_2b7": 2_700,
    "paper_platformers_10b": 10_100,
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_the_papers_have_its_parameter_counts(name: str) -> None:
    recipe = RECIPES[name]()
    with torch.device("meta"):
        world = World(
            WorldConfig(name, 10.0, recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling)
        )
    millions = {n: sum(p.numel() for p in m.parameters()) / 1e6 for n, m in world.named_children()}
    if name in PAPER_DYNAMICS:
        assert millions["dynamics"] == pytest.approx(PAPER_DYNAMICS[name], rel=0.06)
        assert millions["tokenizer"] == pytest.approx(200, rel=0.06)
        assert millions["latent_actions"] == pytest.approx(300, rel=0.2)
    if name == "paper_platformers_10b":
        assert sum(millions.values()) == pytest.approx(10_700, rel=0.02)
    if name == "paper_robotics":
        assert sum(millions.values()) == pytest.approx(2_500, rel=0.06)
    assert RECIPES[name].__doc__
    assert recipe.dynamics_training.frames <= max(recipe.dynamics.transformer.window, 16)


def test_a_config_with_an_unknown_value_is_refused(tmp_path: Path) -> None:
    make_world().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["dynamics"] |= {"factored": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(JinnError, match=r"config\.json.*factored"):
        World.load(tmp_path)


def test_saving_a_world_again_replaces_its_training_data_and_legend(tmp_path: Path) -> None:
    world = make_world()
    world.trained_on = np.array([3, 2**63 + 1], np.uint64)
    world.save(tmp_path)
    loaded = World.load(tmp_path)
    assert loaded.trained_on is not None
    assert loaded.trained_on.tolist() == [3, 2**63 + 1]
    assert loaded.legend == world.legend
    world.trained_on = world.legend = None
    world.save(tmp_path)
    assert World.load(tmp_path).trained_on is None
    assert World.load(tmp_path).legend is None


@pytest.mark.parametrize("name", built_in_worlds())
def test_a_built_in_world_is_complete_and_small(name: str) -> None:
    folder = find_world(name)
    assert max(p.stat().st_size for p in folder.iterdir()) <= 12e6
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 12.5e6
    assert (folder / "README.md").is_file()
    world = World.load(name)
    assert world.name == name
    assert len(world.prompts) >= 4
    assert len(world.action_names or []) == world.num_actions


@pytest.mark.long
def test_nobody_sinks_into_the_floor_of_platforms() -> None:
    """Four seconds of "down" from every prompt: there is still a level, with black air above its ground."""
    world = World.load("platforms")
    down = torch.full((len(world.prompts),), (world.action_names or []).index("down"))
    state, _ = world.reset(world.prompts[:, None])
    for _ in range(60):
        state, frame_BHWC = world.step(state, down)
    air_B = (frame_BHWC.amax(-1) < 40).float().mean((1, 2))
    assert ((air_B > 0.05) & (air_B < 0.95)).sum() >= len(world.prompts) - 1


@pytest.mark.slow
def test_the_built_in_world_follows_its_actions() -> None:
    """The camera follows the player: while a direction is held, the picture moves the other way."""
    world = World.load("coinrun")
    names = world.action_names or []
    for name, axis, sign in (("down-left", 1, 1), ("right", 1, -1), ("up", 0, 1), ("down", 0, -1)):
        action = torch.full((len(world.prompts),), names.index(name))
        state, frame = world.reset(world.prompts[:, None])
        frames = [frame]
        for _ in range(6):
            state, frame = world.step(state, action)
            frames.append(frame)
        moved = global_motion(torch.stack(frames, dim=1)).double().mean((0, 1))
        assert sign * moved[axis] > 0.5, (name, moved)
    state, _ = world.reset(
        world.prompts[:1, None].expand(world.num_actions, -1, -1, -1, -1), seed=[0] * world.num_actions
    )
    for _ in range(4):
        state, frame = world.step(state, torch.arange(world.num_actions))
    assert len({picture.numpy().tobytes() for picture in frame}) == world.num_actions
