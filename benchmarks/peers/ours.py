"""jinn itself: `coinrun_cpu` with its own models and optimisers, but for the phase of self-rollouts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import commit
from benchmarks.peers.side import BATCH, STAGES, WINDOW, Side
from jinn.data.clips import Batch, ClipSampler
from jinn.data.store import FrameStore
from jinn.data.stream import StoreSource
from jinn.evaluation.leaderboard import Contestant, OurWorld
from jinn.recipes import coinrun_cpu
from jinn.training.loop import Phase, Training
from jinn.training.optim import fastest_precision
from jinn.training.parallel import ParallelConfig, Ranks
from jinn.training.plan import parameters_of
from jinn.training.recipe import Recipe, phases
from jinn.training.run import run_recipe, untrained
from jinn.world.world import World

CPU = torch.device("cpu")


def recipe() -> Recipe:
    """The recipe, with clips as long and batches as large as the other sides'."""
    own = coinrun_cpu()
    assert own.latent_action_training is not None
    clips: dict[str, Any] = {"batch": BATCH, "frames": WINDOW}
    return replace(
        own,
        tokenizer_training=replace(own.tokenizer_training, **clips),
        latent_action_training=replace(own.latent_action_training, **clips),
        dynamics_training=replace(own.dynamics_training, **clips),
        self_rollout_training=None,
    )


def side(store: FrameStore, out: Path, seed: int) -> Side:
    """Our side; its run is kept in a folder."""
    planned = dict(zip(STAGES, phases(recipe()), strict=True))
    world = untrained(recipe(), StoreSource(store), "timed", seed, None)
    names = dict(zip(STAGES, ("tokenizer", "latent_actions", "dynamics"), strict=True))
    first_BTHWC = ClipSampler(store, WINDOW, seed).batch(0, BATCH)

    def train(steps: dict[str, int]) -> Contestant:
        changed = recipe()
        for name, phase in planned.items():
            config = replace(phase.config, steps=steps[name], warmup=max(1, steps[name] // 20))
            values: dict[str, Any] = {phase.setting: config}
            changed = replace(changed, **values)
        return OurWorld(run_recipe(changed, store, out / "jinn", "jinn", seed), seed)

    return Side(
        f"jinn {commit()}",
        {name: parameters_of(world.get_submodule(part)) for name, part in names.items()},
        {name: stepper(phase, world, first_BTHWC) for name, phase in planned.items()},
        train,
    )


def stepper(phase: Phase, world: World, first_BTHWC: Tensor) -> Callable[[Tensor], object]:
    """A training step of a phase on any clips, as `jinn.training.loop.train` does it."""
    ranks = Ranks(ParallelConfig(), CPU, precision=fastest_precision(CPU))

    def batch(frames_BTHWC: Tensor) -> Batch:
        unknown = torch.full((len(frames_BTHWC), frames_BTHWC.shape[1] - 1), -1)
        return Batch(frames_BTHWC, unknown, frames_BTHWC[:, 0])

    stage = phase.stage(copy.deepcopy(world), first_BTHWC[:1])  # a stage freezes what does not learn in it
    training = Training(phase, stage, ranks, lambda _, rows: batch(first_BTHWC[: len(rows)]), 0)
    return lambda frames_BTHWC: training.update(0, batch(frames_BTHWC))
