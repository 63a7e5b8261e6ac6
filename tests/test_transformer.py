"""The ST-transformer and its patches: which positions attend to which, and cached equals uncached."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from jinn.contracts import to_float, to_uint8
from jinn.models.attention import attend, rotate, rotation_matrices
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.patches import grid_of, patchify, unpatchify
from jinn.models.quantize import VQConfig
from jinn.models.space_time import SpaceTimeConfig
from jinn.models.transformer import AnyTransformerConfig, STBlock, STTransformer, TransformerConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_pixels_survive_the_round_trip() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    with pytest.raises(ValueError, match="uint8"):
        to_float(torch.zeros(3))


@pytest.mark.parametrize("size", [(16, 16), (18, 20), (90, 160)])
def test_patches_cover_the_frame_and_come_back(size: tuple[int, int]) -> None:
    pixels = torch.rand(2, 3, *size, 3)
    patches = patchify(pixels, 4)
    assert patches.shape[2] == grid_of(size, 4)[0] * grid_of(size, 4)[1]
    assert torch.equal(unpatchify(patches, 4, size), pixels)


def test_patches_are_squares_in_reading_order() -> None:
    pixels = torch.zeros(1, 1, 8, 12, 3)
    pixels[0, 0, 4:8, 4:8] = 1.0
    assert patchify(pixels, 4)[0, 0].mean(-1).tolist() == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("length", [3, 4, 9])
@pytest.mark.parametrize(
    "kind", [TransformerConfig, partial(TransformerConfig, temporal_every=2), SpaceTimeConfig]
)
def test_cached_equals_uncached(length: int, kind: Callable[..., AnyTransformerConfig]) -> None:
    """Also when the clip is longer than the window and the oldest frames have left it."""
    model = STTransformer(kind(layers=4, width=32, heads=4, window=4))
    x_BTND = torch.randn(2, length, 6, 32)
    whole = model(x_BTND)
    for first in range(1, length):
        head, past = model.prefill(x_BTND[:, :first])
        torch.testing.assert_close(head, whole[:, :first], atol=1e-5, rtol=1e-5)
        for t in range(first, length):
            y, keys, values = model.next_frame(x_BTND[:, t], past)
            wanted_BR = torch.stack([torch.randperm(6)[:4] for _ in range(2)])
            some = model.next_outputs(x_BTND[:, t], past, wanted_BR)
            torch.testing.assert_close(some, torch.take_along_dim(y, wanted_BR.unsqueeze(-1), 1))
            past = past.append(keys, values)
            torch.testing.assert_close(y, whole[:, t], atol=1e-4, rtol=1e-4)


def test_a_roll_out_is_the_same_after_a_hundred_thousand_frames() -> None:
    """Only distances in time matter: the same past a hundred thousand frames later gives the same frame."""
    model = STTransformer(TransformerConfig(layers=2, width=32, heads=4, window=4))
    x_BTND = torch.randn(2, 5, 6, 32)
    _, young = model.prefill(x_BTND[:, :4])
    later = torch.full((3,), 100_000)  # for the three frames that the window holds
    old = young._replace(keys_LBNHPC=rotate(young.keys_LBNHPC, later), frames_B=young.frames_B + 100_000)
    for t in (4, 0, 1):
        y, *new = model.next_frame(x_BTND[:, t], young)
        z, *late = model.next_frame(x_BTND[:, t], old)
        young, old = young.append(*new), old.append(*late)
        torch.testing.assert_close(y, z, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [TransformerConfig, SpaceTimeConfig])
def test_attention_is_causal_and_limited_to_the_window(kind: type[AnyTransformerConfig]) -> None:
    model = STTransformer(kind(layers=1, width=32, heads=4, window=3))
    x_BTND = torch.randn(1, 6, 4, 32)
    changed = x_BTND.clone()
    changed[:, 2] = torch.randn(4, 32)
    differs = (model(x_BTND) - model(changed)).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert differs.tolist() == [False, False, True, True, True, False]


def test_space_time_attention_sees_other_positions_of_past_frames() -> None:
    """Those at other places too, without attention over space: there, one layer sees only those at its own place."""
    for kind, sees in ((TransformerConfig, False), (SpaceTimeConfig, True)):
        model = STTransformer(kind(layers=1, width=32, heads=4))
        if isinstance(block := model.blocks[0], STBlock):
            torch.nn.init.zeros_(block.spatial.out.weight)
        x_BTND = torch.randn(1, 2, 4, 32)
        changed = x_BTND.clone()
        changed[:, 0, 3] = torch.randn(32)
        differs_N = (model(x_BTND) - model(changed))[0, 1].abs().amax(-1) > 1e-6
        assert differs_N.tolist() == [sees, sees, sees, True]


def test_rotation_matrices_rotate() -> None:
    x_BPC, positions = torch.randn(3, 7, 10), torch.arange(-2, 5)
    turned_BPC = (x_BPC[..., None, :] @ rotation_matrices(positions, 10).float()).squeeze(-2)
    torch.testing.assert_close(turned_BPC, rotate(x_BPC, positions), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("widths", [(12, 15), (16, 10), (16, 16)])
def test_queries_and_values_may_differ_in_width(widths: tuple[int, int]) -> None:
    query, key = torch.randn(2, 3, 5, widths[0], requires_grad=True), torch.randn(2, 3, 5, widths[0])
    value = torch.randn(2, 3, 5, widths[1], requires_grad=True)
    wanted = (query @ key.transpose(-1, -2) * widths[0] ** -0.5).softmax(-1) @ value
    given = attend(query, key, value)
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    grad = torch.randn_like(wanted)
    torch.testing.assert_close(
        torch.autograd.grad(given, [query, value], grad),
        torch.autograd.grad(wanted, [query, value], grad),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("window", [3, 7, 16])
def test_temporal_attention_equals_its_formula(window: int) -> None:
    """Output and gradients against scores, mask and softmax written out for each position."""
    attention = TransformerConfig(width=30, heads=2, head_width=12).attention_layer().double()
    x_BTND = torch.randn(2, 7, 5, 30, dtype=torch.double, requires_grad=True)
    y_BTND, key_BNHTC, value_BNHTC = attention.temporal(x_BTND, window)

    query, key, value = (y.permute(0, 2, 3, 1, 4) for y in attention.project(x_BTND))
    torch.testing.assert_close(key_BNHTC, key)
    torch.testing.assert_close(value_BNHTC, value)
    t = torch.arange(7)
    scores = rotate(query, t) @ rotate(key, t).transpose(-1, -2) * 12**-0.5
    hidden = (t > t[:, None]) | (t <= t[:, None] - window)
    wanted = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value
    wanted_BTND = attention.out(wanted.permute(0, 3, 1, 2, 4).flatten(3))
    torch.testing.assert_close(y_BTND, wanted_BTND, atol=1e-6, rtol=1e-5)
    inputs = [x_BTND, *attention.parameters()]
    grad = torch.randn_like(y_BTND)
    torch.testing.assert_close(
        torch.autograd.grad(y_BTND, inputs, grad), torch.autograd.grad(wanted_BTND, inputs, grad)
    )


def test_every_position_of_a_frame_attends_to_every_other() -> None:
    model = STTransformer(TransformerConfig(layers=1, width=32, heads=4, temporal_every=0))
    x_BTND = torch.randn(1, 2, 4, 32)
    changed = x_BTND.clone()
    changed[:, 1, 3] = torch.randn(32)
    differs = (model(x_BTND) - model(changed)).abs().amax(dim=(0, 3)) > 1e-6
    assert differs.tolist() == [[False] * 4, [True] * 4]


@pytest.mark.parametrize("window", [2, 4])
def test_the_first_frame_can_stay_in_the_cache(window: int) -> None:
    """It keeps the oldest place, at the same distance; of the others the oldest leaves."""
    model = STTransformer(TransformerConfig(layers=1, width=16, heads=2, window=window))
    past, new = model.prefill(torch.randn(1, 1, 3, 16))[1], torch.randn(8, 2, 1, 1, 3, 2, 8)
    plain = past
    first_key, first_value = (
        past.keys_LBNHPC[..., -1, :],
        past.values_LBNHPC[..., -1, :],
    )  # of frame 0, not rotated
    for keys, values in new:
        past, plain = past.append(keys, values, keep_first=True), plain.append(keys, values)
        frames, slots = int(past.frames_B), window - 1
        assert torch.equal(past.valid_BP, plain.valid_BP)
        if frames <= slots or slots == 1:
            assert torch.equal(past.keys_LBNHPC, plain.keys_LBNHPC)
            continue
        rotation_CC = rotation_matrices(torch.tensor([frames - slots]), 8)[0].float()
        torch.testing.assert_close(past.keys_LBNHPC[..., 0, :], first_key @ rotation_CC)
        assert torch.equal(past.values_LBNHPC[..., 0, :], first_value)
        assert torch.equal(past.keys_LBNHPC[..., 1:, :], plain.keys_LBNHPC[..., 1:, :])
        assert torch.equal(past.values_LBNHPC[..., 1:, :], plain.values_LBNHPC[..., 1:, :])


def test_a_per_frame_transformer_has_an_empty_cache() -> None:
    model = STTransformer(TransformerConfig(layers=2, width=32, heads=4, temporal_every=0, window=3))
    x_BTND = torch.randn(2, 3, 4, 32)
    y, past = model.prefill(x_BTND[:, :2])
    assert past.keys_LBNHPC.shape[0] == 0
    z, keys, values = model.next_frame(x_BTND[:, 2], past)
    torch.testing.assert_close(
        model.next_outputs(x_BTND[:, 2], past, torch.tensor([[3], [1]])), z[[0, 1], [3, 1]][:, None]
    )
    past.append(keys, values)
    torch.testing.assert_close(torch.cat([y, z[:, None]], 1), model(x_BTND))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="heads"):
        TransformerConfig(width=30, heads=4)
    with pytest.raises(ValueError, match="even"):
        TransformerConfig(width=12, heads=4)
    with pytest.raises(ValueError, match="2 to 64"):
        LatentActionsConfig(quantizer=VQConfig(codes=65))
