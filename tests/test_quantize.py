"""Quantisers: nearest codes, straight-through gradients, digits."""

from __future__ import annotations

import pytest
import torch

from helpers_models import (
    seeded,
)
from jinn.models.quantize import (
    FSQ,
    VQ,
    FSQConfig,
    VQConfig,
    join_digits,
    split_digits,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_vq_takes_the_nearest_code_and_passes_the_gradient_through() -> None:
    vq = VQ(VQConfig(codes=4, dim=2))
    with torch.no_grad():
        vq.codebook_KD.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]]))
    latents = torch.tensor([[0.9, 0.2], [0.1, 0.8]], requires_grad=True)
    quantized = vq(latents)
    assert quantized.codes.tolist() == [1, 2]
    torch.testing.assert_close(quantized.latents, torch.tensor([[1.0, 0], [0, 1]]))
    torch.testing.assert_close(vq.lookup(quantized.codes), quantized.latents)
    (quantized.latents * torch.tensor([[1.0, 2], [3, 4]])).sum().backward()
    torch.testing.assert_close(latents.grad, torch.tensor([[1.0, 2], [3, 4]]))
    assert vq.codebook_KD.grad is None or not vq.codebook_KD.grad.any()
    vq(latents.detach()).loss.backward()
    used = vq.codebook_KD.grad.abs().sum(1) > 0
    assert used.tolist() == [False, True, True, False]


def test_the_vq_commitment_loss_has_a_quarter_of_the_weight() -> None:
    vq = VQ(VQConfig(codes=2, dim=1))
    with torch.no_grad():
        vq.codebook_KD.copy_(torch.tensor([[0.0], [10.0]]))
    latents = torch.tensor([[2.0]], requires_grad=True)
    loss = vq(latents).loss
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.25 * 4)
    assert vq.codebook_KD.grad.tolist() == [[-4.0], [0.0]]
    assert latents.grad.tolist() == [[1.0]]


def test_k_means_finds_clusters() -> None:
    vq = VQ(VQConfig(codes=3, dim=2))
    centres = torch.tensor([[0.0, 0], [4, 0], [0, 4]])
    cloud = centres.repeat(40, 1) + 0.1 * torch.randn(120, 2, generator=seeded())
    vq.cluster(cloud, seeded(1))
    nearest = torch.cdist(centres, vq.codebook_KD).amin(1)
    assert nearest.max() < 0.2


def test_fsq_reaches_every_code_and_looks_it_up() -> None:
    fsq = FSQ(FSQConfig((4, 3)))
    latents = torch.cartesian_prod(torch.linspace(-3, 3, 200), torch.linspace(-3, 3, 200))
    quantized = fsq(latents)
    assert set(quantized.codes.tolist()) == set(range(12))
    torch.testing.assert_close(fsq.lookup(quantized.codes), quantized.latents, atol=1e-5, rtol=0)
    extreme = fsq(torch.tensor([[100.0, 100.0], [-100.0, -100.0]])).codes
    assert extreme.tolist() == [11, 0]


def test_digits_are_the_levels_that_fsq_looks_up() -> None:
    fsq, levels = FSQ(FSQConfig(levels=(4, 3, 2))), (4, 3, 2)
    codes = torch.arange(24)
    digits = split_digits(codes, levels)
    assert torch.equal(join_digits(digits, levels), codes)
    half = (torch.tensor(levels) - 1) / 2
    torch.testing.assert_close((digits - half) / half, fsq.lookup(codes))


def test_fsq_gradient_passes_through() -> None:
    latents = torch.full((1, 2), 0.1, requires_grad=True)
    FSQ(FSQConfig((5, 5)))(latents).latents.sum().backward()
    assert bool((latents.grad > 0.5).all())
