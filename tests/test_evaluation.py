"""Figures with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jinn.evaluation.metrics import bootstrap, global_motion, mutual_information, psnr
from jinn.evaluation.suite import _name, _names


def test_psnr_of_known_errors() -> None:
    real = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    made = real.clone()
    made[1] += 10
    values = psnr(made, real)
    assert values[0] == 100
    assert float(values[1]) == pytest.approx(20 * np.log10(255 / 10))


def test_the_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        figure = bootstrap(rng.normal(3.0, 1.0, 60), seed=trial, draws=400)
        hits += figure.low <= 3.0 <= figure.high
    assert 0.88 <= hits / 200 <= 0.99
    assert bootstrap(np.array([1.0, np.nan, 3.0])).count == 2


def test_mutual_information_of_known_labellings() -> None:
    a = np.array([0, 0, 1, 1, 2, 2] * 10)
    assert mutual_information(a, (a + 1) % 3) == pytest.approx(1.0)
    assert mutual_information(a, np.zeros_like(a)) == 0.0
    assert mutual_information(a, np.tile([0, 1], 30)) == pytest.approx(0.0, abs=1e-9)
    rng = np.random.default_rng(0)
    assert mutual_information(rng.integers(0, 5, 20_000), rng.integers(0, 5, 20_000)) < 0.01


def test_global_motion_finds_the_shift() -> None:
    picture = torch.randint(
        0, 256, (1, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    moves = [(0, 0), (2, 0), (0, -3), (-1, 4)]
    frames = [picture]
    for down, right in moves:
        frames.append(torch.roll(frames[-1], (down, right), dims=(1, 2)))
    found = global_motion(torch.stack(frames, 1), reach=5)
    assert found[0].tolist() == [list(m) for m in moves]


def test_names_of_motions() -> None:
    assert _name(0.1, 0.2) == "stay"
    assert _name(-3.0, 0.1) == "up"
    assert _name(2.0, 1.5) == "down-right"
    assert _name(0.0, -1.0) == "left"
    assert _name(float("nan"), float("nan")) == "unused"
    nan = float("nan")
    means = np.array([[-2.0, 0.0], [-6.0, 0.1], [0.1, 0.1], [0.0, 0.2], [nan, nan], [0.0, 1.0]])
    assert _names(means) == ("up slowly", "up", "stay", "stay", "unused", "right")
