"""The game's own keys: which latent action plays each action of the real game, from a little labelled play.

    labels_X = jinn.world.label.label(world, store)
    world.keys = jinn.world.keys.teach(labels_X, store, world.num_actions).keys

``jinn teach`` does this. A taught world keeps them in keys.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError, as_actions, check_name
from jinn.data.store import FrameStore


@dataclass(frozen=True)
class Key:
    """One action of the real game, and the latent action that plays it.

    Attributes:
        name: as the game calls it, such as "up-left", or "action 3".
        latent: the latent action that indicates it best; where it never occurred, the most frequent one.
        count: number of labelled steps in which it was taken.
        seen: fraction of these steps in which the latent action model saw ``latent``; 0 if there are none.
        otherwise: the same fraction of all other steps.
    """

    name: str
    latent: int
    count: int
    seen: float
    otherwise: float

    def __post_init__(self) -> None:
        check_name(self.name)


class Taught(NamedTuple):
    """What `teach` found.

    Attributes:
        keys: one for each action of the game, in the game's order.
        agreement: how often the latent action model sees the latent action that the pressed one is mapped to, in
            [0, 1]: the map of one half of the play, on the other half.
        guessing: what it would be if latent actions did not depend on the pressed ones.
    """

    keys: tuple[Key, ...]
    agreement: float
    guessing: float


def key_names(store: FrameStore, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """A name for each true action of a store: the given ones, else its own, else "action 0", "action 1", ...

    Raises:
        JinnError: the store has no true actions, or not as many as there are names.
    """
    if store.num_actions is None or not store.has_actions.any():
        raise JinnError(
            f"{store.path} has no true actions: record an environment, such as envpool:CoinrunHard-v0"
        )
    U = store.num_actions
    if given is not None:
        if len(given) != U or not all(name.strip() for name in given):
            raise JinnError(f"{store.path} has {U} actions: give as many names, in the game's order")
        return tuple(name.strip() for name in given)
    return store.action_names or tuple(f"action {action}" for action in range(U))


def episode_pairs(labels_X: np.ndarray, store: FrameStore) -> list[tuple[Tensor, Tensor]]:
    """Latent and true actions of each episode with true actions: int64, one for each frame, the last is -1.

    Args:
        labels_X: int64 latent action of each frame of the store, from `jinn.world.label.label`.
        store: the videos.
    """
    pairs = []
    for episode, (start, length) in enumerate(zip(store.starts, store.lengths, strict=True)):
        true_T = store.actions(episode, 0, int(length))
        if true_T is not None:
            pairs.append((torch.from_numpy(labels_X[start : start + length]), torch.from_numpy(true_T)))
    return pairs


def teach(
    labels_X: np.ndarray, store: FrameStore, num_latents: int, names: Sequence[str] | None = None
) -> Taught:
    """Map each true action of a store to the latent action that indicates it best.

    Args:
        labels_X: int64 latent action of each frame of the store, from `jinn.world.label.label`.
        store: labelled play; a minute is enough.
        num_latents: number of latent actions of the world.
        names: of the true actions, see `key_names`.

    Raises:
        JinnError: the store has no steps with true actions, or not as many actions as there are names.
    """
    names = key_names(store, names)
    latents_X, actions_X = (torch.cat(parts) for parts in zip(*episode_pairs(labels_X, store), strict=True))
    steps_X = latents_X >= 0  # not the last frames of episodes
    latents_X, actions_X = latents_X[steps_X], actions_X[steps_X]
    if len(latents_X) < 2:
        raise JinnError(f"{store.path} has too few steps with true actions: record more")
    dictionary = Dictionary(latents_X, actions_X, num_latents, len(names))
    latent_U, counts_AU = dictionary.to_latent(), dictionary.counts_AU
    counts_U, hits_U = counts_AU.sum(0), counts_AU[latent_U, range(len(names))]
    seen_U = hits_U / counts_U.clamp_min(1)
    otherwise_U = (counts_AU.sum(1)[latent_U] - hits_U) / (len(actions_X) - counts_U).clamp_min(1)
    columns = counts_U.tolist(), seen_U.tolist(), otherwise_U.tolist()
    keys = [
        Key(name, latent, count, round(seen, 4), round(otherwise, 4))
        for name, latent, count, seen, otherwise in zip(names, latent_U, *columns, strict=True)
    ]
    return Taught(tuple(keys), *_agreement(latents_X, actions_X, num_latents, len(names)))


def _agreement(
    latents_X: Tensor, actions_X: Tensor, num_latents: int, num_actions: int
) -> tuple[float, float]:
    """`Taught.agreement` and `Taught.guessing`: each half of the play is measured by the map of the other."""
    halves = [
        Dictionary(latents, actions, num_latents, num_actions)
        for latents, actions in zip(latents_X.tensor_split(2), actions_X.tensor_split(2), strict=True)
    ]
    hits = chance = 0.0
    for fitted, measured in (halves, reversed(halves)):
        counts_AU, latent_U = measured.counts_AU.double(), fitted.to_latent()
        hits += counts_AU[latent_U, range(num_actions)].sum().item()
        fractions_A = counts_AU.sum(1) / counts_AU.sum()
        chance += (counts_AU.sum(0) * fractions_A[latent_U]).sum().item()
    return hits / len(latents_X), chance / len(latents_X)


class Dictionary:
    """Counts of true actions for each latent action (the paper's D): the map between the two.

    Args:
        latents_X, actions_X: integers, the latent and the true actions of a few steps; none at all is allowed.
        num_latents, num_actions: number of latent and of true actions.

    Raises:
        JinnError: the two differ in length, or contain actions that do not exist.
    """

    def __init__(
        self,
        latents_X: Tensor | np.ndarray,
        actions_X: Tensor | np.ndarray,
        num_latents: int,
        num_actions: int,
    ) -> None:
        if len(latents_X) != len(actions_X):
            raise JinnError(f"{len(latents_X)} latent actions for {len(actions_X)} true ones")
        latents_X = as_actions(latents_X, (len(latents_X),), num_latents)
        actions_X = as_actions(actions_X, (len(actions_X),), num_actions)
        pairs_X = latents_X * num_actions + actions_X
        counts = torch.bincount(pairs_X, minlength=num_latents * num_actions)
        self.counts_AU = counts.reshape(num_latents, num_actions)

    def to_true(self, latents_B: Tensor, generator: torch.Generator) -> Tensor:
        """int64 ``actions_B``: sampled from the true actions counted for each latent one; any if there are none."""
        weights_AU = self.counts_AU.double()
        weights_AU[weights_AU.sum(1) == 0] = 1.0
        return torch.multinomial(weights_AU[latents_B.cpu()], 1, generator=generator).squeeze(-1)

    def to_latent(self) -> list[int]:
        """For each true action the latent one that indicates it best; the most frequent one if it never occurs.

        It is not the latent action seen most often with it (our own idea): a player who holds the action that jumps
        falls for as long as they rise, and stands still in front of walls, as with any action. What counts is by how
        many standard deviations the pair occurs more often than if the two were independent (its Pearson residual).
        """
        counts_AU = self.counts_AU.double()
        latents_A1, actions_U = counts_AU.sum(1, keepdim=True), counts_AU.sum(0)
        independent_AU = latents_A1 * actions_U / counts_AU.sum().clamp_min(1)
        best_U = ((counts_AU - independent_AU) / independent_AU.clamp_min(1e-9).sqrt()).argmax(0)
        best_U[actions_U == 0] = latents_A1.argmax()
        return best_U.tolist()
