"""The Frechet distance: known values, and the coverage of its intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from jinn.contracts import JinnError
from jinn.evaluation.frechet import frechet, frechet_interval

REFERENCE = load_file(Path(__file__).with_name("reference.safetensors"))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", ["few", "many"])
def test_both_implementations_agree_with_scipy(name: str) -> None:
    a, b, expected = REFERENCE[f"{name}_a"], REFERENCE[f"{name}_b"], float(REFERENCE[f"frechet_{name}"])
    # With few samples, scipy's matrix root is no more accurate.
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_distance_of_axis_aligned_gaussians_is_a_sum_over_the_axes() -> None:
    def samples(mean: list[float], deviations: list[float]) -> Tensor:
        """Two samples for each axis, with exactly this mean and covariance."""
        one_side_XD = 2.5**0.5 * torch.diag(torch.tensor(deviations, dtype=torch.float64))
        return torch.tensor(mean) + torch.cat((one_side_XD, -one_side_XD))

    a, b = samples([0, 1, 2], [1, 2, 0]), samples([3, 1, 2], [4, 2, 0.5])
    assert frechet(a, b) == pytest.approx(3**2 + (4 - 1) ** 2 + 0.5**2)


@pytest.mark.parametrize("count", [10, 400])
def test_the_distance_of_a_set_from_itself_is_zero(count: int) -> None:
    a = normal(count, 50) * torch.linspace(0, 10, 50)
    scale = float(a.var(0).sum())
    assert 0 <= frechet(a, a.flip(0)) < 1e-12 * scale
    assert frechet(a, a + 1) == pytest.approx(50)


def test_the_interval_covers_the_expected_distance_of_as_many_clips() -> None:
    def clips(seed: int, stretch: float = 1.0, shift: float = 0.0) -> Tensor:
        both = normal(48, 1, 8, seed=seed) + 0.5 * normal(48, 2, 8, seed=seed + 10_000)  # frames are alike
        return stretch * both + shift

    def pair(seed: int) -> tuple[Tensor, Tensor]:
        return clips(2 * seed), clips(2 * seed + 1, 1.3, 0.4)

    expected = np.mean([frechet(*(x.flatten(0, 1) for x in pair(1000 + i))) for i in range(200)])
    figures = [frechet_interval(*pair(i), seed=i, draws=50) for i in range(100)]
    covered = np.mean([figure.low <= expected <= figure.high for figure in figures])
    assert 0.85 <= covered <= 1
    # A useless interval would be wide enough to cover everything.
    width = np.mean([figure.high - figure.low for figure in figures])
    assert width < 8 * np.std([figure.value for figure in figures])
    assert all(0 <= figure.low <= figure.value <= figure.high for figure in figures)


def test_an_interval_is_a_function_of_its_seed_and_has_the_value_of_all_samples() -> None:
    real, made = normal(20, 3, 6), normal(30, 3, 6, seed=1) + 1
    figure = frechet_interval(real, made, seed=3, draws=20)
    assert figure == frechet_interval(real, made, seed=3, draws=20)
    assert figure != frechet_interval(real, made, seed=4, draws=20)
    assert figure.value == pytest.approx(frechet(real.flatten(0, 1), made.flatten(0, 1)))
    assert (figure.count, figure.seed) == (30, 3)
    assert frechet_interval(real, real, draws=20).low == 0


def test_one_sample_or_clip_is_not_enough() -> None:
    with pytest.raises(JinnError, match="two samples"):
        frechet(normal(1, 4), normal(5, 4))
    with pytest.raises(JinnError, match="two samples"):
        frechet_interval(normal(1, 9, 4), normal(5, 9, 4))
