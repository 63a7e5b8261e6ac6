"""What a run would take, computed without running it: `jinn train --recipe NAME --plan`.

Nothing here needs a GPU or a store: models are built without numbers (on PyTorch's device ``meta``).

What is counted, and what is not:

* **FLOPs** are those of all matrix products in the transformers and all convolutions, forward and twice as
  many backward (a frozen model: forward only), and another forward with recomputation. Embeddings and logits
  are left out: below 0.1% in the paper's largest model.
* **Memory** is an estimate of what a step needs at its peak, in the precision of
  `jinn.training.optim.autocast`: the exact size of weights, gradients and moments, and of the activations
  that one block keeps for its way back. Left out: the allocator's waste, NCCL's buffers and the CUDA context
  (a few GB), and frames kept on the GPU. Activations count as if tensor parallelism did not split them: it
  does, in part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from jinn.contracts import JinnError
from jinn.models.conv_tokenizer import ConvTokenizerConfig
from jinn.models.transformer import STBlock, TransformerConfig, grid_of
from jinn.training.optim import TrainingConfig
from jinn.training.parallel import ParallelConfig
from jinn.training.run import Recipe
from jinn.world.rollout import World, WorldConfig


@dataclass(frozen=True)
class ClusterConfig:
    """The hardware to plan for.

    Attributes:
        gpus: how many.
        utilisation: share of their peak that the training reaches; measure your own (docs/many-gpus.md).
        peak_flops: dense bfloat16 FLOP/s of one; the default is an H200's (or H100's).
        gpu_memory: GB of one; the default is an H200's.
    """

    gpus: int = 8
    utilisation: float = 0.4
    peak_flops: float = 989e12
    gpu_memory: float = 141.0

    def __post_init__(self) -> None:
        if self.gpus < 1 or not 0 < self.utilisation <= 1 or self.peak_flops <= 0 or self.gpu_memory <= 0:
            raise JinnError("--gpus is at least 1, --utilisation lies in (0, 1], the others are above 0")


@dataclass(frozen=True)
class Part:
    """One transformer, or one stack of convolutions, in a phase.

    Attributes:
        learns: whether there is a way back.
        flops: of one clip, forward.
        kept: bytes of activations that one clip keeps for the way back, without and with recomputation.
        block: parameters of what is gathered at once where the weights are spread.
    """

    learns: bool
    flops: int
    kept: dict[bool, int]
    block: int


def transformer_part(config: TransformerConfig, frames: int, places: int, learns: bool = True) -> Part:
    """A transformer that sees so many frames and places of a clip."""
    with torch.device("meta"):
        block = parameters_of(STBlock(config, bool(config.temporal_every)))
    kept = {
        recompute: kept_bytes(config, frames, places, recompute) if learns else 0
        for recompute in (False, True)
    }
    return Part(learns, forward_flops(config, frames, places), kept, block)


def convolution_part(build: Callable[[], nn.Module], shape: tuple[int, ...], learns: bool = True) -> Part:
    """A stack of convolutions, and the shape of what one clip gives it; it is never recomputed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        build()(torch.empty(shape))
    with FakeTensorMode():
        stack = build()
        twice = saved_bytes(stack, (2 * shape[0], *shape[1:])) if learns else 0
        kept = twice - saved_bytes(stack, shape) if learns else 0
    return Part(learns, counter.get_total_flops(), {False: kept, True: kept}, parameters_of(stack))


@dataclass(frozen=True)
class PhasePlan:
    """What one phase takes.

    Attributes:
        name: of the phase.
        learned: parameters that learn.
        tokens: of all clips that it sees.
        flops: in all.
        dynamics_flops: those of the dynamics model alone, without recomputation; what the paper counts.
        days: on the cluster.
        memory: GB on each GPU, by what takes them.
        even: whether its batch can be split so; training refuses if not.
    """

    name: str
    learned: int
    tokens: int
    flops: float
    dynamics_flops: float
    days: float
    memory: dict[str, float]
    even: bool


def empty_world(recipe: Recipe) -> World:
    """The recipe's models without numbers."""
    config = WorldConfig(
        "plan", 10.0, recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling
    )
    with torch.device("meta"):
        return World(config)


def parameters_of(module: nn.Module) -> int:
    """Number of its parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def per_layer(config: TransformerConfig, measure: Callable[[STBlock], int]) -> int:
    """The sum over all blocks of what is measured on one of each kind."""
    temporal = config.layers // config.temporal_every if config.temporal_every else 0
    kinds = {True: temporal, False: config.layers - temporal}
    return sum(count * measure(STBlock(config, kind)) for kind, count in kinds.items() if count)


def forward_flops(config: TransformerConfig, frames: int, places: int) -> int:
    """FLOPs of one clip through a transformer; a multiplication and an addition are two."""

    def measure(block: STBlock) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            block(torch.empty(1, frames, places, config.width))
        return counter.get_total_flops()

    with torch.device("meta"):
        return per_layer(config, measure)


def kept_bytes(config: TransformerConfig, frames: int, places: int, recompute: bool) -> int:
    """Bytes of activations that a transformer keeps of one clip for the way back, in mixed precision."""

    def measure(block: STBlock) -> int:
        # What two clips keep beyond what one does: without the casts of weights, which clips share.
        clip = frames, places, config.width
        return saved_bytes(block, (2, *clip)) - saved_bytes(block, (1, *clip))

    with FakeTensorMode():
        if not recompute:
            return per_layer(config, measure)
        widest = measure(STBlock(config, temporal=bool(config.temporal_every)))
    return config.layers * frames * places * config.width * 4 + widest


def saved_bytes(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes of all different tensors that autograd keeps of a forward pass on a tensor of this shape."""
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    stream = torch.empty(shape, requires_grad=True)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        module(stream)
    return sum(size for _, size in kept.values())


def plan(recipe: Recipe, cluster: ClusterConfig, parallel: ParallelConfig) -> list[PhasePlan]:
    """What each phase of a recipe takes on a cluster."""
    world = empty_world(recipe)
    joint = recipe.latent_action_training is None
    coder, actor = recipe.tokenizer, recipe.latent_actions
    rows, columns = grid_of(coder.size_hw, coder.patch)
    places = rows * columns
    action_places = math.prod(grid_of(actor.seen_hw, actor.patch))

    def coder_parts(frames: int, learns: bool) -> list[Part]:
        if isinstance(coder, ConvTokenizerConfig):
            pixels = frames, 3, rows * coder.patch, columns * coder.patch
            latents = frames, world.tokenizer.quantizer.dim, rows, columns
            encoder = convolution_part(lambda: coder.build().encoder, pixels, learns)
            decoder = convolution_part(lambda: coder.build().decoder, latents, learns)
        else:
            encoder = transformer_part(coder.encoder, frames, places, learns)
            decoder = transformer_part(coder.decoder, frames, places, learns)
        return [encoder, decoder] if learns else [encoder]

    def action_parts(frames: int, learns: bool) -> list[Part]:
        encoder = transformer_part(actor.encoder, frames - actor.pairs, action_places, learns)
        return [encoder, transformer_part(actor.decoder, frames - 1, action_places)] if learns else [encoder]

    phase = recipe.tokenizer_training
    parts = coder_parts(phase.frames, learns=True)
    plans = [plan_phase("tokenizer", [world.tokenizer], [], parts, places, phase, cluster, parallel)]
    if recipe.latent_action_training is not None:
        phase, actors = recipe.latent_action_training, [world.latent_actions]
        parts = action_parts(phase.frames, learns=True)
        plans.append(plan_phase("latent actions", actors, [], parts, places, phase, cluster, parallel))
    phase = recipe.world_training
    parts = [
        *coder_parts(phase.frames, learns=False),
        *action_parts(phase.frames, joint),
        dynamics := transformer_part(recipe.dynamics.transformer, phase.frames, places),
    ]
    learned: list[nn.Module] = [world.dynamics]
    frozen: list[nn.Module] = [world.tokenizer]
    (learned if joint else frozen).append(world.latent_actions)
    vocabulary = sum(world.dynamics.levels)
    plans.append(
        plan_phase("world", learned, frozen, parts, places, phase, cluster, parallel, dynamics, vocabulary)
    )
    if recipe.play_training is not None:
        phase, frozen = recipe.play_training, [world.tokenizer, world.latent_actions]
        once = transformer_part(recipe.dynamics.transformer, phase.frames, places)
        # A frame goes through the dynamics twice, as masks and as what the next ones look back on; nothing
        # of it is recomputed.
        kept = {recompute: 2 * once.kept[False] for recompute in once.kept}
        dynamics = replace(once, flops=2 * once.flops, kept=kept)
        parts = [*coder_parts(phase.frames, False), *action_parts(phase.frames, False), dynamics]
        last = [world.dynamics], frozen, parts, places, phase, cluster, parallel, dynamics, vocabulary
        plans.append(plan_phase("play", *last))
    return plans


def plan_phase(
    name: str,
    learned: Sequence[nn.Module],
    frozen: Sequence[nn.Module],
    parts: list[Part],
    places: int,
    phase: TrainingConfig,
    cluster: ClusterConfig,
    parallel: ParallelConfig,
    dynamics: Part | None = None,
    vocabulary: int = 0,
) -> PhasePlan:
    """One phase; see `plan`."""
    split = parallel.tensor_parallel
    pieces = max(1, cluster.gpus // split) * parallel.accumulate
    clips_at_once = -(-phase.batch // pieces)
    clips = phase.steps * phase.batch
    flops, own = 0.0, 0.0
    kept: dict[bool, float] = {False: 0.0, True: 0.0}
    largest_block = 0
    for part in parts:
        forward = clips * part.flops
        flops += forward * ((4 if parallel.recompute else 3) if part.learns else 1)
        own += 3 * forward if part is dynamics else 0
        if part.learns:
            largest_block = max(largest_block, part.block)
            for recompute in kept:
                kept[recompute] += clips_at_once * part.kept[recompute]
    learning = sum(map(parameters_of, learned))
    memory = {
        "weights": 4 * learning / cluster.gpus,
        "gradients": 4 * learning / cluster.gpus,
        "optimiser": 8 * learning / cluster.gpus,
        "frozen models": 4.0 * sum(map(parameters_of, frozen)),
        # FSDP gathers the next block while one computes; in bfloat16, and their gradients.
        "gathered blocks": 2 * largest_block * (2 + 2) / split if cluster.gpus > 1 else 0.0,
        "logits": 3 * 4.0 * clips_at_once * phase.frames * places * vocabulary,
        "activations": kept[False],
        "activations, recomputed": kept[True],
    }
    return PhasePlan(
        name,
        learning,
        clips * phase.frames * places,
        flops,
        own,
        flops / (cluster.gpus * cluster.peak_flops * cluster.utilisation) / 86_400,
        {key: value / 1e9 for key, value in memory.items()},
        cluster.gpus % split == 0 and phase.batch % pieces == 0,
    )


def total_memory(memory: dict[str, float], recompute: bool) -> float:
    """GB at the peak of a step, with or without recomputation."""
    other = "activations" if recompute else "activations, recomputed"
    return sum(value for key, value in memory.items() if key != other)
