"""The Frechet distance of two sets of features, as if each were drawn from a Gaussian (Heusel et al. 2017).

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

Of the logits of I3D it is the Frechet video distance (Unterthiner et al. 2019), of the features of frames the
frame distance. The last trace is computed as a sum of singular values: with any factors ``S = F^T F`` it is
the nuclear norm of ``F1 F2^T``. Centred features are such a factor, which is small where samples are few, and
nothing has to be inverted, so that covariances may be singular.

The distance of finite sets is biased upwards, the more the fewer the samples: compare only distances of
equally many samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.evaluation.estimate import Estimate


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and scatter of a set of features; of a union of sets they are the sum, ``a + b``.

    Attributes:
        count: of samples.
        mean_D: float64.
        scatter_DD: float64, the sum over samples of the outer product of what they are off the mean.
    """

    count: int
    mean_D: Tensor
    scatter_DD: Tensor

    @classmethod
    def of(cls, features_XD: Tensor) -> Moments:
        """Of one sample at least, any float type, from any device."""
        features_XD = features_XD.detach().cpu().double()
        mean_D = features_XD.mean(0)
        centred_XD = features_XD - mean_D
        return cls(len(features_XD), mean_D, centred_XD.T @ centred_XD)

    def __add__(self, other: Moments) -> Moments:
        """Of the union, without loss (Chan et al. 1979)."""
        a, b = self.count, other.count
        apart_D = other.mean_D - self.mean_D
        between_DD = torch.outer(apart_D, apart_D) * (a * b / (a + b))
        mean_D = self.mean_D + apart_D * (b / (a + b))
        return Moments(a + b, mean_D, self.scatter_DD + other.scatter_DD + between_DD)

    @property
    def covariance(self) -> Tensor:
        """Unbiased, float64 ``DD``. Raises `JinnError` if there is a single sample."""
        _check(self.count)
        return self.scatter_DD / (self.count - 1)


def frechet(real_XD: Tensor, made_XD: Tensor) -> float:
    """Frechet distance of two sets of features, 0 or more.

    Args:
        real_XD: any float type and device, two samples at least.
        made_XD: likewise; there may be more or fewer of them.

    Raises:
        JinnError: a set has less than two samples.
    """
    return _distance(*_mean_and_factor(real_XD), *_mean_and_factor(made_XD))


def frechet_interval(real_CXD: Tensor, made_CXD: Tensor, seed: int = 0, draws: int = 100) -> Estimate:
    """Frechet distance of the features of two sets of clips, and its 95% interval by bootstrap over clips.

    A resampled set has the same clip more than once, which makes it narrower than a new set would be: the
    draws lie off the estimate as a whole, by a bias that the estimate does not have. So only their spread is
    taken, around their own mean: ``value + quantile(draws) - mean(draws)``, and not less than 0. The interval
    is one for the expected distance *of this many clips*, not for that of infinitely many. The two sets are
    resampled independently; where they belong together clip by clip, the interval is rather too wide. Where
    there are more samples than dimensions, clips are resampled in up to 64 groups, whose moments are enough.

    Args:
        real_CXD: any float type and device; C clips of X samples (frames, or 1), two clips at least.
        made_CXD: likewise; the number of clips may be another.
        seed: of the resampling.
        draws: resamples.

    Returns:
        The distance of all the samples; its count is that of the made clips.

    Raises:
        JinnError: a set has less than two clips.
    """
    for clips in (real_CXD, made_CXD):
        _check(len(clips))
    # The distance does not change when both sets move; in the middle of them rounding is the least.
    middle_D = real_CXD.detach().cpu().double().mean((0, 1))
    real_CXD, made_CXD = (clips.detach().cpu().double() - middle_D for clips in (real_CXD, made_CXD))
    rng = np.random.default_rng(seed)
    with _one_thread():
        (mean_a, factor_a), (mean_b, factor_b) = (_resampled(c, rng, draws) for c in (real_CXD, made_CXD))
        scatter = factor_a.square().sum((1, 2)) + factor_b.square().sum((1, 2))
        distances = (mean_a - mean_b).square().sum(1) + scatter - 2 * _overlap(factor_a, factor_b)
    value = frechet(real_CXD.flatten(0, 1), made_CXD.flatten(0, 1))
    low, high = value + np.quantile(distances, [0.025, 0.975]) - float(distances.mean())
    return Estimate(value, max(0.0, float(low)), float(high), len(made_CXD), seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices of a few hundred rows are too small to be shared: beside other work threads only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _resampled(clips_CXD: Tensor, rng: np.random.Generator, draws: int) -> tuple[Tensor, Tensor]:
    """As many clips, drawn with replacement R times: means ``RD``, and factors ``RXD`` of the covariances."""
    C, X, D = clips_CXD.shape
    if C * X <= D:
        resampled_RXD = clips_CXD[torch.from_numpy(rng.integers(C, size=(draws, C)))].flatten(1, 2)
        mean_RD = resampled_RXD.mean(1)
        return mean_RD, (resampled_RXD - mean_RD.unsqueeze(1)) / (C * X - 1) ** 0.5
    groups = [Moments.of(group.flatten(0, 1)) for group in clips_CXD.tensor_split(min(C, 64))]
    G = len(groups)
    times_RG = torch.from_numpy(rng.multinomial(G, np.full(G, 1 / G), draws)).double()
    # Counts, sums and squares of a union are the sums of its parts': one product makes all draws.
    count_G = torch.tensor([group.count for group in groups], dtype=torch.float64)
    sum_GD = torch.stack([group.count * group.mean_D for group in groups])
    squares = [g.scatter_DD + g.count * torch.outer(g.mean_D, g.mean_D) for g in groups]
    count_R = times_RG @ count_G
    mean_RD = times_RG @ sum_GD / count_R.unsqueeze(1)
    square_RDD = (times_RG @ torch.stack(squares).flatten(1)).view(draws, D, D)
    roots = [
        _root((square_DD - count * torch.outer(mean_D, mean_D)) / (count - 1))
        for count, mean_D, square_DD in zip(count_R, mean_RD, square_RDD, strict=True)
    ]
    return mean_RD, torch.stack(roots)


def _overlap(factor_a: Tensor, factor_b: Tensor) -> Tensor:
    """Nuclear norms of ``F1 F2^T``, batched: good to some 1e-7 of the largest, and fast."""
    product_RXY = factor_a @ factor_b.mT
    if product_RXY.shape[1] > product_RXY.shape[2]:
        product_RXY = product_RXY.mT
    return torch.linalg.eigvalsh(product_RXY @ product_RXY.mT).clamp_min(0).sqrt().sum(1)


def _mean_and_factor(features_XD: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of samples, and the smaller F of which their covariance is ``F^T F``."""
    count, D = features_XD.shape
    _check(count)
    if count > D:
        moments = reduce(add, map(Moments.of, features_XD.split(8192)))
        return moments.mean_D, _root(moments.covariance)
    features_XD = features_XD.detach().cpu().double()
    mean_D = features_XD.mean(0)
    return mean_D, (features_XD - mean_D) / (count - 1) ** 0.5


def _root(covariance_DD: Tensor) -> Tensor:
    """F with ``F^T F`` = S."""
    lower_DD, failed = torch.linalg.cholesky_ex(covariance_DD)
    if not int(failed):
        return lower_DD.T
    values_D, vectors_DD = torch.linalg.eigh(covariance_DD)  # slower, but a singular S is no trouble
    return values_D.clamp_min(0).sqrt().unsqueeze(1) * vectors_DD.T


def _distance(mean_a: Tensor, factor_a: Tensor, mean_b: Tensor, factor_b: Tensor) -> float:
    """The formula, with factors ``XD`` of the covariances; rounding apart it cannot be negative."""
    overlap = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    apart = (mean_a - mean_b).square().sum()
    return max(0.0, float(apart + factor_a.square().sum() + factor_b.square().sum() - 2 * overlap))


def _check(count: int) -> None:
    if count < 2:
        raise JinnError(f"a Frechet distance needs two samples or clips of each set at least, got {count}")
