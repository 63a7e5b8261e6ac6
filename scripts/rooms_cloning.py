"""The paper's cloning from videos (section 3.3) in a game in which one must look (`jinn.agents.rooms`).

python scripts/rooms_cloning.py --out runs/rooms_cloning

For each seed, players of every skill are filmed, and a latent action model learns from the films alone (recipe
`tiny`). It labels films of an expert on other levels, and a policy clones these labels. What its latent actions mean in
the game is looked up in a dictionary of a few labelled steps: of the expert, or of the players, as `jinn teach` has
them. Beside it are a clone of the expert's true actions (the oracle), clones of the labelled steps alone, and a clone
of what a model of known actions sees, which learned from all of the players' steps with their labels (`jinn train
--actions known`). The same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from rooms import acting, recorded, show
from rooms_in_dream import HORIZON, LEVELS, SIZES, held_out, show_blind, write_store
from torch import Tensor

from jinn.agents.clone import CloneConfig, clone
from jinn.agents.network import Network, new_network
from jinn.agents.offline import Recording, record
from jinn.agents.play import Policy, play
from jinn.agents.rooms import Rooms
from jinn.data.store import FrameStore
from jinn.data.synthetic import ACTIONS
from jinn.overrides import override
from jinn.recipes import tiny
from jinn.training.run import Actions, run_recipe
from jinn.world.keys import Dictionary
from jinn.world.world import World

# Only the latent action model is of use here.
SHORT = ("tokenizer_training.steps=1", "dynamics_training.steps=1", "self_rollout_training=none")
EXPERT_SEED = 2_000_000  # of levels


def main(
    out: Path = Path("runs/rooms_cloning"),
    seeds: int = 5,
    players: int = 256,
    steps: int = 400,
    expert_steps: int = 100,
    labelled: tuple[int, ...] = (20, 100, 500, 2_500),
    cloning: CloneConfig = CloneConfig(shift=0),  # noqa: B008 it is frozen
    levels: int = 512,
    settings: tuple[str, ...] = SHORT,
) -> None:
    """Film, find actions, label the expert, clone, look up, and play.

    Args:
        out: Folder, with one for each seed.
        seeds: Number of seeds, from 0, of films, models, labelled steps and policies.
        players: Number of games that are filmed together; each player has a skill of their own.
        steps: Filmed steps of each.
        expert_steps: Filmed steps of an expert in each of 128 games.
        labelled: Numbers of steps whose true actions are known.
        cloning: How policies are cloned.
        levels: Number of levels that nobody saw; each is played once.
        settings: Changes of the recipe, as of `jinn train --set`.
    """
    envs = partial(Rooms, held_out(levels), horizon=HORIZON)
    show_blind(envs, levels)
    scores: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        seen, expert = recorded(players, steps, seed, LEVELS, HORIZON), experts(expert_steps, seed)
        if not (out / str(seed) / "store" / "store.json").exists():
            write_store(seen, out / str(seed) / "store")
        learn = partial(learned_actions, out / str(seed), seed, settings)
        for name, policy in policies(seen, expert, learn, labelled, cloning, seed).items():
            scores.setdefault(name, []).append(play(envs(), policy, levels))
            show(f"seeds 0 to {seed}, {name}", *scores[name])
    for name in list(scores)[1:]:
        pairs = zip(scores[name], scores["the oracle"], strict=True)
        show(f"{name}, less the oracle", *(found - best for found, best in pairs))


def experts(steps: int, seed: int) -> Recording:
    """Play on shortest paths, on levels that nobody else was filmed on."""
    envs = Rooms(LEVELS, 128, HORIZON, seed=EXPERT_SEED + seed)
    return record(envs, lambda _: torch.from_numpy(envs.best_actions()), steps)


def learned_actions(folder: Path, seed: int, settings: tuple[str, ...], kind: Actions) -> World:
    """A world that learned from the films in a folder: with latent actions, or with the known ones."""
    recipe, store = override(tiny(), list(settings)), FrameStore.open(folder / "store")
    return run_recipe(recipe, store, folder / kind, "rooms", seed, actions=kind)


def policies(
    seen: Recording,
    expert: Recording,
    learn: Callable[[Actions], World],
    labelled: tuple[int, ...],
    cloning: CloneConfig,
    seed: int,
) -> dict[str, Policy]:
    """All policies of a seed by name; the oracle is the first."""
    latent, known = learn("latent"), learn("known")
    codes = latent.num_actions

    def cloned(actions_X: Tensor, count: int = len(ACTIONS)) -> Network:
        network = new_network(replace(SIZES, actions=count), seed)
        return clone(expert.frames_XHWC, actions_X, count, cloning, seed, network=network)

    found: dict[str, Policy] = {
        "the oracle": acting(cloned(expert.actions_X), seed),
        "known actions, seen by a model of them": acting(cloned(labels(known, expert)), seed),
    }
    codes_X, others_X = labels(latent, expert), labels(latent, seen)
    imitator = cloned(codes_X, codes)
    chance = torch.Generator().manual_seed(seed)
    steps_X, other_steps_X = (
        rows[torch.randperm(len(rows), generator=chance)]
        for rows in ((x.actions_X >= 0).nonzero().flatten() for x in (expert, seen))
    )
    for count in labelled:
        some_X, others = steps_X[:count], other_steps_X[:count]
        few_X = torch.full_like(expert.actions_X, -1)
        few_X[some_X] = expert.actions_X[some_X]
        books = {
            "the expert's": Dictionary(codes_X[some_X], expert.actions_X[some_X], codes, len(ACTIONS)),
            "the players'": Dictionary(others_X[others], seen.actions_X[others], codes, len(ACTIONS)),
        }
        for whose, book in books.items():
            found[f"latent actions, a dictionary of {count} of {whose} steps"] = looked_up(
                imitator, book, seed
            )
        found[f"a clone of {count} of the expert's steps alone"] = acting(cloned(few_X), seed)
    return found


def looked_up(network: Network, book: Dictionary, seed: int) -> Policy:
    """What the network draws, looked up."""
    chance = torch.Generator().manual_seed(seed)
    return lambda frames_BHWC: book.to_true(network.act(frames_BHWC, chance), chance)


@torch.inference_mode()
def labels(world: World, films: Recording) -> Tensor:
    """The action that a world sees in each step, int64; -1 where there is none."""
    before = (films.actions_X >= 0).nonzero().flatten()
    pairs_XTHWC = torch.stack([films.frames_XHWC[before], films.frames_XHWC[before + 1]], 1)
    actions_X = torch.full_like(films.actions_X, -1)
    actions_X[before] = torch.cat([world.latent_actions.encode(x)[:, 0] for x in pairs_XTHWC.split(512)])
    return actions_X


if __name__ == "__main__":
    tyro.cli(main)
