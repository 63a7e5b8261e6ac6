"""What ``jinn eval`` measures: worlds on held-out clips, every metric with its interval and its baselines.

This is the table of contents. `jinn.evaluation.catalogue` says what each metric is; how it is measured is in
the module of its part:

    reconstruction  the tokenizer: PSNR, SSIM, LPIPS, use of the codebook
    rollouts        next frames and roll-outs beside real videos, and the copy-last-frame baseline
    control         Delta PSNR (paper, section 3) and action consistency
    actions         use of the latent actions, and what they say about the true ones
    distances       FVD, frame distance and motion distance, with floors and ceilings
    stability       long roll-outs: do they look like the videos, are they static, have they diverged
    physics         are actions obeyed where they are possible, and only there; do opposite ones lead back

A part turns clips into records (one row a clip, which can be cached) and records into estimates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from jinn.data.store import FrameStore
from jinn.evaluation import actions, control, distances, physics, reconstruction, rollouts, stability
from jinn.evaluation.clips import HeldOut, check, check_motion, choose
from jinn.evaluation.estimate import Estimate, Records, clip_samples, differences, estimate_means
from jinn.evaluation.measure import Measure, OnProgress, WorldRecords
from jinn.evaluation.networks import load_networks
from jinn.evaluation.protocol import Protocol
from jinn.evaluation.results import Results, WorldResults, training_curves
from jinn.world.world import World


@torch.inference_mode()
@torch.backends.cudnn.flags(allow_tf32=False)  # a GPU must give the CPU's estimates
def evaluate(
    worlds: Sequence[World],
    store: FrameStore,
    protocol: Protocol,
    names: Sequence[str] | None = None,
    work: Path | str | None = None,
    on_progress: OnProgress = lambda *_: None,
    batch: int | None = None,
) -> Results:
    """Measure worlds on the same held-out clips of a store.

    Args:
        worlds: at least one; all have the store's frame size.
        store: a store with levels or videos that no world was trained on.
        protocol: how much is measured.
        names: names of the worlds in the report; their own by default.
        work: a folder that caches records: the same call goes on from there.
        on_progress: see `OnProgress`.
        batch: number of clips at once; by default 16 on a CPU and 64 on a GPU.

    Raises:
        JinnError: these worlds cannot be measured on this store; the sentence says why.
    """
    work = Path(work).expanduser() if work else None
    names = list(names or [world.name for world in worlds])
    for name, world in zip(names, worlds, strict=True):
        check(name, world, store)
    held_out = choose(store, list(worlds), protocol.frames + 1, protocol.clips, protocol.seed)
    clips, seed, device = held_out.measured, protocol.seed, worlds[0].device
    check_motion(clips)
    networks = load_networks(device, store.size_hw, protocol.frames)
    batch = batch or (64 if device.type == "cuda" else 16)
    measure = Measure(networks, held_out, protocol, batch, work, on_progress)
    real = measure.real()

    found, samples = [], []
    for name, world in zip(names, worlds, strict=True):
        records = measure.world(world, name)
        samples.append(clip_samples(records.clips))
        means, curves = estimate_means(samples[-1], seed)
        counts_AU = actions.confusion(records.clips, world.num_actions)
        found.append(
            WorldResults(
                name=name,
                estimates=means | dict(estimates(world, records, real, protocol)),
                curves=curves,
                legend=records.legend,
                confusion_AU=None if counts_AU is None else counts_AU.long().tolist(),
                training=training_curves(world),
                pictures=rollouts.example_rollouts(world, clips, protocol.shown, records.latent_U, seed),
            )
        )
    return Results(
        settings=settings(held_out, protocol) | {"computed on": device.type},
        missing=(*networks.missing, *missing(held_out, real)),
        worlds=tuple(found),
        differences=tuple(differences(samples[0], other, seed) for other in samples[1:]),
    )


def estimates(
    world: World, records: WorldRecords, real: Records, protocol: Protocol
) -> Iterator[tuple[str, Estimate]]:
    """The estimates of one world that are not plain means over clips."""
    clips, seed = records.clips, protocol.seed
    yield from reconstruction.estimates(world, clips, seed)
    yield from control.estimates(world, clips, seed)
    yield from actions.estimates(clips, records.fitted_AU, world.num_actions, seed)
    yield from distances.estimates(clips, real, seed)
    yield from stability.estimates(records.long, real, protocol.long_frames, seed)
    if records.physics:
        yield from physics.estimates(records.physics, seed)


def settings(held_out: HeldOut, protocol: Protocol) -> dict[str, str]:
    """What is needed to repeat the evaluation."""
    clips, store = held_out.measured, held_out.measured.store
    levels = len(np.unique(store.groups[clips.episodes]))
    parts = stability.segments(protocol.long_frames)
    frames = ", ".join(f"{part.start + 1} to {part.stop}" for part in parts.values())
    return {
        "store": str(store.path),
        "clips": f"{len(clips)}, each {clips.frames - 1} frames after a prompt of one, from {levels} levels "
        "or videos that no training saw",
        "intervals": "95%, bootstrap over clips",
        "fps": f"{store.fps:g}",
        "random actions": f"{protocol.draws} sequences for each clip",
        "long roll-outs": f"{protocol.long_rollouts} of {protocol.long_frames} frames under random actions, each held "
        f"for {stability.HOLD[0]} to {stability.HOLD[1]} frames, as many under constant ones; frames {frames}",
        "seed": str(protocol.seed),
    }


def missing(held_out: HeldOut, real: Records) -> Iterator[str]:
    """A sentence for each thing that cannot be measured on this store."""
    if held_out.reference is None:
        yield (
            "There is one held-out level or video only, so distances have no floor and no true action is "
            "mapped: add more."
        )
    elif held_out.other is None:
        yield "There are two held-out levels or videos only, so none is left to be the other level: add more."
    if held_out.measured.actions() is None:
        yield "Not all of these clips have true actions, so none are given: measure on a store that has them."
    if held_out.reference is not None and "long/change" not in real:
        yield "The held-out videos are too short for a floor of the long roll-outs: record longer ones."
