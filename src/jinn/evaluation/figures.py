"""From what was measured of each clip to figures with intervals. Their names: see `jinn.evaluation.suite`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.evaluation.frechet import frechet_interval
from jinn.evaluation.measure import STILL, Records
from jinn.evaluation.metrics import (
    bootstrap,
    entropy,
    joint_counts,
    mutual_information,
    perplexity,
    purity,
)
from jinn.evaluation.results import Figure
from jinn.world.world import World


@dataclass(frozen=True)
class Measured:
    """All records of one world.

    Attributes:
        clips: of `measure_clips`.
        keys: of `measure_keys`, None without reference clips.
        keys_U: for each true action the latent one that is played for it, None if true ones are unknown.
        long: of `measure_stability`: one half of the roll-outs under random actions, one under held ones.
    """

    clips: Records
    keys: Records | None
    keys_U: Tensor | None
    long: Records


def best_keys(keys: Records | None, num_actions: int) -> Tensor | None:
    """For each true action the latent action that it meets most often, None if true actions are unknown."""
    joint_BAU = joint(keys, num_actions) if keys is not None else None
    return None if joint_BAU is None else joint_BAU.sum(0).argmax(0)


def clip_means(measured: Measured) -> dict[str, np.ndarray]:
    """Every figure that is a plain mean over clips: one number a clip (and frame, for curves), by name."""
    records = measured.clips
    frozen = {"inferred": "frozen", "given": "frozen", "next_frame": "next_frame_frozen"}
    found: dict[str, np.ndarray] = {}
    for what in ("tokenizer", "next_frame", "inferred", "given"):
        for metric in ("psnr", "ssim", "lpips"):
            if f"{what}/{metric}" in records:
                found[f"{what}/{metric}"] = records[f"{what}/{metric}"].numpy()
                if what in frozen:
                    found[f"{what}/{metric}/frozen"] = records[f"{frozen[what]}/{metric}"].numpy()
    found["control/delta_psnr"] = records["control/delta_psnr"].numpy()
    moving = records["moves"] > records["moves"].median()
    if bool(moving.any()):
        found |= {f"{name}/moving": values[moving] for name, values in found.items()}
    accuracy, agreement = "next_frame/token_accuracy", "control/agreement"
    for name in (accuracy, f"{accuracy}/frozen", agreement, f"{agreement}/reconstruction"):
        found[name] = records[name].numpy()
    return found


def mean_figures(samples: np.ndarray, seed: int) -> tuple[Figure, list[Figure]]:
    """One of `clip_means` to its figure and its curve (empty if it has none)."""
    if samples.ndim == 1:
        return bootstrap(samples, seed), []
    return bootstrap(samples.mean(1), seed), [bootstrap(column, seed) for column in samples.T]


def figures_of(
    world: World, measured: Measured, means: dict[str, np.ndarray], real: Records, frames: int, seed: int
) -> tuple[dict[str, Figure], dict[str, list[Figure]]]:
    """All figures and curves of one world, by name.

    Args:
        world: what was measured.
        measured: its records.
        means: of `clip_means`.
        real: of the real clips, from `jinn.evaluation.suite.measure_all_real`.
        frames: T of the predictions.
        seed: of the bootstrap.
    """
    figures: dict[str, Figure] = {}
    curves: dict[str, list[Figure]] = {}
    for name, samples in means.items():
        figures[name], curve = mean_figures(samples, seed)
        if curve and not name.startswith("tokenizer/"):
            curves[name] = curve
    figures["control/delta_psnr_4"] = curves["control/delta_psnr"][3]
    chance, count = 1 / world.num_actions, len(measured.clips["codes"])  # what was pressed is drawn uniformly
    figures["control/agreement/chance"] = Figure(chance, chance, chance, count, seed)
    figures |= code_figures(world, measured.clips.get("tokens"), count, seed)
    figures |= action_figures(measured, world.num_actions, seed)
    figures |= distances(measured, real, frames, seed)
    figures |= stability(measured, real, seed)
    return figures, curves


share = partial(bootstrap, least=0.0, most=1.0)


def used(shares: np.ndarray) -> np.ndarray:
    """Share of the last axis that occurs at all."""
    return (shares > 0).mean(-1)


def code_figures(
    world: World, counts_BK: Tensor | None, clips: int, seed: int
) -> Iterator[tuple[str, Figure]]:
    """How the tokenizer's codebook is used; of one too large to be counted, what it could say at most."""
    rows, columns = world.tokenizer.grid_hw
    places = rows * columns
    capacity = places * float(np.log2(world.tokenizer.codebook_size))
    yield "tokenizer/capacity_bits", Figure(capacity, capacity, capacity, clips, seed)
    if counts_BK is None:
        return
    shares_BK = counts_BK.double() / counts_BK.sum(1, keepdim=True)
    yield "tokenizer/codes_used", share(shares_BK, seed, used)
    yield "tokenizer/perplexity", bootstrap(shares_BK, seed, perplexity)
    bits = bootstrap(shares_BK, seed, lambda means: places * entropy(means) / np.log(2), most=capacity)
    yield "tokenizer/bits", bits


def joint(records: Records, num_actions: int) -> Tensor | None:
    """How often latent and true actions meet in each clip, ``BAU``; None if true ones are unknown."""
    if not bool((records["true"] >= 0).any()):
        return None
    return joint_counts(records["codes"], records["true"], num_actions, int(records["true"].max()) + 1)


def confusion(records: Records, num_actions: int) -> list[list[int]] | None:
    """Counts of latent (row) and true actions (column) in all clips, None if true ones are unknown."""
    joint_BAU = joint(records, num_actions)
    return None if joint_BAU is None else joint_BAU.sum(0).long().tolist()


def action_figures(measured: Measured, num_actions: int, seed: int) -> Iterator[tuple[str, Figure]]:
    """How the latent actions are used, and what they share with scrolling and with the true actions."""
    codes_BT = measured.clips["codes"]
    shares_BA = F.one_hot(codes_BT, num_actions).double().mean(1)
    yield "actions/used", share(shares_BA, seed, used)
    yield "actions/perplexity", bootstrap(shares_BA, seed, perplexity, least=1, most=num_actions)
    moves_X = torch.unique(measured.clips["scrolling"].flatten(0, 1), dim=0, return_inverse=True)[1]
    scrolls_BT = moves_X.view(codes_BT.shape)
    joint_BAS = joint_counts(codes_BT, scrolls_BT, num_actions, int(scrolls_BT.max()) + 1)
    yield "actions/nmi_scrolling", share(joint_BAS, seed, mutual_information)
    joint_BAU = joint(measured.clips, num_actions)
    if joint_BAU is None:
        return
    joint_BAU = joint_BAU[joint_BAU.sum((1, 2)) > 0]  # clips that say something
    yield "actions/nmi_true", share(joint_BAU, seed, mutual_information)
    yield "actions/purity", share(joint_BAU, seed, purity)
    everything = joint_BAU.sum(1, keepdim=True)
    yield "actions/purity/chance", share(everything, seed, purity)
    fitted = joint(measured.keys, num_actions) if measured.keys is not None else None
    if fitted is None:
        return
    # The map is fitted on other levels: on the clips themselves it would be the purity once more.
    true_A = fitted.sum(0).argmax(1)
    likeliest = int(fitted.sum((0, 1)).argmax())
    known_BT = measured.clips["true"] >= 0
    for name, guess_BT in (
        ("actions/map_accuracy", true_A[codes_BT]),
        ("actions/map_accuracy/chance", codes_BT * 0 + likeliest),
    ):
        hits_BT = (guess_BT == measured.clips["true"]) & known_BT
        yield name, bootstrap(hits_BT.sum(1) / known_BT.sum(1), seed)


def distances(measured: Measured, real: Records, frames: int, seed: int) -> Iterator[tuple[str, Figure]]:
    """Frechet distances from the real clips to each set that there is."""
    count = len(measured.clips["codes"])
    titles = {
        "fvd": f"fvd{count}_{frames}f",
        "frame": "frame_distance",
        "motion": "motion_distance",
    }
    sets = ("next_frame", "inferred", "given", "floor", "static", "shuffled", "other_level")
    for kind, title in titles.items():
        for name in sets:
            features_BXD = measured.clips.get(f"{kind}/{name}", real.get(f"{kind}/{name}"))
            if features_BXD is not None:
                yield f"{title}/{name}", frechet_interval(real[f"{kind}/real"], features_BXD, seed)


def stability(measured: Measured, real: Records, seed: int) -> Iterator[tuple[str, Figure]]:
    """How long roll-outs end."""
    looks_X2 = real["looks"].flatten(0, 1)
    low_2, high_2 = looks_X2.amin(0) / 2, looks_X2.amax(0) * 2
    rollouts = len(measured.long["change"]) // 2
    for name, rows in (("random", slice(rollouts)), ("held", slice(rollouts, None))):
        records = {key: values[rows] for key, values in measured.long.items()}
        for key in sorted((key for key in records if key.startswith("frame/")), key=lambda key: int(key[6:])):
            first, features_BXD = int(key[6:]), records[key]
            title = f"stability/{name}/frames_{first + 1}_{first + features_BXD.shape[1]}"
            yield title, frechet_interval(real["frame/real"], features_BXD, seed)
        yield f"stability/{name}/frozen", bootstrap((records["change"] < STILL).double(), seed)
        lost_BT = ((records["looks"] < low_2) | (records["looks"] > high_2)).any(-1)
        yield f"stability/{name}/exploded", bootstrap((lost_BT.double().mean(1) > 0.5).double(), seed)
    if "long/frame" in real:
        yield "stability/floor", frechet_interval(real["frame/real"], real["long/frame"], seed)
    if "long/change" in real:
        yield "stability/floor/frozen", bootstrap((real["long/change"] < STILL).double(), seed)


def compare(first: dict[str, np.ndarray], other: dict[str, np.ndarray], seed: int) -> dict[str, Figure]:
    """What the other world has more than the first, clip by clip."""
    return {
        name: bootstrap((other[name] - first[name]).reshape(len(first[name]), -1).mean(1), seed)
        for name in first
        if name in other
    }
