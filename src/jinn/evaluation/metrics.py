"""Metrics with a closed form."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError


def psnr(made: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of uint8 frames in dB, over the last three axes (HWC).

    Capped at 100 dB, so that a frame that is predicted exactly does not make every mean infinite.
    """
    error = (made.double() - real.double()).square().mean(dim=(-3, -2, -1)) / 255.0**2
    return -10 * error.clamp_min(1e-10).log10()


def ssim(made: Tensor, real: Tensor, batch: int = 64) -> Tensor:
    """Structural similarity (Wang et al. 2004) of uint8 frames, over the last three axes (HWC).

    It is 1 for equal frames, and float32 ``(...)``. Gaussian windows have 11 pixels and a standard deviation of 1.5;
    only windows inside the frame count, and colours are averaged. This is what scikit-image's ``structural_similarity``
    with ``gaussian_weights=True, use_sample_covariance=False`` computes. Raises `JinnError` if frames are smaller than
    11 pixels a side, or their shapes differ.
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


def entropy(fractions: np.ndarray) -> np.ndarray:
    """Entropy in nats over the last axis, which is normalised to sum to 1."""
    fractions = fractions / np.maximum(fractions.sum(-1, keepdims=True), 1e-300)
    return -(fractions * np.log(np.where(fractions > 0, fractions, 1.0))).sum(-1)


def perplexity(fractions_K: np.ndarray) -> np.ndarray:
    """Exponential of the entropy, in [1, K]: the effective number of codes in use."""
    return np.exp(entropy(fractions_K))


def fraction_used(fractions_K: np.ndarray) -> np.ndarray:
    """Fraction of the codes, the last axis, that occur at all."""
    return (fractions_K > 0).mean(-1)


def mutual_information(joint_AU: np.ndarray) -> np.ndarray:
    """Normalised mutual information (NMI) of two labellings, in [0, 1].

    ``joint_AU`` says how often the labels occur together, ``(..., A, U)``, on any scale. The NMI is normalised by the
    arithmetic mean of the entropies, and 0 if either labelling has a single label.
    """
    rows, columns = entropy(joint_AU.sum(-1)), entropy(joint_AU.sum(-2))
    shared = rows + columns - entropy(joint_AU.reshape(*joint_AU.shape[:-2], -1))
    varied = np.minimum(rows, columns) > 1e-12
    return np.where(varied, np.maximum(shared, 0) / np.maximum((rows + columns) / 2, 1e-300), 0.0)


def purity(joint_AU: np.ndarray) -> np.ndarray:
    """Fraction of items whose second label is the most frequent one among items of their first label."""
    return joint_AU.max(-1).sum(-1) / joint_AU.sum((-2, -1))


def joint_counts(first_BX: Tensor, second_BX: Tensor, firsts: int, seconds: int) -> Tensor:
    """How often labels occur together in each clip, float64 ``(B, firsts, seconds)``; negative labels are ignored."""
    known_BX = (first_BX >= 0) & (second_BX >= 0)
    cells_BX = (first_BX * seconds + second_BX).masked_fill(~known_BX, 0)
    counts = torch.zeros(len(first_BX), firsts * seconds, dtype=torch.float64, device=first_BX.device)
    return counts.scatter_add_(1, cells_BX, known_BX.double()).unflatten(1, (firsts, seconds))
