"""Whether a frame looks like the videos: as the frames of a real video look beside an earlier frame of it.

A world that falls apart shows plain ground, blur, or the textures of another level. Its frames may still lie near
some real frame of a rich game, so nearness to real frames does not tell (docs/research-log.md). What does is the
prompt: within one video, sharpness, colours and textures stay what they are. So a frame is described by how it
differs from the prompt in these, and it is inside the videos if real frames differ as much from earlier frames of
their own video: if its distance from the mean of real pairs is within the 95th percentile of held-out real ones.
This is our own measure; which failures it finds is tested and stands in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.data.store import FrameStore
from jinn.evaluation.clips import Clips
from jinn.evaluation.estimate import Records

PATCH = 8  # side of a patch, pixels of the downsampled frame
PAIRS = 1000  # real pairs that the features are fitted on, and as many for the limit
LAG = 30  # frames between the frames of a real pair, at least
# Where the camera stands still, real frames repeat their background to the last bit. A tokenizer never does, and nobody
# sees the difference: errors of a patch count beside this many grey levels, and features by at least this deviation.
INVISIBLE = 4.0
DEVIATION = 0.15  # features are logarithms, so this is 15% of a value


class Typical(NamedTuple):
    """How real frames look beside an earlier frame of their video.

    Attributes:
        mean_D: mean features of real pairs.
        whitening_DD: a whitened feature vector has unit covariance over real pairs, and less in directions in which
            they hardly differ.
        limit: 95th percentile of the squared distance from the mean, of held-out real pairs.
    """

    mean_D: Tensor
    whitening_DD: Tensor
    limit: float

    def distance(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distance from the mean, ``(...,)``."""
        return ((features.double() - self.mean_D) @ self.whitening_DD).square().sum(-1)

    def inside(self, features: Tensor) -> Tensor:
        """Whether frames look like the videos, bool ``(...,)``; about 95% of real ones do."""
        return self.distance(features) <= self.limit


def fit_typical(features_XD: Tensor, held_out_XD: Tensor) -> Typical:
    """Fit the mean and covariance on some real pairs, and the limit on pairs of other levels or videos."""
    features_XD = features_XD.double()
    variance_D, direction_DD = torch.linalg.eigh(torch.cov(features_XD.T))
    whitening_DD = direction_DD * variance_D.clamp_min(DEVIATION**2).rsqrt()
    typical = Typical(features_XD.mean(0), whitening_DD, 0.0)
    return typical._replace(limit=float(typical.distance(held_out_XD).quantile(0.95)))


def real_pairs(store: FrameStore, episodes: np.ndarray, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Earlier and later frames of the same video, uint8 ``BHWC`` each, at least `LAG` frames apart.

    In videos of fewer than twice as many frames, they are half of the video apart.
    """
    rng = np.random.default_rng(seed)
    earlier, later = [], []
    for episode in rng.choice(episodes, count, p=store.lengths[episodes] / store.lengths[episodes].sum()):
        length = int(store.lengths[episode])
        lag = min(LAG, length // 2)
        first = int(rng.integers(length - lag))
        second = int(rng.integers(first + lag, length))
        earlier.append(store.frames(episode, first, first + 1)[0])
        later.append(store.frames(episode, second, second + 1)[0])
    return torch.from_numpy(np.stack(earlier)), torch.from_numpy(np.stack(later))


def real_records(clips: Clips, name: str, rows: slice, seed: int) -> Records:
    """``pairs/<name>``: features of real pairs of the clips' episodes, float32 ``BD``, each row a pair of its own."""
    episodes = np.unique(clips.episodes)
    earlier, later = real_pairs(clips.store, episodes, rows.stop - rows.start, seed + rows.start)
    return {f"pairs/{name}": appearance(earlier, later.unsqueeze(1)).squeeze(1)}


def appearance(prompts_BHWC: Tensor, frames_BTHWC: Tensor) -> Tensor:
    """Features of frames beside their prompts, float32 ``BTD``.

    Logarithms of: contrast at five scales, over that of the prompt; the overlap of the histograms of colours; how
    well the frame's patches are found in the prompt (mean, quartiles, largest error); and how alike the frame's
    own patches are, over that of the prompt (mean, quartiles).
    """
    B, T = frames_BTHWC.shape[:2]
    prompts, frames = _small(prompts_BHWC), _small(frames_BTHWC.flatten(0, 1))

    def beside(describe: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        return describe(frames).unflatten(0, (B, T)), describe(prompts).unsqueeze(1)

    contrasts, alike = torch.sub(*beside(_contrasts)), torch.sub(*beside(_self_similarity))
    overlap_BT1 = torch.minimum(*beside(_colours)).sum(-1, keepdim=True)
    found = _found_in(frames.unflatten(0, (B, T)), prompts)
    return torch.cat([contrasts, overlap_BT1.clamp_min(1e-3).log(), found, alike], dim=-1)


def _small(frames_BHWC: Tensor) -> Tensor:
    """Float ``BCHW``, downsampled by a whole number to at least 64 pixels a side."""
    pixels = frames_BHWC.movedim(-1, 1).float()
    return F.avg_pool2d(pixels, max(1, min(pixels.shape[2:]) // 64))


def _contrasts(pixels_BCHW: Tensor) -> Tensor:
    """Logarithm of the contrast in four bands of an image pyramid and below them, ``B5``."""
    energies = []
    for _ in range(4):
        coarse = F.avg_pool2d(pixels_BCHW, 2)
        rebuilt = F.interpolate(coarse, size=pixels_BCHW.shape[2:], mode="bilinear")
        energies.append((pixels_BCHW - rebuilt).square().mean((1, 2, 3)))
        pixels_BCHW = coarse
    energies.append(pixels_BCHW.var((1, 2, 3)))
    return torch.stack(energies, dim=1).add(1).log() / 2


def _colours(pixels_BCHW: Tensor) -> Tensor:
    """Histogram of colours with 8 x 8 x 8 bins, each blurred over its neighbours, ``BK``."""
    bins = (pixels_BCHW.long() // 32).flatten(2)
    index = (bins[:, 0] * 8 + bins[:, 1]) * 8 + bins[:, 2]
    counts = torch.zeros(len(index), 512, device=index.device)
    counts.scatter_add_(1, index, torch.ones(index.shape, device=index.device))
    blurred = F.avg_pool3d((counts / index.shape[1]).view(-1, 1, 8, 8, 8), 3, stride=1, padding=1)
    return blurred.flatten(1)


def _patches(pixels_BCHW: Tensor, stride: int) -> Tensor:
    return F.unfold(pixels_BCHW, PATCH, stride=stride).transpose(1, 2)


def _found_in(pixels_BTCHW: Tensor, prompts_BCHW: Tensor) -> Tensor:
    """Logarithm of the error with which patches are found anywhere in the prompt: four statistics, ``BT4``."""
    shape = pixels_BTCHW.shape[:2]
    patches_BTPD = _patches(pixels_BTCHW.flatten(0, 1), PATCH).unflatten(0, shape)
    clips = zip(patches_BTPD.flatten(1, 2), _patches(prompts_BCHW, 2), strict=True)
    errors_BX = torch.stack([torch.cdist(own_XD, prompt_YD).amin(1) for own_XD, prompt_YD in clips])
    return _statistics(
        errors_BX.view(patches_BTPD.shape[:3]) / patches_BTPD.shape[-1] ** 0.5, 0.25, 0.75, 1.0
    )


def _self_similarity(pixels_BCHW: Tensor) -> Tensor:
    """Logarithm of the error with which patches are found elsewhere in their own frame: ``B3``."""
    patches = _patches(pixels_BCHW, PATCH)
    distances = torch.cdist(patches, patches) / patches.shape[-1] ** 0.5
    itself = torch.eye(patches.shape[1], dtype=torch.bool, device=patches.device)
    return _statistics(distances.masked_fill(itself, torch.inf).amin(-1), 0.25, 0.75)


def _statistics(errors: Tensor, *quantiles: float) -> Tensor:
    found = errors.quantile(torch.tensor(quantiles, device=errors.device), dim=-1).movedim(0, -1)
    return torch.cat([errors.mean(-1, keepdim=True), found], dim=-1).add(INVISIBLE).log()
