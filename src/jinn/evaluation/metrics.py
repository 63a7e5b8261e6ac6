"""Figures: pure functions of frames and codes, each with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Figure:
    """A mean over clips with its 95% interval.

    Attributes:
        value: the mean.
        low: lower end of the interval.
        high: upper end.
        count: number of independent samples (clips).
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f}  [{self.low:.3f}, {self.high:.3f}]  n={self.count}"


def bootstrap(samples: np.ndarray | Tensor, seed: int = 0, draws: int = 2000) -> Figure:
    """Mean of independent samples with the percentile bootstrap's 95% interval.

    Args:
        samples: one number a clip; NaN marks a clip that has none.
        seed: of the resampling.
        draws: resamples.
    """
    values = np.asarray(samples, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    index = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(values[index].mean(1), [0.025, 0.975])
    return Figure(float(values.mean()), float(low), float(high), len(values))


def psnr(made: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of uint8 frames in dB, over the last three axes (HWC).

    Capped at 100 dB, so that a frame that is met exactly does not make every mean infinite.
    """
    error = (made.double() - real.double()).square().mean(dim=(-3, -2, -1)) / 255.0**2
    return -10 * error.clamp_min(1e-10).log10()


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Normalised mutual information of two labellings, in [0, 1] (arithmetic mean of the entropies).

    0 if either labelling has a single label: then it tells nothing.
    """
    a = np.unique(np.asarray(a).ravel(), return_inverse=True)[1]
    b = np.unique(np.asarray(b).ravel(), return_inverse=True)[1]
    if len(a) != len(b) or not len(a):
        raise ValueError("two labellings of the same, non-empty items are needed")
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1.0 / len(a))
    rows, columns = joint.sum(1), joint.sum(0)

    def entropy(p: np.ndarray) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    mean = (entropy(rows) + entropy(columns)) / 2
    if min(entropy(rows), entropy(columns)) == 0:
        return 0.0
    return max(0.0, entropy(rows) + entropy(columns) - entropy(joint.ravel())) / mean


def global_motion(frames_BTHWC: Tensor, reach: int = 8) -> Tensor:
    """How the whole picture moves between neighbours: int64 ``B(T-1)2`` (down, right) in pixels.

    The displacement of up to ``reach`` pixels with the least mean absolute difference over the middle of
    the frame; of equals the smallest.
    """
    grey = frames_BTHWC.float().mean(-1)
    H, W = grey.shape[2:]
    reach = min(reach, H // 4, W // 4)
    middle = grey[:, 1:, reach : H - reach, reach : W - reach]
    shifts = sorted(
        ((dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)),
        key=lambda s: s[0] ** 2 + s[1] ** 2,
    )
    costs = torch.stack(
        [
            (grey[:, :-1, reach - dy : H - reach - dy, reach - dx : W - reach - dx] - middle)
            .abs()
            .mean(dim=(-2, -1))
            for dy, dx in shifts
        ],
        dim=-1,
    )
    return torch.tensor(shifts)[costs.cpu().argmin(-1)]
