"""Figures: pure functions of frames and codes, each with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError


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


def ssim(made: Tensor, real: Tensor, batch: int = 64) -> Tensor:
    """Structural similarity (Wang et al. 2004) of uint8 frames, over the last three axes (HWC).

    1 for equal frames. Gaussian windows of 11 pixels with a deviation of 1.5, those only that lie in the
    frame, and the mean over the colours: what scikit-image's ``structural_similarity`` computes with
    ``gaussian_weights=True, use_sample_covariance=False``.

    Args:
        made: uint8 ``(..., H, W, C)``, 11 pixels a side at least.
        real: the same shape and device.
        batch: pairs at once.

    Returns:
        float32 ``(...)``.

    Raises:
        JinnError: the frames are too small, or not of one shape.
    """
    if made.shape != real.shape or min(made.shape[-3:-1]) < 11:
        raise JinnError(
            "SSIM needs pairs of frames of one size, 11 pixels a side at least, "
            f"got {tuple(made.shape)} and {tuple(real.shape)}"
        )
    pairs = (frames.flatten(0, -4) if frames.ndim > 3 else frames[None] for frames in (made, real))
    values = [_ssim(a, b) for a, b in zip(*(frames.split(batch) for frames in pairs), strict=True)]
    return torch.cat(values).reshape(made.shape[:-3])


def _ssim(made_XHWC: Tensor, real_XHWC: Tensor) -> Tensor:
    a, b = (frames.permute(0, 3, 1, 2).float() for frames in (made_XHWC, real_XHWC))
    down, right = (_gaussian_windows(size, a.device) for size in a.shape[2:])
    mean_a, mean_b = down @ a @ right.T, down @ b @ right.T
    variances = down @ (a.square() + b.square()) @ right.T - mean_a.square() - mean_b.square()
    covariance = down @ (a * b) @ right.T - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    means = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return (means * (2 * covariance + c2) / (variances + c2)).mean(dim=(1, 2, 3))


def _gaussian_windows(size: int, device: torch.device) -> Tensor:
    """Weights of the windows along an axis, a row each: ``(size - 10, size)``; a product convolves."""
    offset = torch.arange(size, device=device) - torch.arange(size - 10, device=device).unsqueeze(1) - 5
    weights = torch.exp(-0.5 * (offset / 1.5).square()) * (offset.abs() <= 5)
    return weights / weights.sum(1, keepdim=True)


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
