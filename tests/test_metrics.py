"""PSNR and SSIM: known values, and the order of distorted frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from jinn.contracts import JinnError
from jinn.evaluation.metrics import psnr, ssim

REFERENCE = load_file(Path(__file__).with_name("reference.safetensors"))


def noisy(frames: Tensor, strength: int) -> Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    return (frames + 10 * strength * noise).round().clamp(0, 255).to(torch.uint8)


def blurred(frames: Tensor, strength: int) -> Tensor:
    planes = frames.permute(0, 3, 1, 2).float()
    padded = F.pad(planes, (strength,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * strength + 1, 1).round().to(torch.uint8).permute(0, 2, 3, 1)


def test_psnr_and_ssim_equal_those_of_scikit_image() -> None:
    made, real = REFERENCE["made"], REFERENCE["real"]
    torch.testing.assert_close(psnr(made, real)[1:], REFERENCE["psnr"])  # the first pair has an infinite PSNR
    torch.testing.assert_close(ssim(made, real).double(), REFERENCE["ssim"], atol=1e-4, rtol=0)


def test_ssim_takes_any_leading_axes_and_sides_that_differ() -> None:
    made, real = REFERENCE["made"][:, :, :25], REFERENCE["real"][:, :, :25]
    together = ssim(made.unflatten(0, (2, 3)), real.unflatten(0, (2, 3)), batch=4)
    assert together.shape == (2, 3)
    torch.testing.assert_close(together[1, 2], ssim(made[5], real[5]), atol=1e-6, rtol=0)
    turned = ssim(made.transpose(1, 2), real.transpose(1, 2))
    torch.testing.assert_close(turned, together.flatten(), atol=1e-5, rtol=0)
    with pytest.raises(JinnError, match="11 pixels"):
        ssim(made[:, :10], real[:, :10])


@pytest.mark.parametrize("value", [0, 255])
def test_ssim_of_flat_frames_depends_on_their_means_only(value: int) -> None:
    flat = torch.full((16, 16, 3), value, dtype=torch.uint8)
    other = torch.full((16, 16, 3), 128, dtype=torch.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * value * 128 + c1) / (value**2 + 128**2 + c1)
    assert float(ssim(flat, flat)) == pytest.approx(1, abs=1e-6)
    assert float(ssim(flat, other)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("change", [noisy, blurred])
def test_metrics_decrease_as_the_distortion_grows(
    metric: Callable[[Tensor, Tensor], Tensor], change: Callable[[Tensor, int], Tensor]
) -> None:
    real = REFERENCE["clips"][0]
    values = [float(metric(change(real, strength), real).mean()) for strength in range(5)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[1] < values[0]
