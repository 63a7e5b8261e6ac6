"""Distances between sets of clips: FVD, frame distance and motion distance, with floors and ceilings."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from jinn.data.clips import clip_generators
from jinn.evaluation.catalogue import DISTANCES, SETS
from jinn.evaluation.clips import Clips
from jinn.evaluation.estimate import Estimate, Records
from jinn.evaluation.frechet import frechet_interval
from jinn.evaluation.i3d import i3d_logits
from jinn.evaluation.lpips import frame_features
from jinn.evaluation.motion import motion_features
from jinn.evaluation.networks import Networks
from jinn.evaluation.rollouts import Rollouts


def features(networks: Networks, frames_BTHWC: Tensor, name: str) -> Records:
    """Features that the distances compare: ``features/<kind>/<name>``, float32 ``BXD``, X samples a clip.

    X is 1 for "fvd" (logits of I3D) and "motion_distance" (see `jinn.evaluation.motion`), and T for
    "frame_distance" (AlexNet).
    """
    found = {"motion_distance": motion_features(frames_BTHWC).unsqueeze(1)}
    if networks.i3d is not None:
        found["fvd"] = i3d_logits(networks.i3d, frames_BTHWC).unsqueeze(1)
    if networks.alexnet is not None:
        found["frame_distance"] = frame_features(networks.alexnet, frames_BTHWC)
    return {f"features/{kind}/{name}": values for kind, values in found.items()}


def records(rollouts: Rollouts, networks: Networks) -> Records:
    """Features of predicted clips."""
    found: Records = {}
    for name, frames_BTHWC in rollouts.generated().items():
        found |= features(networks, frames_BTHWC, name)
    return found


def real_records(
    networks: Networks, measured: Clips, reference: Clips | None, other: Clips | None, first: int, seed: int
) -> Records:
    """Features of real clips without their prompts, and of clips that are wrong in one known way.

    Args:
        networks: see `Networks`.
        measured, reference, other: some rows of `HeldOut`.
        first: number of the first of these rows.
        seed: seed of the shuffled frames.
    """
    real_BTHWC = measured.read()
    future_BTHWC = real_BTHWC[:, 1:]
    rngs = clip_generators(seed, range(first, first + len(measured)))
    orders = [torch.randperm(future_BTHWC.shape[1], generator=rng) for rng in rngs]
    shown = {
        "real": future_BTHWC,
        "static": real_BTHWC[:, :1].expand_as(future_BTHWC),
        "shuffled": torch.stack([clip[order] for clip, order in zip(future_BTHWC, orders, strict=True)]),
    }
    if reference is not None:
        shown["floor"] = reference.read()[:, 1:]
    if other is not None:
        shown["other_level"] = other.read()[:, 1:]
    found: Records = {}
    for name, frames_BTHWC in shown.items():
        found |= features(networks, frames_BTHWC.to(networks.device), name)
    found.pop("features/frame_distance/shuffled", None)  # the frames are the real ones, so the distance is 0
    return found


def estimates(clips: Records, real: Records, seed: int) -> Iterator[tuple[str, Estimate]]:
    """Fréchet distances from the real clips to each set of clips."""
    for kind in DISTANCES:
        for name in SETS:
            key = f"features/{kind}/{name}"
            features_BXD = clips.get(key, real.get(key))
            if features_BXD is not None:
                yield f"{kind}/{name}", frechet_interval(real[f"features/{kind}/real"], features_BXD, seed)
