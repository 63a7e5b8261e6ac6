"""Golden values: what the losses and the built-in world compute, as literal numbers.

Tests of equality cannot see a change that is made on both sides; these can. A refactoring must leave them as they
are. A change that is meant to change what is learned or played changes them, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jinn.data.synthetic import game_rollout
from jinn.models.maskgit import SamplingConfig
from jinn.models.ours.conv_tokenizer import ConvConfig, ConvTokenizerConfig
from jinn.models.ours.motion_latent_actions import MotionLatentActionModel
from jinn.models.ours.self_rollout import self_rollout_loss
from jinn.models.quantize import VQConfig
from jinn.models.transformer import TransformerConfig
from jinn.recipes import coinrun_cpu, paper_coinrun, tiny
from jinn.training.recipe import Recipe
from jinn.training.run import fit_to_frames
from jinn.world.config import WorldConfig
from jinn.world.world import World

SMALL = TransformerConfig(layers=2, width=32, heads=4, head_width=8, feedforward=1.0, window=4)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The order in which sums are computed depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def paper() -> Recipe:
    """The paper's models at a small size."""
    recipe = paper_coinrun()
    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, encoder=SMALL, decoder=SMALL, quantizer=VQConfig(32, 8)),
        latent_actions=replace(recipe.latent_actions, encoder=SMALL, decoder=SMALL),
        dynamics=replace(recipe.dynamics, transformer=SMALL),
    )


def ours() -> Recipe:
    """The models of `coinrun_cpu` at a small size."""
    recipe = coinrun_cpu()
    sizes = ConvConfig(fine=8, coarse=16, fine_blocks=1, coarse_blocks=1)
    assert isinstance(recipe.tokenizer, ConvTokenizerConfig)
    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, encoder=sizes, decoder=sizes),
        latent_actions=replace(recipe.latent_actions, encoder=SMALL, decoder=SMALL),
        dynamics=replace(recipe.dynamics, transformer=replace(SMALL, temporal_every=2)),
    )


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(clip) for clip in range(2)]


def losses(recipe: Recipe) -> dict[str, float]:
    """Every loss of a recipe's models at their initial weights, on two clips of the synthetic game."""
    recipe = fit_to_frames(recipe, (32, 32))
    torch.manual_seed(0)
    models = recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling
    world = World(WorldConfig("golden", 10.0, *models))
    frames_BTHWC = torch.stack([torch.from_numpy(game_rollout(seed, 6)[0]) for seed in range(2)])
    tokenizer, actions, dynamics = world.tokenizer, world.latent_actions, world.dynamics
    N, A = tokenizer.grid_hw[0] * tokenizer.grid_hw[1], world.num_actions
    generator = torch.Generator().manual_seed(1)
    tokens_BTN = torch.randint(tokenizer.codebook_size, (2, 6, N), generator=generator)
    actions_BTm1 = torch.randint(A, (2, 5), generator=generator)
    found: dict[str, Tensor] = {
        "tokenizer": tokenizer.loss(frames_BTHWC)[0],
        "latent_actions": actions.loss(frames_BTHWC)[0],
        "dynamics": dynamics.loss(tokens_BTN, actions_BTm1, generators())[0],
        "self_rollout": self_rollout_loss(dynamics, tokens_BTN, actions_BTm1, generators(), recipe.sampling)[
            0
        ],
    }
    if isinstance(actions, MotionLatentActionModel):
        noise = torch.randn(2, 5, actions.config.quantizer.dim, generator=generator)
        # The decoder is initialised to copy the last frame, where the latents have no effect.
        torch.nn.init.normal_(actions.to_pixels.weight, std=0.01, generator=generator)
        found["continuous"] = actions.continuous_loss(frames_BTHWC, noise)[0]
    return {name: float(loss.detach()) for name, loss in found.items()}


GOLDEN: dict[Callable[[], Recipe], dict[str, float]] = {
    tiny: {
        "tokenizer": 0.128775,
        "latent_actions": 2.22211,
        "continuous": 2.6005,
        "dynamics": 5.33099,
        "self_rollout": 5.34348,
    },
    paper: {"tokenizer": 42.8324, "latent_actions": 8.67416, "dynamics": 3.55102, "self_rollout": 3.57729},
    ours: {
        "tokenizer": 0.125607,
        "latent_actions": 1.37854,
        "continuous": 1.44819,
        "dynamics": 12.6727,
        "self_rollout": 12.6845,
    },
}


@pytest.mark.parametrize("recipe", GOLDEN, ids=lambda recipe: recipe.__name__)
def test_losses_equal_their_golden_values(recipe: Callable[[], Recipe]) -> None:
    assert losses(recipe()) == pytest.approx(GOLDEN[recipe], rel=1e-4)


def test_the_built_in_world_plays_its_golden_frames() -> None:
    world = World.load("coinrun")
    state, _ = world.reset(world.prompts[:2, None], seed=3)
    sums = []
    for step in range(4):
        # The likeliest tokens: of drawn ones, rounding changes some on another processor.
        state, frame_BHWC = world.step(state, torch.tensor([step, 7 - step]), SamplingConfig(1, 0.0))
        sums.append((int(state.tokens_BN.sum()), round(float(frame_BHWC.double().mean()), 3)))
    assert [tokens for tokens, _ in sums] == [8902433, 8872499, 10036965, 10795140]
    assert [mean for _, mean in sums] == pytest.approx([158.101, 158.495, 153.469, 148.94], abs=0.01)
