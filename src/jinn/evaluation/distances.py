"""Distances between sets of clips: FVD, frame distance and motion distance, with floors and ceilings."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from jinn.data.clips import clip_generators
from jinn.evaluation.catalogue import DISTANCES, SETS
from jinn.evaluation.clips import HeldOut
from jinn.evaluation.estimate import Estimate, Records
from jinn.evaluation.frechet import frechet_interval
from jinn.evaluation.i3d import i3d_logits
from jinn.evaluation.lpips import frame_features
from jinn.evaluation.motion import motion_features
from jinn.evaluation.networks import Networks
from jinn.evaluation.stability import image_statistics


def features(networks: Networks, clips: dict[str, Tensor]) -> Records:
    """Features that the distances compare: ``features/<kind>/<name>``, float32 ``BXD``, X samples a clip.

    The clips are uint8 ``frames_BTHWC`` by name. X is 1 for "fvd" (logits of I3D) and "motion_distance" (see
    `jinn.evaluation.motion`), and T for "frame_distance" (AlexNet).
    """
    found: Records = {}
    for name, frames_BTHWC in clips.items():
        frames_BTHWC = frames_BTHWC.to(networks.device)
        found[f"features/motion_distance/{name}"] = motion_features(frames_BTHWC).unsqueeze(1)
        if networks.i3d is not None:
            found[f"features/fvd/{name}"] = i3d_logits(networks.i3d, frames_BTHWC).unsqueeze(1)
        if networks.alexnet is not None:
            found[f"features/frame_distance/{name}"] = frame_features(networks.alexnet, frames_BTHWC)
    return found


def real_records(networks: Networks, held_out: HeldOut, rows: slice, seed: int) -> Records:
    """Features of real clips without their prompts, and of clips that are wrong in one known way.

    ``rows`` of the held-out clips are taken, and ``seed`` shuffles frames. ``statistics`` are those of
    `image_statistics` of the real clips.
    """
    real_BTHWC = held_out.measured.rows(rows).read()
    future_BTHWC = real_BTHWC[:, 1:]
    rngs = clip_generators(seed, range(rows.start, rows.stop))
    orders = [torch.randperm(future_BTHWC.shape[1], generator=rng) for rng in rngs]
    shown = {
        "real": future_BTHWC,
        "static": real_BTHWC[:, :1].expand_as(future_BTHWC),
        "shuffled": torch.stack([clip[order] for clip, order in zip(future_BTHWC, orders, strict=True)]),
    }
    for name, clips in (("floor", held_out.reference), ("other_level", held_out.other)):
        if clips is not None:
            shown[name] = clips.rows(rows).read()[:, 1:]
    found = features(networks, shown)
    found.pop("features/frame_distance/shuffled", None)  # the frames are the real ones, so the distance is 0
    return found | {"statistics": image_statistics(future_BTHWC)}


def estimates(clips: Records, real: Records, seed: int) -> Iterator[tuple[str, Estimate]]:
    """Fréchet distances from the real clips to each set of clips."""
    for kind in DISTANCES:
        for name in SETS:
            key = f"features/{kind}/{name}"
            features_BXD = clips.get(key, real.get(key))
            if features_BXD is not None:
                yield f"{kind}/{name}", frechet_interval(real[f"features/{kind}/real"], features_BXD, seed)
