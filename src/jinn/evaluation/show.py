"""What people look at, beside figures: clips, training curves, and how it was all measured."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from jinn.evaluation.clips import Clips, HeldOut
from jinn.evaluation.measure import Records, play_with, roll_out
from jinn.evaluation.results import Pictures
from jinn.world.world import World


def pictures(world: World, clips: Clips, count: int, keys_U: Tensor | None, seed: int) -> Pictures:
    """Some clips next to what the world makes of them, and each action held from three of the same prompts.

    Args:
        world: who plays.
        clips: of the evaluation; the roll-outs shown are those that were measured.
        count: how many to show.
        keys_U: for each true action the latent one that is played for it.
        seed: of the evaluation.
    """
    rows = np.unique(np.linspace(0, len(clips) - 1, count).round().astype(int))
    real_BTHWC, true_BT = clips.rows(rows).read(), clips.rows(rows).actions()
    plans = {"inferred actions": world.latent_actions.encode(real_BTHWC.to(world.device))}
    if keys_U is not None and true_BT is not None:
        plans["given actions"] = play_with(keys_U, true_BT).to(world.device)
    seeds = [seed + int(row) for row in rows]
    shown = {"real": real_BTHWC}
    for name, actions_BT in plans.items():
        shown[name] = roll_out(world, real_BTHWC[:, 0].to(world.device), actions_BT, seeds).cpu()
    prompts_PHWC = real_BTHWC[np.unique(np.linspace(0, len(rows) - 1, 3).astype(int)), 0].to(world.device)
    P, A, T = len(prompts_PHWC), world.num_actions, clips.frames - 1
    actions_XT = torch.arange(A, device=world.device).repeat(P).unsqueeze(1).expand(-1, T)
    held = roll_out(world, prompts_PHWC.repeat_interleave(A, 0), actions_XT, [seed] * (P * A))
    return Pictures(shown, held.unflatten(0, (P, A)).cpu())


def training_curves(world: World) -> dict[str, list[tuple[int, float]]]:
    """Losses by stage from the log of the run that made the world, if the world lies in its run."""
    place = world.folder.parent / "log.jsonl" if world.folder else None
    if place is None or not place.exists():
        return {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in place.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            curves.setdefault(entry["stage"], []).append((int(entry["step"]), float(entry["loss"])))
        except (ValueError, KeyError):  # a killed run may have left half a line
            continue
    return curves


def settings(held_out: HeldOut) -> dict[str, str]:
    """On what it was measured."""
    clips, store = held_out.measured, held_out.measured.store
    levels = len(np.unique(store.groups[clips.episodes]))
    return {
        "store": str(store.path),
        "clips": f"{len(clips)}, each {clips.frames - 1} frames after a prompt of one, from {levels} levels "
        "or videos that no training saw",
        "intervals": "95%, bootstrap over clips",
        "fps": f"{store.fps:g}",
    }


def missing(held_out: HeldOut, real: Records) -> Iterator[str]:
    """A sentence for each thing that this store does not allow to measure."""
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
