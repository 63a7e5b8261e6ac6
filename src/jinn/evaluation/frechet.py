"""The Frechet distance of two sets of features, as if each were drawn from a Gaussian (Heusel et al. 2017).

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

Of the logits of I3D it is the Frechet video distance (Unterthiner et al. 2019), of the features of frames the
frame distance. The last trace is computed as a sum of singular values: with any factors ``S = F^T F`` it is
the nuclear norm of ``F1 F2^T``. Centred features are such a factor, which is small where samples are few, and
nothing has to be inverted, so that covariances may be singular. The distance of finite sets is biased upwards, the
more the fewer the samples: compare only distances of equally many samples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.evaluation.estimate import Estimate


def frechet(real_XD: Tensor, made_XD: Tensor) -> float:
    """Frechet distance, 0 or more, of two sets of features of any float type, device and number of samples.

    Raises `JinnError` if a set has less than two samples.
    """
    (mean_a, factor_a), (mean_b, factor_b) = (_mean_and_factor(_float64(x)) for x in (real_XD, made_XD))
    overlap = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    apart = (mean_a - mean_b).square().sum()
    # Rounding apart it cannot be negative.
    return max(0.0, float(apart + factor_a.square().sum() + factor_b.square().sum() - 2 * overlap))


def frechet_interval(real_CXD: Tensor, made_CXD: Tensor, seed: int = 0, draws: int = 100) -> Estimate:
    """Frechet distance of the features of two sets of clips, and its 95% interval by bootstrap over clips.

    A resampled set has the same clip more than once, which makes it narrower than a new set would be: the
    draws lie off the estimate as a whole, by a bias that the estimate does not have. So only their spread is
    taken, around their own mean: ``value + quantile(draws) - mean(draws)``, and not less than 0. The interval
    is one for the expected distance *of this many clips*, not for that of infinitely many. The two sets are
    resampled independently; where they belong together clip by clip, the interval is rather too wide. Where
    there are more samples than dimensions, clips are resampled in up to 64 groups, whose moments are enough.

    Features have any float type and device, and a set any number C of clips of X samples (frames, or 1); less than two
    clips raise `JinnError`. The value is the distance of all the samples, its count that of the made clips.
    """
    # The distance does not change when both sets move; in the middle of them rounding is the least.
    middle_D = _float64(real_CXD).mean((0, 1))
    real_CXD, made_CXD = _float64(real_CXD) - middle_D, _float64(made_CXD) - middle_D
    rng, threads = np.random.default_rng(seed), torch.get_num_threads()
    torch.set_num_threads(1)  # such matrices are too small to be shared: beside other work threads only wait
    try:
        (mean_a, factor_a), (mean_b, factor_b) = (_resampled(c, rng, draws) for c in (real_CXD, made_CXD))
        scatter = factor_a.square().sum((1, 2)) + factor_b.square().sum((1, 2))
        distances = (mean_a - mean_b).square().sum(1) + scatter - 2 * _overlap(factor_a, factor_b)
    finally:
        torch.set_num_threads(threads)
    value = frechet(real_CXD.flatten(0, 1), made_CXD.flatten(0, 1))
    low, high = value + np.quantile(distances, [0.025, 0.975]) - float(distances.mean())
    return Estimate(value, max(0.0, float(low)), float(high), len(made_CXD), seed)


def _resampled(clips_CXD: Tensor, rng: np.random.Generator, draws: int) -> tuple[Tensor, Tensor]:
    """As many clips, drawn with replacement R times: means ``RD``, and factors ``RXD`` of the covariances."""
    C, X, D = clips_CXD.shape
    if C * X <= D:
        resampled_RXD = clips_CXD[torch.from_numpy(rng.integers(C, size=(draws, C)))].flatten(1, 2)
        mean_RD = resampled_RXD.mean(1)
        return mean_RD, (resampled_RXD - mean_RD.unsqueeze(1)) / (C * X - 1) ** 0.5
    groups = [group.flatten(0, 1) for group in clips_CXD.tensor_split(min(C, 64))]
    G = len(groups)
    times_RG = torch.from_numpy(rng.multinomial(G, np.full(G, 1 / G), draws)).double()
    # Counts, sums and squares of a union are the sums of its parts': one product makes all draws.
    count_G = torch.tensor([len(group) for group in groups], dtype=torch.float64)
    mean_GD = torch.stack([group.mean(0) for group in groups])
    scatter_GDD = torch.stack([centred.T @ centred for centred in map(torch.sub, groups, mean_GD)])
    square_GDD = scatter_GDD + count_G.view(-1, 1, 1) * _outer(mean_GD)
    count_R = times_RG @ count_G
    mean_RD = times_RG @ (count_G.unsqueeze(1) * mean_GD) / count_R.unsqueeze(1)
    square_RDD = (times_RG @ square_GDD.flatten(1)).view(draws, D, D)
    scatter_RDD = square_RDD - count_R.view(-1, 1, 1) * _outer(mean_RD)
    covariance_RDD = scatter_RDD / (count_R - 1).view(-1, 1, 1)
    return mean_RD, torch.stack([_root(covariance_DD) for covariance_DD in covariance_RDD])


def _outer(mean_XD: Tensor) -> Tensor:
    """The outer product ``XDD`` of each row with itself."""
    return mean_XD.unsqueeze(2) * mean_XD.unsqueeze(1)


def _overlap(factor_a: Tensor, factor_b: Tensor) -> Tensor:
    """Nuclear norms of ``F1 F2^T``, batched: good to some 1e-7 of the largest, and fast."""
    product_RXY = factor_a @ factor_b.mT
    if product_RXY.shape[1] > product_RXY.shape[2]:
        product_RXY = product_RXY.mT
    return torch.linalg.eigvalsh(product_RXY @ product_RXY.mT).clamp_min(0).sqrt().sum(1)


def _mean_and_factor(features_XD: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of samples, and the smaller F of which their covariance is ``F^T F``."""
    count, D = features_XD.shape
    mean_D = features_XD.mean(0)
    centred_XD = features_XD - mean_D
    if count > D:
        return mean_D, _root(centred_XD.T @ centred_XD / (count - 1))
    return mean_D, centred_XD / (count - 1) ** 0.5


def _root(covariance_DD: Tensor) -> Tensor:
    """F with ``F^T F`` = S."""
    lower_DD, failed = torch.linalg.cholesky_ex(covariance_DD)
    if not int(failed):
        return lower_DD.T
    values_D, vectors_DD = torch.linalg.eigh(covariance_DD)  # slower, but a singular S is no trouble
    return values_D.clamp_min(0).sqrt().unsqueeze(1) * vectors_DD.T


def _float64(features: Tensor) -> Tensor:
    """Features of two samples or clips at least, on the CPU."""
    if len(features) < 2:
        raise JinnError(
            f"a Frechet distance needs two samples or clips of each set at least, got {len(features)}"
        )
    return features.detach().cpu().double()
