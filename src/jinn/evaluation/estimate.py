"""Estimates with 95% intervals, by bootstrap over clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from jinn.evaluation.catalogue import HIGH_MOTION, METRICS

# Tensors with one row for each clip (or roll-out). Where an estimate is a plain mean of them, the name is
# that of the metric.
Records = dict[str, Tensor]


@dataclass(frozen=True)
class Estimate:
    """The estimate of a metric, and how certain it is.

    Attributes:
        value: the estimate, in the unit of its metric.
        low, high: ends of its 95% interval, by bootstrap over clips.
        count: number of independent samples: clips, or roll-outs.
        seed: seed of the bootstrap, and of everything random in what was measured.
    """

    value: float
    low: float
    high: float
    count: int
    seed: int


def bootstrap(
    samples: np.ndarray | Tensor,
    seed: int,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    draws: int = 1000,
    least: float = -np.inf,
    most: float = np.inf,
) -> Estimate:
    """Estimate the mean of independent samples, or a statistic of the mean, with its 95% interval.

    The interval is that of the percentile bootstrap. Resampling shifts a statistic that is not linear (the
    perplexity of a codebook falls, mutual information rises). The shift is a bias of the resamples and not
    of the estimate, so it is subtracted.

    Args:
        samples: ``(B, ...)``, one row for each clip; rows that hold a NaN are left out.
        statistic: maps means ``(draws, ...)`` to numbers ``(draws,)``; None is the mean itself.
        seed, draws: seed of the resampling, and number of resamples.
        least, most: range of the statistic; the interval does not exceed it.

    Raises:
        ValueError: there is no row without a NaN.
    """
    values = np.asarray(samples, dtype=np.float64)
    shape = values.shape[1:]
    values = values.reshape(len(values), -1)
    values = values[~np.isnan(values).any(1)]
    if not len(values):
        raise ValueError("an estimate needs at least one sample")
    count = len(values)
    # How often each clip is in a resample: one product with this gives the means of all resamples.
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws) / count
    means = np.concatenate([values.mean(0, keepdims=True), weights @ values]).reshape(draws + 1, *shape)
    statistics = statistic(means) if statistic else means
    value, resampled = statistics[0], statistics[1:]
    shift = resampled.mean() - value if statistic else 0.0
    low, high = np.quantile(resampled, [0.025, 0.975]) - shift
    # Where nearly all resamples fall on one side, the shift would move the interval past the estimate itself.
    low, high = max(least, min(low, value)), min(most, max(high, value))
    return Estimate(float(value), float(low), float(high), count, seed)


def exactly(value: float, count: int, seed: int) -> Estimate:
    """A value that is known without error."""
    return Estimate(value, value, value, count, seed)


def clip_samples(records: Records) -> dict[str, np.ndarray]:
    """The metrics that are means over clips: ``B``, or ``BT`` for a curve, on all clips and the high-motion half."""
    samples = {name: values.numpy() for name, values in records.items() if name in METRICS}
    moving_B = (records["motion"] > records["motion"].median()).numpy()
    if moving_B.any():
        for name in [name for name in samples if f"{name}/{HIGH_MOTION}" in METRICS]:
            samples[f"{name}/{HIGH_MOTION}"] = samples[name][moving_B]
    # Records that were cached come back in another order than those that were just measured.
    return {name: samples[name] for name in METRICS if name in samples}


def estimate_means(
    samples: dict[str, np.ndarray], seed: int
) -> tuple[dict[str, Estimate], dict[str, list[Estimate]]]:
    """Estimates and curves of `clip_samples`; a curve's mean over the horizon is the estimate of its name."""
    estimates, curves = {}, {}
    for name, values in samples.items():
        estimates[name] = bootstrap(values.reshape(len(values), -1).mean(1), seed)
        if values.ndim == 2:
            curves[name] = [bootstrap(column_B, seed) for column_B in values.T]
    return estimates, curves


def differences(first: dict[str, np.ndarray], other: dict[str, np.ndarray], seed: int) -> dict[str, Estimate]:
    """Paired differences of two worlds, other minus first, clip by clip."""
    paired = {name: other[name] - first[name] for name in first if name in other}
    return estimate_means(paired, seed)[0]
