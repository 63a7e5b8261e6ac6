"""Training: the goals on the synthetic game, and what a run writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_evaluation import measured_on_new_levels
from helpers_game import sprite_is_whole
from helpers_training import HAS_AMX
from jinn.data.store import FrameStore
from jinn.data.synthetic import game_rollout, write_game
from jinn.evaluation.protocol import Protocol
from jinn.evaluation.stability import long_actions
from jinn.recipes import tiny
from jinn.training.run import run_recipe
from jinn.world.label import label
from jinn.world.world import World

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=300, length=41, seed=0)


@pytest.fixture(scope="module")
def trained(game: FrameStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """The recipe `tiny` with half of its steps, which are enough; the longest test."""
    run, recipe = tmp_path_factory.mktemp("run") / "game", tiny()
    steps = {"tokenizer": 300, "latent_action": 600, "dynamics": 600, "self_rollout": 40}
    parts = {
        (name := f"{part}_training"): replace(getattr(recipe, name), steps=n) for part, n in steps.items()
    }
    return run_recipe(replace(recipe, **parts), game, run, "game"), run


def test_the_synthetic_game_is_learned_from_frames_alone(
    trained: tuple[World, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On new levels latent actions correspond to the true ones, and roll-outs follow them for 20 frames."""
    protocol = Protocol(clips=24, frames=20, draws=1, long_rollouts=2, long_frames=60, shown=1)
    found = measured_on_new_levels(trained[0], tmp_path, monkeypatch, 40, protocol)
    # Not 1: a tenth of the steps run into a wall, and look like "stay" whatever was pressed.
    assert found.estimates["actions/nmi_true"].low >= 0.6
    assert found.estimates["actions/map_accuracy"].low >= 0.8
    assert found.curves["inferred/psnr"][19].low >= 30
    # Sooner: where a wall stops a true action, the latent one that it is mapped to was never seen, and three sprites of
    # ten go elsewhere, which costs 20 dB. After 5 frames that is one clip of 24, after 20 frames ten.
    assert found.curves["given/psnr"][4].low >= 30
    assert found.curves["given/psnr"][19].low >= 25
    copied = found.estimates["inferred/psnr/copy_last"]
    assert found.estimates["inferred/psnr"].low > (copied.value if HAS_AMX else copied.high)
    assert found.estimates["control/delta_psnr_4"].low > 0
    # Not 1: random actions run into walls.
    assert (
        found.estimates["control/consistency"].low > 2 * found.estimates["control/consistency/chance"].value
    )
    motion = found.estimates["motion_distance/inferred"].high
    assert motion < found.estimates["motion_distance/static"].low
    assert {meaning.name for meaning in found.legend} == {"stay", "left", "right", "up", "down"}


def test_the_sprite_stays_whole_whatever_is_pressed(trained: tuple[World, Path]) -> None:
    """300 frames under every constant action and under random ones: most sprites run into a wall and stay there."""
    world = trained[0]
    prompts_PTHWC = torch.stack([torch.from_numpy(game_rollout(seed, 1)[0]) for seed in range(2000, 2004)])
    actions_BT = long_actions(world.num_actions, 4 * world.num_actions, 300, seed=0)
    actions_BT[4 * world.num_actions :] = torch.arange(world.num_actions).repeat_interleave(4).unsqueeze(1)
    state, frame_BHWC = world.reset(prompts_PTHWC.repeat(2 * world.num_actions, 1, 1, 1, 1))
    for actions_B in actions_BT.unbind(1):
        state, frame_BHWC = world.step(state, actions_B)
    random, constant = np.split(sprite_is_whole(frame_BHWC.numpy()), 2)
    # Of 20 and 20. With tokens that see more than their own patch some seeds keep none (docs/research-log.md).
    assert constant.mean() >= 0.95
    assert random.mean() >= 0.95


def test_a_run_writes_its_log_and_previews(trained: tuple[World, Path], game: FrameStore) -> None:
    world, run = trained
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for figure in ("mse", "action_mse", "nll"):  # tokenizer, latent actions, dynamics
        values = [line[figure] for line in lines if figure in line]
        assert np.mean(values[-3:]) < np.mean(values[:3]) / 3
    pictures = {path.name.split("-")[0] for path in (run / "previews").glob("*.png")}
    assert pictures == {"tokenizer", "latent_actions", "dynamics", "self_rollout"}
    assert list((run / "tensorboard").rglob("events.*"))
    loaded = World.load(run)
    assert len(loaded.prompts) == 8
    assert torch.equal(loaded.dynamics.position_ND, world.dynamics.position_ND)


def test_labels_have_one_action_a_frame_and_agree_with_whole_clips(
    trained: tuple[World, Path], tmp_path: Path
) -> None:
    world, game = trained[0], write_game(tmp_path / "game", episodes=12, length=41, seed=0)
    labels = label(world, game, chunk=7)
    assert len(labels) == game.num_frames
    ends = np.cumsum(game.lengths) - 1
    assert (labels[ends] == -1).all()
    whole = world.latent_actions.encode(torch.from_numpy(game.frames(3, 0, 41))[None])[0]
    assert labels[3 * 41 : 3 * 41 + 40].tolist() == whole.tolist()
