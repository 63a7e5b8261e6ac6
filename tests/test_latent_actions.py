"""Latent action models: the frames that an action depends on, and gradients of all parameters."""

from __future__ import annotations

import pytest
import torch

from helpers_models import (
    OUR_LAM,
    PAPER_LAM,
    frames,
    no_gradient,
    seeded,
)
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.ours.motion import displaced, matching_costs, move
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


LAMS = pytest.mark.parametrize("config", [PAPER_LAM, OUR_LAM], ids=["paper", "ours"])


@LAMS
def test_lam_loss_reaches_every_parameter(config: LatentActionsConfig | MotionLatentActionsConfig) -> None:
    model = config.build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # layers initialised to zero pass no gradient in the first step
        optimizer.zero_grad()
        loss, report = model.loss(frames())
        loss.backward()
        optimizer.step()
    assert no_gradient(model) == set()
    assert report["actions"].shape == (2, 4)


def test_continuous_lam_training_leaves_the_codebook_unchanged_and_adds_noise() -> None:
    model = OUR_LAM.build()
    noise = torch.randn(2, 4, 8)
    loss, _ = model.continuous_loss(frames(), noise)
    loss.backward()
    assert model.quantizer.codebook_KD.grad is None
    assert model.to_pixels.weight.grad.any()
    with torch.no_grad():
        model.to_pixels.weight.normal_()  # initialised to zero, where the latents have no effect
        assert model.continuous_loss(frames(), noise)[0] != model.continuous_loss(frames(), 2 * noise)[0]


@LAMS
def test_an_action_does_not_depend_on_frames_after_its_step(
    config: LatentActionsConfig | MotionLatentActionsConfig,
) -> None:
    model = config.build()
    clip = frames()
    changed = clip.clone()
    changed[:, 3] = 255 - changed[:, 3]
    a, b = (model.encode_pixels(model.preprocess(x)) for x in (clip, changed))
    assert ((a - b).abs().amax(dim=(0, 2)) > 1e-6).tolist() == [False, False, True, True]


def test_the_lam_decoder_does_not_see_the_frame_it_predicts() -> None:
    model = PAPER_LAM.build()
    pixels = model.preprocess(frames())
    latents = torch.randn(2, 4, 8)
    changed = pixels.clone()
    changed[:, 2] = 1 - changed[:, 2]
    a, b = model.predict_next(pixels[:, :-1], latents), model.predict_next(changed[:, :-1], latents)
    # The outputs are frames 1..4: changing frame 2 may change the predictions of 3 and 4 only.
    assert ((a - b).abs().amax(dim=(0, 2, 3, 4)) > 1e-6).tolist() == [False, False, True, True]


def test_a_lam_that_moves_pixels_is_initialised_to_copy_the_last_frame() -> None:
    model = OUR_LAM.build()
    pixels = model.preprocess(torch.full((1, 2, 16, 16, 3), 120, dtype=torch.uint8))
    drawn = model.predict_next(pixels[:, :1], torch.zeros(1, 1, 8))
    torch.testing.assert_close(drawn, pixels[:, :1], atol=1e-5, rtol=0)


def test_motion_helpers_agree_with_a_known_shift() -> None:
    picture = torch.rand(1, 1, 12, 12, 3, generator=seeded())
    moved = torch.roll(picture, (1, -2), dims=(2, 3))  # down by 1, left by 2
    every = displaced(picture, 2)
    shift = (1 + 2) * 5 + (-2 + 2)
    torch.testing.assert_close(every[0, 0, shift, 4:8, 4:8], moved[0, 0, 4:8, 4:8])
    costs = matching_costs(picture, moved, 2, 4)
    assert int(costs[0, 0, 4].argmin()) == shift  # the middle one of 3 x 3 patches
    every_cost = (displaced(picture, 2) - moved.unsqueeze(2)).abs().mean(-1)[0, 0]
    # Patches are 4 pixels wide.
    means = every_cost.reshape(25, 3, 4, 3, 4).mean((2, 4)).reshape(25, 9).T
    means = means - means.mean(-1, keepdim=True)
    torch.testing.assert_close(costs[0, 0], means / (means.square().mean(-1, keepdim=True).sqrt() + 0.01))
    weights = torch.zeros(1, 1, 9, 25)
    weights[..., shift] = 1.0
    torch.testing.assert_close(move(picture, weights, 2, 4)[0, 0, 4:8, 4:8], moved[0, 0, 4:8, 4:8])
