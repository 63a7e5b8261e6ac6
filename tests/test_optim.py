"""Configs, the optimiser, and what a training step learns from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.data.clips import Batch
from jinn.data.synthetic import game_rollout, write_game
from jinn.files import from_dict, to_dict
from jinn.models.transformer import TransformerConfig
from jinn.recipes import RECIPES, paper_coinrun, tiny
from jinn.training.optim import (
    TrainingConfig,
    learning_rate,
    make_optimizers,
    orthogonal,
    orthogonal_in_bfloat16,
)
from jinn.training.parallel import Precision
from jinn.training.recipe import Recipe
from jinn.training.run import run_recipe
from jinn.training.stages import DynamicsStage
from jinn.world.config import WorldConfig
from jinn.world.world import World


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    recipe = RECIPES[name]()
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe


def test_unknown_and_missing_keys_are_errors() -> None:
    values = to_dict(tiny())
    with pytest.raises(JinnError, match="colour"):
        from_dict(Recipe, {**values, "colour": "red"})
    values["tokenizer_training"].pop("warmup")
    with pytest.raises(JinnError, match="lacks the keys \\['warmup'\\]"):
        from_dict(Recipe, values)


def test_the_schedule_warms_up_and_ends_at_the_final_rate() -> None:
    config = TrainingConfig(steps=100, warmup=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    held = [learning_rate(replace(config, hold=0.5), step) for step in range(100)]
    assert held[:10] == rates[:10]
    assert held[10:55] == pytest.approx([1.0] * 45)
    assert held[55:] == sorted(held[55:], reverse=True)
    assert held[-1] == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="fraction of the steps"):
        replace(config, hold=1.0)


def new_world(recipe: Recipe) -> World:
    return World(
        WorldConfig("x", 10.0, recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling)
    )


def test_the_frozen_tokenizer_is_not_in_the_optimizer_and_only_matrices_decay() -> None:
    recipe = tiny()
    world = new_world(recipe)
    world.tokenizer.requires_grad_(False)
    config = replace(recipe.dynamics_training, optimizer="adamw")
    (optimizer,) = make_optimizers(config, [world.tokenizer, world.dynamics])
    frozen = {id(p) for p in world.tokenizer.parameters()}
    decayed, free = optimizer.param_groups
    assert not frozen & {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert len(decayed["params"]) + len(free["params"]) == len(list(world.dynamics.parameters()))
    assert all(p.ndim == 2 for p in decayed["params"])
    assert id(world.dynamics.token_embed.digit_FD) in {id(p) for p in free["params"]}
    assert free["weight_decay"] == 0


def test_muon_and_adamw_divide_the_parameters() -> None:
    world = new_world(tiny())
    config = replace(tiny().dynamics_training, optimizer="muon")
    muon, adamw = make_optimizers(config, [world.tokenizer, world.dynamics])
    matrices = [p for group in muon.param_groups for p in group["params"]]
    others = [p for group in adamw.param_groups for p in group["params"]]
    assert {id(p) for p in (*matrices, *others)} == {
        id(p) for model in (world.tokenizer, world.dynamics) for p in model.parameters()
    }
    assert len(matrices) + len(others) == len({id(p) for p in (*matrices, *others)})
    assert id(world.dynamics.transformer.blocks[0].feedforward[0].weight) in {id(p) for p in matrices}  # type: ignore[index, union-attr]
    assert id(world.tokenizer.to_latent.weight) in {id(p) for p in others}  # only three rows
    assert id(world.dynamics.token_embed.digit_FD) in {id(p) for p in others}


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 20, 90), (1, 90, 20)])
@pytest.mark.parametrize("function", [orthogonal, orthogonal_in_bfloat16])
def test_orthogonalisation_keeps_directions_and_equalises_lengths(
    function: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, lengths, right = torch.linalg.svd(matrices, full_matrices=False)
    # Rare directions have a thirtieth of the length of common ones.
    lengths = torch.logspace(0, -1.5, lengths.shape[-1])
    found = function(left * lengths.unsqueeze(-2) @ right)
    assert found.dtype == torch.float32
    along = left.mT @ found @ right.mT
    evened = along.diagonal(dim1=-2, dim2=-1)
    assert evened.min() > 0.5
    assert evened.max() < 1.3
    # The squares of the smallest are a thousandth of the largest, so rounding rotates them slightly.
    rounding = 0.05 if function is orthogonal else 0.2
    torch.testing.assert_close(along, torch.diag_embed(evened), atol=rounding, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_muon_learns_every_direction(precision: Precision) -> None:
    """A regression on inputs whose sizes differ a hundredfold."""
    chance = torch.Generator().manual_seed(0)
    mix = torch.linalg.qr(torch.randn(32, 32, generator=chance)).Q
    wanted = torch.randn(32, 32, generator=chance) / 32**0.5
    inputs = torch.randn(256, 32, generator=chance) * torch.logspace(0, -2, 32) @ mix
    model = torch.nn.Linear(32, 32, bias=False)
    torch.nn.init.zeros_(model.weight)
    config = TrainingConfig(
        steps=1000, warmup=1, learning_rate=1e-2, final_learning_rate=0.0, weight_decay=0.0, optimizer="muon"
    )
    (muon,) = make_optimizers(config, [model], precision)
    for step in range(config.steps):
        muon.param_groups[0]["lr"] = learning_rate(config, step)
        muon.zero_grad()
        (model(inputs) - inputs @ wanted.T).square().mean().backward()
        muon.step()
    assert float((model.weight.detach() - wanted).norm()) < 0.05 * float(wanted.norm())


# Trainings


def test_in_bfloat16_the_dynamics_learn_on_the_tokens_of_play() -> None:
    recipe = tiny()
    torch.manual_seed(0)
    world = new_world(recipe).eval()
    frames_BTHWC = torch.stack([torch.from_numpy(game_rollout(seed, 4)[0]) for seed in range(4)])
    world.tokenizer.initialize_from_data(frames_BTHWC, torch.Generator().manual_seed(0))  # many codes
    clips = Batch(frames_BTHWC, torch.full((4, 3), -1), frames_BTHWC[:, 0])
    played = world.tokenizer.encode(frames_BTHWC), world.latent_actions.encode(frames_BTHWC)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(world.tokenizer.encode(frames_BTHWC), played[0])
        learned = DynamicsStage(world, frames_BTHWC).encode(clips)
    assert all(map(torch.equal, learned, played))


@pytest.mark.long
def test_the_papers_losses_decrease(tmp_path: Path) -> None:
    """The paper's settings at a small size: VQ, whole frames in the LAM, all three losses from the first step."""
    model = TransformerConfig(layers=2, width=64, heads=4, head_width=16, feedforward=0.25)
    paper = paper_coinrun()
    phase = replace(paper.tokenizer_training, steps=80, batch=4, frames=4, learning_rate=2e-3, warmup=10)
    recipe = replace(
        paper,
        tokenizer=replace(paper.tokenizer, encoder=model, decoder=model),
        latent_actions=replace(paper.latent_actions, patch=8, encoder=model, decoder=model),
        dynamics=replace(paper.dynamics, transformer=model),
        sampling=replace(paper.sampling, steps=2),  # of previews
        tokenizer_training=phase,
        dynamics_training=phase,
    )
    game = write_game(tmp_path / "game", episodes=300, length=41, seed=0)
    run_recipe(recipe, game, tmp_path / "run", "game")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    for figure in ("mse", "action_mse", "nll"):
        values = [line[figure] for line in lines if figure in line]
        assert np.mean(values[-3:]) < 0.7 * np.mean(values[:3]), figure
