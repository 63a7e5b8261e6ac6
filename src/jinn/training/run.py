"""A whole run: frames -> tokenizer -> latent actions and dynamics -> a world to play.

The run's folder holds ``config.json``, ``checkpoints/``, ``log.jsonl``, ``tensorboard/``, ``previews/`` and
``world/``, which is playable from the first checkpoint of the dynamics on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.data.clips import (
    Batch,
    ClipSampler,
    evenly_spaced_clips,
    gather_clips,
    load_frames,
    read_actions,
    read_clips,
)
from jinn.data.store import FrameStore
from jinn.data.stream import FrameStream, Source, StoreSource
from jinn.models.ours.known_actions import KnownActionsConfig
from jinn.models.transformer import TransformerConfig
from jinn.training.folder import hold, start_or_resume
from jinn.training.loop import Clips, Interrupted, OnStep, train
from jinn.training.optim import TrainingConfig
from jinn.training.parallel import ParallelConfig, Precision, Ranks, check_split, join
from jinn.training.recipe import Recipe, phases, with_known_actions
from jinn.training.timing import OnEstimate, announce
from jinn.world.config import WorldConfig
from jinn.world.folder import outline
from jinn.world.legend import describe, describe_actions
from jinn.world.motion import player_motion
from jinn.world.world import World

# Whose actions condition the dynamics: those of the latent action model, or the true ones of the frames.
Actions = Literal["latent", "known"]


def run_recipe(
    recipe: Recipe,
    frames: FrameStore | FrameStream,
    run: Path | str,
    name: str,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: OnStep = lambda *_: None,
    parallel: ParallelConfig = ParallelConfig(),  # noqa: B008 it is frozen
    base: World | None = None,
    precision: Precision | Literal["auto"] = "auto",
    deadline: float = math.inf,
    actions: Actions = "latent",
    on_estimate: OnEstimate | None = None,
) -> World:
    """Train a world, going on from the run's checkpoints if there are any.

    Args:
        recipe: the configs.
        frames: the "train" split of a store is trained on; its "heldout" split (if any) gives prompts and previews.
        run, name, seed: the run's folder; the world's name; the seed of weights, clips and all other randomness.
        device: where to train.
        on_step, on_estimate: are told of each step (`OnStep`), and first of how long all takes, unless that is None.
        parallel: layout of the work over the processes of torchrun; the run may go on with another one.
        base: world whose tokenizer and latent actions replace the recipe's. Only the dynamics are trained.
        precision: of matrix products; "auto" is bfloat16 where the hardware multiplies it faster. A run keeps its own.
        deadline: `time.monotonic` at which the run is stopped and saved.
        actions: "known" conditions the dynamics on the true actions of the frames.

    Returns:
        The world with named actions, also saved as ``run/world``.

    Raises:
        JinnError: the run was started with other settings or frames, or another process trains in its folder, or base,
            frames, recipe and hardware do not fit, or there is no room for a checkpoint.
        Interrupted: the run was stopped.
    """
    run = Path(run).expanduser()
    source = StoreSource(frames) if isinstance(frames, FrameStore) else frames
    recipe = fit_to_frames(fit_to_actions(recipe, source, base, actions), source.size_hw, base)
    with ExitStack() as stack:
        with join(parallel, device) as ranks:
            check(recipe, source, ranks, base is None)
            if ranks.first:
                stack.enter_context(hold(run))
                precision = start_or_resume(run, recipe, seed, source, base, precision, ranks.device)
            half = ranks.agree(int(precision == "bfloat16"))  # none goes on before the run's folder exists
            ranks = replace(ranks, precision="bfloat16" if half else "float32")
            if ranks.any(time.monotonic() > deadline):
                raise Interrupted(0)  # before a stream plays its test levels
            world = untrained(recipe, source, name, seed, base)
            announce(on_estimate, phases(recipe, base is None), world, run, ranks)
            try:
                train_phases(recipe, source, run, world, seed, ranks, on_step, base is None, deadline)
            finally:
                source.close()
        if ranks.first:
            name_latent_actions(world.to(ranks.device), source)
            world.save(run / "world")
    return world.eval()


def untrained(recipe: Recipe, source: Source, name: str, seed: int, base: World | None) -> World:
    """A world before its first step: of the base it has the tokenizer and the latent actions already."""
    world = new_world(recipe, source.previews[0], name, seed)
    world.trained_on = source.trained_on
    take_over(world, base)
    name_known_actions(world, source)
    return world


def train_phases(
    recipe: Recipe,
    source: Source,
    run: Path,
    world: World,
    seed: int,
    ranks: Ranks,
    on_step: OnStep,
    from_scratch: bool,
    deadline: float,
) -> None:
    """Train the world's models phase by phase; arguments as of `run_recipe`."""
    device = ranks.device
    frames_of = lru_cache(maxsize=1)(partial(frames_on, device=device))
    store, split = source.previews

    def rest() -> None:
        """The models that do not learn. The dynamics stay: `distribute` moves them to the GPU block by block."""
        world.prompts = world.prompts.to(device)
        world.tokenizer.to(device).eval()
        world.latent_actions.to(device).eval()

    for phase in phases(recipe, from_scratch):
        rest()
        length = phase.config.frames if phase.preview_clips > 1 else min(12, int(store.lengths.max()))
        preview = ClipSampler(store, length, seed, split).batch(0, phase.preview_clips).to(device)
        stage = phase.stage(world, preview)
        clips = clips_of(source, phase.config, seed + phase.seed, frames_of)
        train(phase, stage, clips, run, seed + phase.seed, ranks, on_step, deadline)
    rest()


def name_latent_actions(world: World, source: Source) -> None:
    """Name latent actions after the motion in clips of the training, or of the test levels of a stream."""
    if not world.has_known_actions:
        world.legend = describe_actions(world.eval(), described_clips(source)[1].frames_BTHWC)


def name_known_actions(world: World, source: Source) -> None:
    """Give known actions the names of the store, if it holds any: before the training, for the worlds of checkpoints.

    Those of a base have their names already.
    """
    if world.has_known_actions and world.legend is None and source.num_actions:
        store, clips = described_clips(source, recorded=True)
        motion_BT2 = player_motion(clips.frames_BTHWC)
        names = store.action_names and store.action_names[: world.num_actions]
        world.legend = describe(clips.actions_BTm1, motion_BT2, world.num_actions, names)


def described_clips(source: Source, recorded: bool = False) -> tuple[FrameStore, Batch]:
    """Clips that the legend is made from, and their store; with ``recorded`` from episodes with true actions only."""
    store, split = source.previews if source.stream_config else (source.chunk(0), "train")
    episodes = store.select(split)
    if recorded:
        episodes = episodes[store.has_actions[episodes]]
    frames = min(12, int(store.lengths[episodes].max()))
    clips = evenly_spaced_clips(store, frames, episodes, 100)
    frames_BTHWC = read_clips(store, *clips, frames)
    return store, Batch(frames_BTHWC, read_actions(store, *clips, frames), frames_BTHWC[:, 0])


def fit_to_actions(recipe: Recipe, source: Source, base: World | None, actions: Actions) -> Recipe:
    """The recipe with the true actions of the frames, if they are asked for.

    A base brings its own actions. If it knows them, it infers those that were not recorded.

    Raises:
        JinnError: frames, base or recipe do not fit known actions.
    """
    model = recipe.latent_actions if base is None else base.config.latent_actions
    asked = actions == "known" or (base is None and isinstance(model, KnownActionsConfig))
    if not asked and not isinstance(model, KnownActionsConfig):
        return recipe
    found = source.num_actions
    if asked and found is None:
        raise JinnError(
            f"{source.name} has no true actions: train with --actions latent, which finds actions in the frames, "
            "or record an environment with discrete actions (jinn data)"
        )
    if base is None:
        recipe = with_known_actions(recipe, found or 0)
        model = recipe.latent_actions
    if not isinstance(model, KnownActionsConfig):
        raise JinnError("the --base has latent actions: train with --actions latent, or on another base")
    if (found or 0) > model.num_actions:
        raise JinnError(f"{source.name} has {found} actions, but the model has {model.num_actions}")
    return recipe


def check(recipe: Recipe, source: Source, ranks: Ranks, from_scratch: bool = True) -> None:
    """Raise `JinnError` now rather than after the first phase."""
    if recipe.sampling.doubt and not getattr(recipe.dynamics, "doubt", 0.0):
        raise JinnError(
            "the recipe plays with a doubt about the actions that its dynamics never learn: set sampling.doubt=0, or "
            "dynamics.doubt above 0"
        )
    if isinstance(source, StoreSource):  # a stream plays episodes, whose lengths nobody knows yet
        for phase in phases(recipe, from_scratch):
            ClipSampler(source.chunk(0), phase.config.frames, phase.seed)
            if phase.preview_clips > 1:
                ClipSampler(source.previews[0], phase.config.frames, phase.seed, source.previews[1])
    if source.stream_config and ranks.size > 1:
        raise JinnError("several processes cannot share one stream: make a store with jinn data first")
    for phase in phases(recipe):
        ranks.rows(phase.config.batch)
    parts: list[object] = [recipe.dynamics.transformer]
    for model in (recipe.tokenizer, recipe.latent_actions):
        parts += [model.encoder, getattr(model, "decoder", None)]
    for part in parts:
        if isinstance(part, TransformerConfig):
            check_split(part, ranks.config.tensor_parallel)


def frames_on(store: FrameStore, device: torch.device) -> Tensor | None:
    """All frames of a store on the GPU, if they take less than half of its free memory."""
    size = store.num_frames * math.prod(store.size_hw) * 3
    fits = device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] / 2
    return load_frames(store, device) if fits else None


def new_world(recipe: Recipe, store: FrameStore, name: str, seed: int) -> World:
    """An untrained world; its weights depend on the seed only. Prompts are held-out frames where there are any.

    Raises:
        JinnError: no models have such sizes, or there is no memory for them.
    """
    config = WorldConfig(
        name,
        float(store.fps),
        recipe.tokenizer,
        recipe.latent_actions,
        recipe.dynamics,
        recipe.sampling,
        store.fit,
    )
    outline(config)
    episodes = store.select("heldout")
    if not len(episodes):
        episodes = store.select("train")
    chosen = episodes[np.linspace(0, len(episodes) - 1, min(8, len(episodes))).round().astype(int)]
    prompts_PHWC = read_clips(store, chosen, store.lengths[chosen] // 2, 1).squeeze(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return World(config, prompts_PHWC)
        except (RuntimeError, MemoryError):  # all else is right, says their outline
            raise JinnError(
                "there is no memory for these models: jinn plan says how large they are"
            ) from None


def take_over(world: World, base: World | None) -> None:
    """Copy a base's tokenizer and latent actions, the record of what they were trained on, and names of known ones."""
    if base is None:
        return
    if base.has_known_actions:
        world.legend = base.legend
    world.tokenizer.load_state_dict(base.tokenizer.state_dict())
    world.latent_actions.load_state_dict(base.latent_actions.state_dict())
    if world.trained_on is not None and base.trained_on is not None:
        world.trained_on = np.union1d(world.trained_on, base.trained_on)
    else:
        world.trained_on = None  # one of them is unknown


def clips_of(
    source: Source,
    config: TrainingConfig,
    seed: int,
    frames_of: Callable[[FrameStore], Tensor | None] = lambda _: None,
) -> Clips:
    """The training clips of a phase as a function of the step and the rows of its batch.

    Args:
        source: of the frames. The steps of a phase are spread evenly over the chunks of a stream.
        config: number and length of the clips.
        seed: of the phase.
        frames_of: the frames of a store, ``FHWC``, if they are on the GPU.
    """

    @lru_cache(maxsize=1)
    def sampler_of(chunk: int) -> ClipSampler:
        return ClipSampler(source.chunk(chunk), config.frames, seed)

    def clips(step: int, rows: range) -> Batch:
        sampler = sampler_of(min(step * source.num_chunks // config.steps, source.num_chunks - 1))
        first = step * config.batch
        numbers = range(first + rows.start, first + rows.stop)
        episodes, starts = sampler.locate(numbers)
        frames_FHWC = frames_of(sampler.store)
        read = read_clips if frames_FHWC is None else partial(gather_clips, frames_FHWC)
        return Batch(
            read(sampler.store, episodes, starts, config.frames),
            read_actions(sampler.store, episodes, starts, config.frames),
            read(sampler.store, episodes, sampler.firsts(numbers, starts), 1).squeeze(1),
        )

    return clips


def fit_to_frames(recipe: Recipe, size_hw: tuple[int, int], base: World | None = None) -> Recipe:
    """The recipe for frames of this size, or on a base with its tokenizer and latent actions.

    Raises:
        JinnError: the base is of another size.
    """
    if base is None:
        tokenizer = replace(recipe.tokenizer, size_hw=size_hw)
        latent_actions = replace(recipe.latent_actions, size_hw=size_hw)
        return replace(recipe, tokenizer=tokenizer, latent_actions=latent_actions)
    if base.size_hw == size_hw:
        return replace(recipe, tokenizer=base.config.tokenizer, latent_actions=base.config.latent_actions)
    raise JinnError(
        f"{base.name} has frames of {base.size_hw}, and these are {size_hw}: make the store with "
        f"--size {base.size_hw[0]} {base.size_hw[1]}"
    )
