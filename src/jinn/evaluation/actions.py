"""Latent actions: how they are used, and what they say about a game's true actions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.data.store import FrameStore
from jinn.evaluation.clips import Clips
from jinn.evaluation.estimate import Estimate, Records, bootstrap
from jinn.evaluation.metrics import fraction_used, joint_counts, mutual_information, perplexity, purity
from jinn.evaluation.rollouts import Rollouts
from jinn.world.keys import episode_pairs
from jinn.world.motion import global_motion
from jinn.world.world import World


def records(rollouts: Rollouts) -> Records:
    """Latent and true actions of each frame (``BT``, -1 if unknown), and the motion of the picture ``BT2``."""
    motion = global_motion(rollouts.real_BTHWC)
    return {"latent": rollouts.latent_BT, "true": rollouts.true_BT, "scrolling": motion}


def reference_records(world: World, clips: Clips, rows: slice) -> Records:
    """Latent and true actions of some reference clips, on which the map between them is fitted."""
    clips = clips.rows(rows)
    latent_BT, true_BT = world.infer_actions(clips.read().to(world.device)).cpu(), clips.actions()
    return {"latent": latent_BT, "true": torch.full_like(latent_BT, -1) if true_BT is None else true_BT}


def joint(pairs: Records, num_actions: int) -> Tensor | None:
    """How often latent and true actions occur together in each clip, ``BAU``; None if all true ones are unknown."""
    if not bool((pairs["true"] >= 0).any()):
        return None
    return joint_counts(pairs["latent"], pairs["true"], num_actions, int(pairs["true"].max()) + 1)


def confusion(pairs: Records, num_actions: int) -> Tensor | None:
    """`joint` of all clips together, ``AU``."""
    joint_BAU = joint(pairs, num_actions)
    return None if joint_BAU is None else joint_BAU.sum(0)


def estimates(
    clips: Records, fitted_AU: Tensor | None, num_actions: int, seed: int
) -> Iterator[tuple[str, Estimate]]:
    """How latent actions are used, and what they say about the motion of the picture and the true actions.

    ``fitted_AU`` is how often latent and true actions occur together in the reference clips, None if it is unknown.
    """
    latent_BT = clips["latent"]
    fractions_BA = F.one_hot(latent_BT, num_actions).double().mean(1)
    yield "actions/used", bootstrap(fractions_BA, seed, fraction_used, least=0, most=1)
    yield "actions/perplexity", bootstrap(fractions_BA, seed, perplexity, least=1, most=num_actions)
    moves_X = torch.unique(clips["scrolling"].flatten(0, 1), dim=0, return_inverse=True)[1]
    moves_BT = moves_X.view(latent_BT.shape)
    joint_BAS = joint_counts(latent_BT, moves_BT, num_actions, int(moves_BT.max()) + 1)
    yield "actions/nmi_scrolling", bootstrap(joint_BAS, seed, mutual_information, least=0, most=1)
    joint_BAU = joint(clips, num_actions)
    if joint_BAU is None:
        return
    joint_BAU = joint_BAU[joint_BAU.sum((1, 2)) > 0]  # clips with true actions
    yield "actions/nmi_true", bootstrap(joint_BAU, seed, mutual_information, least=0, most=1)
    yield "actions/purity", bootstrap(joint_BAU, seed, purity, least=0, most=1)
    one_latent_B1U = joint_BAU.sum(1, keepdim=True)
    yield "actions/purity/chance", bootstrap(one_latent_B1U, seed, purity, least=0, most=1)
    if fitted_AU is None:
        return
    # The map is fitted on other levels: fitted on these clips, its accuracy would be the purity again.
    true_A = fitted_AU.argmax(1)
    most_frequent = int(fitted_AU.sum(0).argmax())
    known_BT = clips["true"] >= 0
    for name, guess_BT in (
        ("actions/map_accuracy", true_A[latent_BT]),
        ("actions/map_accuracy/chance", torch.full_like(latent_BT, most_frequent)),
    ):
        hits_BT = (guess_BT == clips["true"]) & known_BT
        yield name, bootstrap(hits_BT.sum(1) / known_BT.sum(1), seed)


def nmi_with_true_actions(labels_X: np.ndarray, store: FrameStore, num_actions: int) -> Estimate | None:
    """Normalised mutual information of latent and true actions, in [0, 1]; the interval is over episodes.

    Args:
        labels_X: int64 latent action of each frame of the store, from `jinn.world.label.label`.
        store: videos, some of them with true actions; without any, None is returned.
        num_actions: number of latent actions.
    """
    pairs = episode_pairs(labels_X, store)
    if not pairs:
        return None
    U = 1 + max(int(true_T.max()) for _, true_T in pairs)
    counts = [joint_counts(latent_T[None], true_T[None], num_actions, U) for latent_T, true_T in pairs]
    return bootstrap(torch.cat(counts), 0, mutual_information, least=0, most=1)
