"""Known actions: the dynamics are conditioned on what was really done, and the world's actions have its names."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_evaluation import measured_on_new_levels
from jinn.cli import main
from jinn.contracts import JinnError
from jinn.data.clips import Batch, clip_generators, read_actions, read_clips
from jinn.data.store import FrameStore
from jinn.data.synthetic import ACTIONS, game_rollout, write_game
from jinn.data.writer import StoreWriter
from jinn.env import WorldEnv
from jinn.evaluation.protocol import Protocol
from jinn.models.ours.known_actions import KnownActionsConfig
from jinn.overrides import override
from jinn.recipes import coinrun_cpu, paper_coinrun, tiny
from jinn.training.loop import Interrupted
from jinn.training.recipe import Recipe, phases, with_known_actions
from jinn.training.run import run_recipe
from jinn.training.stages import DynamicsStage
from jinn.world.config import WorldConfig
from jinn.world.export import export_onnx
from jinn.world.label import label
from jinn.world.world import World

STEPS = {"tokenizer": 20, "latent_action": 120, "dynamics": 10, "self_rollout": 2}
SET = [
    f"{phase}_training.{value}" for phase, steps in STEPS.items() for value in (f"steps={steps}", "warmup=5")
] + ["sampling.steps=2"]


def short() -> Recipe:
    """`tiny` with a few steps; the model that infers actions has enough to learn."""
    return override(tiny(), SET)


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=100, length=41, seed=0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    """The same game without its actions."""
    path = tmp_path_factory.mktemp("videos") / "store"
    with StoreWriter(path, (32, 32), 10) as writer:
        for level in range(500, 520):
            writer.append(game_rollout(level, 41)[0])
            writer.end_episode(f"video {level}")
    return FrameStore.open(path)


@pytest.fixture(scope="module")
def trained(game: FrameStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    run = tmp_path_factory.mktemp("run") / "known"
    return run_recipe(short(), game, run, "known", actions="known"), run


def known_world() -> World:
    """An untrained world."""
    recipe = with_known_actions(tiny(), len(ACTIONS))
    recipe = replace(
        recipe,
        latent_actions=replace(recipe.latent_actions, size_hw=(32, 32)),
        dynamics=replace(recipe.dynamics, doubt=0.0),
    )
    torch.manual_seed(0)
    models = recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling
    return World(WorldConfig("x", 10.0, *models))


def some_clips(store: FrameStore) -> Batch:
    places = np.arange(8), np.arange(8) * 3
    frames_BTHWC = read_clips(store, *places, 4)
    return Batch(frames_BTHWC, read_actions(store, *places, 4), frames_BTHWC[:, 0])


# The model that infers actions


def test_a_short_training_infers_the_true_actions(trained: tuple[World, Path], tmp_path: Path) -> None:
    """On new levels, where a tenth of the steps run into a wall and look like "stay"; chance is 0.2."""
    levels = write_game(tmp_path / "levels", episodes=10, length=41, seed=1000)
    places = np.arange(10), np.zeros(10, int)
    inferred_BTm1 = trained[0].latent_actions.encode(read_clips(levels, *places, 41))
    assert inferred_BTm1.shape == (10, 40)
    hits = (inferred_BTm1 == read_actions(levels, *places, 41)).float().mean()
    assert hits > 0.8
    labels_X = label(trained[0], levels, chunk=7)
    assert labels_X.reshape(10, 41)[:, :-1].tolist() == inferred_BTm1.tolist()


def test_unknown_actions_teach_nothing_and_a_batch_may_be_split(game: FrameStore) -> None:
    model = KnownActionsConfig((32, 32), patch=2, num_actions=5).build()
    frames_BTHWC, actions_BTm1, _ = some_clips(game)
    whole = model.loss(frames_BTHWC, actions_BTm1)[0]
    halves = [model.loss(frames_BTHWC[part], actions_BTm1[part])[0] for part in (slice(4), slice(4, 8))]
    torch.testing.assert_close(whole, torch.stack(halves).mean())
    actions_BTm1[4:] = -1
    torch.testing.assert_close(model.loss(frames_BTHWC, actions_BTm1)[0], halves[0] / 2)


@pytest.mark.parametrize("num_actions", [1, 65])
def test_a_world_has_2_to_64_actions(num_actions: int) -> None:
    with pytest.raises(JinnError, match="2 to 64 actions"):
        with_known_actions(tiny(), num_actions)


# What the dynamics see


def test_the_dynamics_see_the_true_actions_and_infer_those_that_are_unknown(game: FrameStore) -> None:
    clips = some_clips(game)
    stage = DynamicsStage(known_world(), clips.frames_BTHWC)
    inferred_BTm1 = stage.world.latent_actions.encode(clips.frames_BTHWC)
    assert not torch.equal(inferred_BTm1, clips.actions_BTm1)
    assert torch.equal(stage.encode(clips)[1], clips.actions_BTm1)
    partly_BTm1 = clips.actions_BTm1.clone()
    partly_BTm1[:, 1] = -1
    expected_BTm1 = clips.actions_BTm1.clone()
    expected_BTm1[:, 1] = inferred_BTm1[:, 1]
    assert torch.equal(stage.encode(clips._replace(actions_BTm1=partly_BTm1))[1], expected_BTm1)


def test_an_action_permuted_in_the_store_changes_the_loss(game: FrameStore) -> None:
    frames_BTHWC, actions_BTm1, first_BHWC = some_clips(game)
    stage = DynamicsStage(known_world(), frames_BTHWC)
    losses = [
        stage.loss(Batch(frames_BTHWC, given_BTm1, first_BHWC), clip_generators(0, range(8)))[0].item()
        for given_BTm1 in (actions_BTm1, actions_BTm1.clone(), (actions_BTm1 + 1) % 5)
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_latent_actions_do_not_see_the_true_ones(game: FrameStore, tmp_path: Path) -> None:
    """The same frames with other actions train the same world."""
    with StoreWriter(tmp_path / "other", (32, 32), 10, num_actions=5) as writer:
        for episode in range(game.num_episodes):
            writer.append(game.frames(episode, 0, 41))
            writer.end_episode("synthetic:game", np.zeros(41, int), game.level_seed(episode))
    recipe = override(short(), [f"{phase}_training.steps=6" for phase in STEPS])
    other = FrameStore.open(tmp_path / "other")
    found = [run_recipe(recipe, store, tmp_path / f"run-{i}", "x") for i, store in enumerate((game, other))]
    weights = [world.state_dict() for world in found]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


# Whole runs


def test_a_run_has_the_names_of_the_store_and_is_loaded_again(
    trained: tuple[World, Path], game: FrameStore
) -> None:
    world, run = trained
    loaded = World.load(run)
    assert loaded.has_known_actions
    assert loaded.action_names == list(ACTIONS) == world.action_names
    assert loaded.legend is not None
    assert loaded.legend[ACTIONS.index("right")].right > 2
    assert loaded.legend[ACTIONS.index("up")].down < -2
    frames_BTHWC = read_clips(game, np.arange(3), np.zeros(3, int), 6)
    actions_B = torch.tensor([1, 2, 3])
    frames = [w.step(w.reset(frames_BTHWC)[0], actions_B)[1] for w in (world, loaded)]
    assert torch.equal(*frames)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"tokenizer", "latent_actions", "dynamics", "self_rollout"} == {line["phase"] for line in lines}
    assert any("action_accuracy" in line for line in lines)


def test_without_names_in_the_store_they_are_guessed(game: FrameStore, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", (32, 32), 10, num_actions=5) as writer:
        for episode in range(20):
            writer.append(game.frames(episode, 0, 41))
            writer.end_episode("mine", game.actions(episode, 0, 41), episode)
    recipe = override(short(), [f"{phase}_training.steps=1" for phase in STEPS])
    world = run_recipe(recipe, FrameStore.open(tmp_path / "store"), tmp_path / "run", "x", actions="known")
    assert world.action_names == list(ACTIONS)  # the motion tells


def test_actions_that_nobody_ever_took_get_no_key(game: FrameStore, tmp_path: Path) -> None:
    """As of Procgen, which has 15 actions and players who take nine of them."""
    names = (*ACTIONS, "fire", "duck")
    with StoreWriter(tmp_path / "store", (32, 32), 10, num_actions=7, action_names=names) as writer:
        for episode in range(20):
            writer.append(game.frames(episode, 0, 41))
            writer.end_episode("mine", game.actions(episode, 0, 41), episode)
    store = FrameStore.open(tmp_path / "store")
    assert (store.num_actions, store.pressed_actions) == (7, 5)
    recipe = override(short(), [f"{phase}_training.steps=1" for phase in STEPS])
    world = run_recipe(recipe, store, tmp_path / "run", "x", actions="known")
    assert (world.num_actions, world.action_names) == (5, list(ACTIONS))


@pytest.mark.long
def test_a_stopped_run_ends_with_the_same_weights(game: FrameStore, tmp_path: Path) -> None:
    recipe = override(short(), [f"{phase}_training.steps=8" for phase in STEPS])
    whole = run_recipe(recipe, game, tmp_path / "whole", "x", actions="known")

    def press(phase: str, step: int, *_: float) -> None:
        if (phase, step) in {("latent_actions", 5), ("dynamics", 3)}:
            os.kill(os.getpid(), signal.SIGINT)

    for _ in range(2):
        with pytest.raises(Interrupted):
            run_recipe(recipe, game, tmp_path / "run", "x", on_step=press, actions="known")
    assert World.load(tmp_path / "run").action_names == list(ACTIONS)  # it is played under them already
    with pytest.raises(JinnError, match="was started with --actions known"):
        run_recipe(recipe, game, tmp_path / "run", "x")
    gone_on = run_recipe(recipe, game, tmp_path / "run", "x", actions="known").state_dict()
    assert all(torch.equal(gone_on[key], value) for key, value in whole.state_dict().items())


def test_a_base_that_knows_actions_infers_those_of_videos(
    trained: tuple[World, Path], videos: FrameStore, game: FrameStore, tmp_path: Path
) -> None:
    recipe = override(short(), ["dynamics_training.steps=2", "self_rollout_training=none"])
    world = run_recipe(recipe, videos, tmp_path / "run", "x", base=trained[0])
    assert world.action_names == list(ACTIONS)
    with pytest.raises(JinnError, match="has no true actions"):
        run_recipe(recipe, videos, tmp_path / "no", "x", base=trained[0], actions="known")
    latent = World(replace(trained[0].config, latent_actions=tiny().latent_actions))
    with pytest.raises(JinnError, match="the --base has latent actions"):
        run_recipe(recipe, game, tmp_path / "no", "x", base=latent, actions="known")
    with StoreWriter(tmp_path / "more", (32, 32), 10, num_actions=6) as writer:
        writer.append(game.frames(0, 0, 41))
        writer.end_episode("mine", np.full(41, 5))
    with pytest.raises(JinnError, match="has 6 actions, but the model has 5"):
        run_recipe(recipe, FrameStore.open(tmp_path / "more"), tmp_path / "no", "x", base=trained[0])
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("recipe", "store", "sentence"),
    [("tiny", "videos", "has no true actions"), ("paper_coinrun", "game", "has the paper's")],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(
    recipe: str, store: str, sentence: str, request: pytest.FixtureRequest, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = str(request.getfixturevalue(store).path)
    assert (
        main(["train", path, "--out", str(tmp_path / "run"), "--recipe", recipe, "--actions", "known"]) == 2
    )
    said = capsys.readouterr().err
    assert sentence in " ".join(said.split())
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_the_command_line_trains_and_remembers(game: FrameStore, tmp_path: Path) -> None:
    pairs = [*(f"{phase}_training.steps=1" for phase in STEPS), "tokenizer_training.warmup=1"]
    command = ["train", str(game.path), "--out", str(tmp_path / "run"), "--recipe", "tiny", "--set", *pairs]
    assert main([*command, "--actions", "known"]) == 0
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["recipe"]["latent_actions"]["num_actions"] == len(ACTIONS)
    assert main(command) == 2


def test_known_actions_learn_in_a_phase_of_their_own() -> None:
    recipe = with_known_actions(coinrun_cpu(), 15)
    assert [phase.name for phase in phases(recipe)] == [
        "tokenizer",
        "latent_actions",
        "dynamics",
        "self_rollout",
    ]
    assert with_known_actions(recipe, 15) == recipe
    with pytest.raises(JinnError, match="latent_action_training"):
        phases(replace(recipe, latent_action_training=None))
    with pytest.raises(JinnError, match="has the paper's"):
        with_known_actions(paper_coinrun(), 15)


# What uses the world


def test_it_is_an_environment(trained: tuple[World, Path]) -> None:
    env = WorldEnv(world=trained[0])
    assert env.action_space.n == len(ACTIONS)  # type: ignore[attr-defined]
    env.reset(seed=0)
    assert env.step(2)[0].shape == (32, 32, 3)
    env.close()


@pytest.mark.long
def test_its_graph_plays_the_same_frames(trained: tuple[World, Path], tmp_path: Path) -> None:
    trained[0].save(tmp_path / "world")
    export_onnx(World.load(tmp_path / "world"), tmp_path / "world", "float32")
    worlds = [World.load(tmp_path / "world", backend=name) for name in ("torch", "onnx")]
    states = [world.reset(world.prompts[:1, None])[0] for world in worlds]
    frames = [world.step(state, torch.tensor([1]))[1] for world, state in zip(worlds, states, strict=True)]
    assert (frames[0].int() - frames[1].int()).abs().max() <= 2


def test_it_is_evaluated_under_the_true_actions(
    trained: tuple[World, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Protocol(clips=8, frames=6, draws=1, long_rollouts=2, long_frames=60, shown=1)
    found = measured_on_new_levels(trained[0], tmp_path, monkeypatch, 12, protocol)
    assert {"control/delta_psnr_4", "control/consistency", "given/psnr"} <= set(found.estimates)
    assert found.estimates["actions/nmi_true"].value > 0.5
    assert [meaning.name for meaning in found.legend] == list(ACTIONS)
