"""A whole run: frames -> tokenizer -> latent actions and dynamics -> a world to play.

The run's folder holds ``config.json``, ``checkpoints/``, ``log.jsonl``, ``tensorboard/``, ``previews/`` and
``world/``, which is playable from the first checkpoint of phase 2 on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from jinn.checkpoint import from_dict, read_json, to_dict, weights_hash, write_json
from jinn.contracts import JinnError
from jinn.data.clips import ClipSampler, gather_clips, load_frames, read_clips
from jinn.data.store import FrameStore
from jinn.data.stream import FrameStream, Recorded, Source
from jinn.models.conv_tokenizer import ConvTokenizerConfig
from jinn.models.dynamics import DynamicsConfig
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.sampling import SamplingConfig
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import TransformerConfig
from jinn.training.loop import Clips, train
from jinn.training.optim import TrainingConfig, fastest_precision
from jinn.training.parallel import ParallelConfig, Precision, Ranks, check_split, join
from jinn.training.stages import LatentActionStage, PlayStage, TokenizerStage, WorldStage
from jinn.world.rollout import World, WorldConfig

OnStep = Callable[[str, int, int, float, float], None]


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on, but for the store and the seed.

    Attributes:
        tokenizer: frames and tokens.
        latent_actions: what changed between frames.
        dynamics: the next frame.
        sampling: how frames are drawn in play.
        tokenizer_training: phase 1.
        world_training: phase 2.
        latent_action_training: how phase 2 begins, with the latent actions by themselves, which then rest
            while the dynamics learn. None is the paper's: both learn together from the first step.
        play_training: how phase 2 ends, with the dynamics by themselves on clips that turn into what they
            draw (`jinn.models.dynamics.Dynamics.played_loss`). None is the paper's: no such end.
    """

    tokenizer: TokenizerConfig | ConvTokenizerConfig
    latent_actions: LatentActionsConfig
    dynamics: DynamicsConfig
    sampling: SamplingConfig
    tokenizer_training: TrainingConfig
    world_training: TrainingConfig
    latent_action_training: TrainingConfig | None = None
    play_training: TrainingConfig | None = None


def run_recipe(
    recipe: Recipe,
    frames: FrameStore | FrameStream,
    run: Path,
    name: str,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: OnStep = lambda *_: None,
    parallel: ParallelConfig = ParallelConfig(),  # noqa: B008 it is frozen
    base: World | None = None,
    precision: Precision | Literal["auto"] = "auto",
) -> World:
    """Train a world, going on from the run's checkpoints if there are any.

    Args:
        recipe: the configs.
        frames: the "train" split of a store is trained on, its "heldout" split (if any) gives prompts and
            previews; of a stream, the test levels do.
        run: the run's folder.
        name: of the world.
        seed: of weights, clips and all other chance.
        device: where to train.
        on_step: see `jinn.training.loop.train`.
        parallel: how the work is laid out, if torchrun started several processes; no part of the recipe, and
            another one may go on with the run.
        base: a world whose tokenizer and latent actions this one takes over as they are, in place of the
            recipe's: only the dynamics are learned.
        precision: of matrix products. "auto" is bfloat16 where the hardware multiplies it faster, else
            float32; a run that goes on keeps the precision that it began with, wherever it goes on.

    Returns:
        The world, also saved as ``run/world``.

    Raises:
        JinnError: the run was begun with another recipe, seed, base or precision, the base is of another size
            than the frames, or the recipe does not fit the hardware.
        Interrupted: the user stopped it; call again to go on.
    """
    source = Recorded(frames) if isinstance(frames, FrameStore) else frames
    if base is None:
        recipe = fit_size(recipe, source.size_hw)
    elif base.size_hw == source.size_hw:
        taken = base.config
        recipe = replace(recipe, tokenizer=taken.tokenizer, latent_actions=taken.latent_actions)
    else:
        raise JinnError(
            f"{base.name} has frames of {base.size_hw}, and these are {source.size_hw}: make the store with "
            f"--size {base.size_hw[0]} {base.size_hw[1]}"
        )
    with join(parallel, torch.device(device)) as ranks:
        check(recipe, ranks)
        chosen = begin(run, recipe, seed, source, base, precision, ranks.device) if ranks.first else "float32"
        half = ranks.agree(int(chosen == "bfloat16"))  # none goes on before the run's folder stands
        ranks = replace(ranks, precision="bfloat16" if half else "float32")
        if source.play and ranks.size > 1:
            raise JinnError("several processes cannot share one stream: make a store with jinn data first")
        world = new_world(recipe, source.shown[0], name, seed)
        world.trained_on = source.trained_on
        if base is not None:
            take_over(world, base)
        try:
            return train_all(recipe, source, run, world, seed, ranks, on_step, base is None)
        finally:
            source.close()


def train_all(
    recipe: Recipe,
    source: Source,
    run: Path,
    world: World,
    seed: int,
    ranks: Ranks,
    on_step: OnStep,
    from_scratch: bool,
) -> World:
    """The phases of a run, all of them or the dynamics' alone; see `run_recipe`."""
    device = ranks.device
    frames_of = lru_cache(maxsize=1)(partial(frames_on, device=device))
    store, split = source.shown

    def settled() -> None:
        # The dynamics stay where they are: `spread` takes them to the GPU block by block.
        world.prompts = world.prompts.to(device)
        world.tokenizer.to(device).eval()
        world.latent_actions.to(device).eval()

    settled()
    if from_scratch:
        phase = recipe.tokenizer_training
        shown = ClipSampler(store, phase.frames, seed, split).batch(0, 12).to(device)
        tokenizer_stage = TokenizerStage(world, shown)
        clips = clips_of(source, phase, seed, frames_of)
        train(tokenizer_stage, clips, phase, run, seed, ranks, on_step)
        settled()
    alone = recipe.latent_action_training
    if from_scratch and alone is not None:
        shown = ClipSampler(store, alone.frames, seed, split).batch(0, 12).to(device)
        clips = clips_of(source, alone, seed + 2, frames_of)
        action_stage = LatentActionStage(world, shown)
        train(action_stage, clips, alone, run, seed + 2, ranks, on_step)
        settled()
        later = (clips(alone.steps + i, range(alone.batch)) for i in range(32))
        ranks.share(action_stage.finish(later, seed))
    phase = recipe.world_training
    shown = ClipSampler(store, min(12, int(store.lengths.max())), seed, split).batch(0, 1).to(device)
    world_stage = WorldStage(world, shown, from_scratch and alone is None)
    clips = clips_of(source, phase, seed + 1, frames_of)
    train(world_stage, clips, phase, run, seed + 1, ranks, on_step)
    last = recipe.play_training
    if last is not None:
        settled()
        clips = clips_of(source, last, seed + 3, frames_of)
        train(PlayStage(world, shown), clips, last, run, seed + 3, ranks, on_step)
    return (world.to(device) if ranks.first else world).eval()


def check(recipe: Recipe, ranks: Ranks) -> None:
    """Raise `JinnError` now rather than after the first phase."""
    phases = recipe.tokenizer_training, recipe.latent_action_training, recipe.world_training
    for phase in (*phases, recipe.play_training):
        if phase is not None:
            ranks.rows(phase.batch)
    coder, actor = recipe.tokenizer, recipe.latent_actions
    for part in (coder.encoder, coder.decoder, actor.encoder, actor.decoder, recipe.dynamics.transformer):
        if isinstance(part, TransformerConfig):
            check_split(part, ranks.config.tensor_parallel)


def frames_on(store: FrameStore, device: torch.device) -> Tensor | None:
    """All frames of a store on the GPU, if they take less than half of what is free there."""
    if device.type != "cuda":
        return None
    if store.num_frames * math.prod(store.size_hw) * 3 > torch.cuda.mem_get_info(device)[0] / 2:
        return None
    return load_frames(store, device)


def new_world(recipe: Recipe, store: FrameStore, name: str, seed: int) -> World:
    """An untrained world. Its weights depend on the seed only, whichever phase a resumed run begins with."""
    config = WorldConfig(
        name, float(store.fps), recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return World(config, prompts(store, 8))


def take_over(world: World, base: World) -> None:
    """The base's tokenizer and latent actions, and the levels that they have seen."""
    world.tokenizer.load_state_dict(base.tokenizer.state_dict())
    world.latent_actions.load_state_dict(base.latent_actions.state_dict())
    if world.trained_on is not None and base.trained_on is not None:
        world.trained_on = np.union1d(world.trained_on, base.trained_on)
    else:
        world.trained_on = None  # one of them does not know


def clips_of(
    source: Source,
    phase: TrainingConfig,
    seed: int,
    frames_of: Callable[[FrameStore], Tensor | None] = lambda _: None,
) -> Clips:
    """The training clips of a phase as a function of the step and the rows of its batch.

    Args:
        source: where they are. The steps of a phase go evenly through the blocks of a stream.
        phase: how many, and how long.
        seed: of the phase.
        frames_of: the frames of a store, ``FHWC``, if they are on the GPU.
    """
    samplers: dict[int, ClipSampler] = {}  # at most that of the present block

    def clips(step: int, rows: range) -> Tensor:
        number = min(step * source.num_blocks // phase.steps, source.num_blocks - 1)
        if number not in samplers:
            samplers.clear()
            samplers[number] = ClipSampler(source.block(number), phase.frames, seed)
        sampler, first = samplers[number], step * phase.batch
        places = sampler.numbered(range(first + rows.start, first + rows.stop))
        if (frames_FHWC := frames_of(sampler.store)) is not None:
            return gather_clips(frames_FHWC, sampler.store, *places, phase.frames)
        return read_clips(sampler.store, *places, phase.frames)

    return clips


def fit_size(recipe: Recipe, size_hw: tuple[int, int]) -> Recipe:
    """The recipe for frames of the store's size."""
    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, size_hw=size_hw),
        latent_actions=replace(recipe.latent_actions, size_hw=size_hw),
    )


def begin(
    run: Path,
    recipe: Recipe,
    seed: int,
    source: Source,
    base: World | None,
    precision: Precision | Literal["auto"],
    device: torch.device,
) -> Precision:
    """Write the run's config, or check it against the one that the run began with.

    Returns:
        The precision that the run began with.
    """
    place = run / "config.json"
    taken = None if base is None else weights_hash(base.tokenizer, base.latent_actions)
    if place.exists():
        saved = read_json(place)
        if saved.get("base") != taken:
            raise JinnError(f"{run} was begun with another --base: give the same one, or another --out")
        if saved["seed"] != seed or from_dict(Recipe, saved["recipe"], str(place)) != recipe:
            raise JinnError(
                f"{run} was begun with another recipe or seed: give the same ones, or another --out"
            )
        if saved.get("stream") != json.loads(json.dumps(source.play)):
            raise JinnError(f"{run} was begun with other frames: give the same source, or another --out")
        began: Precision = saved["precision"]
        if precision not in ("auto", began):
            raise JinnError(f"{run} was begun with --precision {began}: give the same one, or another --out")
        return began
    if run.exists() and any(run.iterdir()):
        raise JinnError(f"{run} holds something that is not a run: give another --out")
    run.mkdir(parents=True, exist_ok=True)
    # Where frames to measure on are, for `jinn eval RUN`; a run may go on with the same store elsewhere.
    where = {"store": str(source.measured_in.resolve()), "stream": source.play}
    began = fastest_precision(device) if precision == "auto" else precision
    values = {"seed": seed, "precision": began, **where, "base": taken, "recipe": to_dict(recipe)}
    write_json(place, values)
    return began


def prompts(store: FrameStore, count: int) -> Tensor:
    """Frames to start a world from, uint8 ``PHWC``: held-out ones if there are, spread over the episodes."""
    episodes = store.select("heldout")
    if not len(episodes):
        episodes = store.select("train")
    chosen = episodes[np.linspace(0, len(episodes) - 1, min(count, len(episodes))).round().astype(int)]
    places = [(int(e), int(store.lengths[e]) // 2) for e in chosen]
    return torch.from_numpy(np.concatenate([store.frames(e, t, t + 1) for e, t in places]))
