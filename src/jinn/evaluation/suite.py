"""What ``jinn eval`` measures: worlds on held-out clips, every figure with its interval and its baselines.

Read `evaluate` first. The figures, by name (``.../moving`` is the same on that half of the clips in which
most moves, ``.../frozen`` the same of a picture that stands still):

    tokenizer/{psnr,ssim,lpips}     reconstruction
    tokenizer/codes_used, perplexity, bits, capacity_bits
    next_frame/{psnr,ssim,lpips}    the next frame, given the true ones before and inferred actions
    next_frame/token_accuracy
    inferred/{psnr,ssim,lpips}      roll-outs from one frame under the actions inferred from the true video
    given/{psnr,ssim,lpips}         the same under the game's own actions, translated by the best map
    control/delta_psnr_4            paper section 3: what inferred actions gain over random ones in frame 4
    control/agreement               the latent action model finds the pressed action in generated video
    actions/used, perplexity, nmi_scrolling, nmi_true, purity, map_accuracy
    fvd<N>_<T>f/<set>, frame_distance/<set>, motion_distance/<set>
                                    from real clips to next_frame, inferred, given, floor (other
                                    real clips), static, shuffled, other_level (see `measure_real`)
    stability/{random,held}/...     long roll-outs: distance of early, middle and late frames to real ones,
                                    share of frozen and exploded ones

Curves have the same names, and one figure for each frame after the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from jinn.contracts import JinnError
from jinn.data.clips import evenly_spaced_clips
from jinn.data.store import FrameStore
from jinn.evaluation.actions import describe_actions
from jinn.evaluation.clips import Clips, HeldOut, choose
from jinn.evaluation.figures import Measured, best_keys, clip_means, compare, confusion, figures_of
from jinn.evaluation.keep import cache_folder, clips_digest, digest, in_batches, world_digest
from jinn.evaluation.measure import (
    Networks,
    Records,
    load_networks,
    long_actions,
    measure_clips,
    measure_keys,
    measure_real,
    measure_real_stretches,
    measure_stability,
    stretches,
)
from jinn.evaluation.results import Results, WorldResults
from jinn.evaluation.show import missing, pictures, settings, training_curves
from jinn.world.world import World

# What is being measured, how much of it is done, and how much there is.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Protocol:
    """How much is measured.

    Attributes:
        clips: how many at most; distances depend on it and may be compared only at the same number.
        frames: T, frames to predict after the prompt.
        draws: random sequences of actions for each clip.
        long_rollouts: how many under random, and as many under held actions.
        long_frames: T of these.
        shown: clips in the report.
        seed: of roll-outs, random actions and the bootstrap.
    """

    clips: int = 256
    frames: int = 16
    draws: int = 3
    long_rollouts: int = 16
    long_frames: int = 1000
    shown: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clips < 2 or self.frames < 4 or self.draws < 1 or self.shown < 1:
            raise JinnError("an evaluation needs at least 2 clips of 4 frames, 1 draw and 1 clip to show")
        if self.long_rollouts < 2 or self.long_frames < 30:
            raise JinnError("long roll-outs need at least 2 of them, and 30 frames")


ProtocolName = Literal["quick", "fvd256_16f", "fvd2048_16f"]
PROTOCOLS: dict[ProtocolName, Protocol] = {
    "quick": Protocol(clips=16, draws=2, long_rollouts=4, long_frames=120, shown=6),
    "fvd256_16f": Protocol(),
    "fvd2048_16f": Protocol(clips=2048, long_rollouts=100),
}


@torch.inference_mode()
@torch.backends.cudnn.flags(allow_tf32=False)  # a GPU's figures are to be a CPU's
def evaluate(
    worlds: Sequence[World],
    store: FrameStore,
    protocol: Protocol,
    names: Sequence[str] | None = None,
    work: Path | None = None,
    on_progress: OnProgress = lambda *_: None,
    batch: int | None = None,
) -> Results:
    """Measure worlds on the same held-out clips of a store.

    Args:
        worlds: at least one; all of the store's frame size.
        store: with levels or videos that none of them was trained on.
        protocol: how much.
        names: of the worlds, as people are to read them.
        work: a folder for what was measured so far: the same call goes on from there.
        on_progress: see `OnProgress`.
        batch: clips at once; by default 16 on a CPU and 64 on a GPU.

    Raises:
        JinnError: something about the worlds or the store makes figures impossible; the sentence says what.
    """
    names = list(names or [world.name for world in worlds])
    for name, world in zip(names, worlds, strict=True):
        check(name, world, store)
    held_out = choose(store, list(worlds), protocol.frames + 1, protocol.clips, protocol.seed)
    check_life(held_out.measured)
    device = worlds[0].device
    networks = load_networks(device, store.size_hw, protocol.frames)
    batch = batch or (64 if device.type == "cuda" else 16)

    real = measure_all_real(networks, held_out, protocol, batch, on_progress)
    found, means = [], []
    for name, world in zip(names, worlds, strict=True):
        place = None
        if work is not None:
            place = work / digest(world_digest(world), clips_digest(held_out, networks, protocol))
        measured = measure_world(world, networks, held_out, protocol, batch, place, on_progress, name)
        means.append(clip_means(measured))
        figures, curves = figures_of(world, measured, means[-1], real, protocol.frames, protocol.seed)
        found.append(
            WorldResults(
                name=name,
                figures=figures,
                curves=curves,
                legend=describe_actions(world, held_out.measured.rows(slice(0, 256)).read()),
                confusion_AU=confusion(measured.clips, world.num_actions),
                training=training_curves(world),
                pictures=pictures(world, held_out.measured, protocol.shown, measured.keys_U, protocol.seed),
            )
        )
    how = {
        "random actions": f"{protocol.draws} sequences for each clip",
        "long roll-outs": f"{protocol.long_rollouts} of {protocol.long_frames} frames, random and held",
        "seed": str(protocol.seed),
        "computed on": device.type,
    }
    return Results(
        settings=settings(held_out) | how,
        missing=(*networks.missing, *missing(held_out, real)),
        worlds=tuple(found),
        differences=tuple(compare(means[0], other, protocol.seed) for other in means[1:]),
    )


# ---- Refusals ---------------------------------------------------------------------------------------


def check(name: str, world: World, store: FrameStore) -> None:
    """Raise `JinnError` if this world cannot be measured on this store."""
    if world.size_hw != store.size_hw:
        have, want = ("x".join(map(str, size)) for size in (store.size_hw, world.size_hw))
        raise JinnError(
            f"the frames of {store.path} are {have} but {name} was trained on {want}: make a store of that "
            f"size (jinn data ... --size {want.replace('x', ' ')})"
        )
    if min(store.size_hw) < 16:
        raise JinnError(f"frames are measured from 16 pixels a side on, those of {store.path} are smaller")
    for key, values in world.state_dict().items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise JinnError(
                f"the weights of {name} are not all numbers ({key}): its training has diverged; lower the "
                "learning rate and train again"
            )


def check_life(clips: Clips) -> None:
    """Raise `JinnError` if there is nothing to see."""
    for first in range(0, len(clips), 64):
        frames_BTHWC = clips.rows(slice(first, first + 64)).read()
        if bool((frames_BTHWC != frames_BTHWC[:, :1]).any()):
            return
    flat = bool((frames_BTHWC == frames_BTHWC.flatten()[0]).all())
    what = "is one flat colour" if flat else "stands still"
    raise JinnError(
        f"every held-out clip of {clips.store.path} {what}: there is nothing to predict; look at the videos, "
        "and record or choose others"
    )


# ---- Measuring, kept on disk batch by batch ---------------------------------------------------------


def measure_all_real(
    networks: Networks, held_out: HeldOut, protocol: Protocol, batch: int, on_progress: OnProgress
) -> Records:
    """`measure_real` of all clips, and of long stretches (``long/...``); kept: all worlds have the same."""
    how = (protocol.frames, protocol.seed, protocol.long_rollouts, protocol.long_frames)
    place = cache_folder() / "real" / clips_digest(held_out, networks, *how)
    measured, reference, other = held_out.measured, held_out.reference, held_out.other

    def short(rows: slice) -> Records:
        floor = reference.rows(rows) if reference else None
        single = other.rows(rows) if other else None
        return measure_real(networks, measured.rows(rows), floor, single, rows.start, protocol.seed)

    told = partial(on_progress, "real videos")
    found = in_batches("short", len(measured), batch, short, place, told)
    length = len(stretches(protocol.long_frames)[0])
    if reference is not None:
        store, ids = reference.store, np.unique(reference.episodes)
        ids = ids[store.lengths[ids] >= length]
        if len(ids) >= 2:
            long = Clips(store, *evenly_spaced_clips(store, length, ids, protocol.long_rollouts), length)
            stretch = partial(measure_real_stretches, networks)
            told = partial(on_progress, "real videos, long")
            records = in_batches("long", len(long), batch, lambda x: stretch(long.rows(x)), place, told)
            found |= {f"long/{name}": values for name, values in records.items()}
    return found


def measure_world(
    world: World,
    networks: Networks,
    held_out: HeldOut,
    protocol: Protocol,
    batch: int,
    place: Path | None,
    on_progress: OnProgress,
    name: str,
) -> Measured:
    """Everything that needs the world to compute."""
    measured, reference, seed = held_out.measured, held_out.reference, protocol.seed
    keys = None
    if reference is not None:
        read = partial(measure_keys, world)
        told = partial(on_progress, f"{name}: actions")
        keys = in_batches("keys", len(reference), batch, lambda x: read(reference.rows(x)), place, told)
    # Not given in some clips only: a figure is of all clips.
    keys_U = best_keys(keys, world.num_actions) if measured.actions() is not None else None

    def short(rows: slice) -> Records:
        clips = measured.rows(rows)
        return measure_clips(world, networks, clips, rows.start, seed, protocol.draws, keys_U)

    told = partial(on_progress, f"{name}: clips")
    clips = in_batches("clips", len(measured), batch, short, place, told)

    count, frames = protocol.long_rollouts, protocol.long_frames
    starts = np.linspace(0, len(measured) - 1, count).round().astype(int)
    prompts_BHWC = measured.rows(np.tile(starts, 2)).read()[:, 0]
    actions_BT = long_actions(world.num_actions, count, frames, seed)
    told = partial(on_progress, f"{name}: long play")

    def long(rows: slice) -> Records:
        def on_frame(t: int) -> None:
            told(rows.start * frames + (rows.stop - rows.start) * t, 2 * count * frames)

        seeds = [seed + row for row in range(rows.start, rows.stop)]
        return measure_stability(world, networks, prompts_BHWC[rows], actions_BT[rows], seeds, on_frame)

    played = in_batches("long", 2 * count, batch, long, place, lambda n, m: told(n * frames, m * frames))
    return Measured(clips, keys, keys_U, played)
