"""Metrics with a closed form, and how sure a figure is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.evaluation.results import Figure


def bootstrap(
    samples: np.ndarray | Tensor,
    seed: int,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    draws: int = 1000,
    least: float = -np.inf,
    most: float = np.inf,
) -> Figure:
    """The mean of independent samples, or a statistic of the mean, with its 95% interval.

    The interval is the percentile bootstrap's. Where a statistic is not linear, resampling shifts it (a
    codebook's perplexity falls, mutual information rises); only its spread is of interest, and the shift is
    taken away.

    Args:
        samples: ``(B, ...)``, one row a clip; a row with a NaN is a clip that has none, and is left out.
        seed: of the resampling.
        statistic: of means ``(draws, ...)`` to numbers ``(draws,)``; None is the mean itself.
        draws: resamples.
        least, most: what the statistic can be; an interval does not reach beyond.
    """
    values = np.asarray(samples, dtype=np.float64)
    shape = values.shape[1:]
    values = values.reshape(len(values), -1)
    values = values[~np.isnan(values).any(1)]
    if not len(values):
        raise ValueError("a figure needs at least one sample")
    count = len(values)
    # How often each clip was drawn: one product with this gives the means of all resamples.
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws) / count
    means = np.concatenate([values.mean(0, keepdims=True), weights @ values]).reshape(draws + 1, *shape)
    figures = statistic(means) if statistic else means
    value, drawn = figures[0], figures[1:]
    shift = drawn.mean() - value if statistic else 0.0
    low, high = np.quantile(drawn, [0.025, 0.975]) - shift
    # Where nearly all resamples fall on one side, the shift would take the interval past the figure itself.
    low, high = max(least, min(low, value)), min(most, max(high, value))
    return Figure(float(value), float(low), float(high), count, seed)


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


def entropy(shares: np.ndarray) -> np.ndarray:
    """Entropy in nats over the last axis; what does not sum to 1 is made to."""
    shares = shares / np.maximum(shares.sum(-1, keepdims=True), 1e-300)
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)


def perplexity(shares_K: np.ndarray) -> np.ndarray:
    """How many codes are in use, counting the rare ones as fractions: exp of the entropy, in [1, K]."""
    return np.exp(entropy(shares_K))


def mutual_information(joint_AU: np.ndarray) -> np.ndarray:
    """Normalised mutual information of two labellings, in [0, 1] (arithmetic mean of the entropies).

    0 if either labelling has a single label: then it tells nothing.

    Args:
        joint_AU: how often the labels meet, ``(..., A, U)``, in any unit.
    """
    rows, columns = entropy(joint_AU.sum(-1)), entropy(joint_AU.sum(-2))
    shared = rows + columns - entropy(joint_AU.reshape(*joint_AU.shape[:-2], -1))
    told = np.minimum(rows, columns) > 1e-12
    return np.where(told, np.maximum(shared, 0) / np.maximum((rows + columns) / 2, 1e-300), 0.0)


def purity(joint_AU: np.ndarray) -> np.ndarray:
    """Share of items that have the commonest second label among those of their first label."""
    return joint_AU.max(-1).sum(-1) / joint_AU.sum((-2, -1))


def joint_counts(first_BX: Tensor, second_BX: Tensor, firsts: int, seconds: int) -> Tensor:
    """How often labels meet in each clip, float64 ``(B, firsts, seconds)``; negative labels are unknown."""
    known_BX = (first_BX >= 0) & (second_BX >= 0)
    cells_BX = (first_BX * seconds + second_BX).masked_fill(~known_BX, 0)
    counts = torch.zeros(len(first_BX), firsts * seconds, dtype=torch.float64, device=first_BX.device)
    return counts.scatter_add_(1, cells_BX, known_BX.double()).unflatten(1, (firsts, seconds))
