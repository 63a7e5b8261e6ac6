"""The cost of a run, computed without running it.

It needs neither a GPU nor a store: models are built without data (on PyTorch's device ``meta``).

* **FLOPs** are those of all matrix products in the transformers and of all convolutions: one forward pass, two
  more for the backward pass (a frozen model: forward only), and another one with recomputation. Embeddings and
  logits are left out: they are below 0.1% in the paper's largest model.
* **Memory** is an estimate of the peak of a step in bfloat16: the exact size of weights, gradients and moments,
  and of the activations that a block keeps for its backward pass. It leaves out the allocator's waste, NCCL's
  buffers and the CUDA context (a few GB), and frames kept on the GPU. Activations count as if tensor parallelism
  did not split them, which it does in part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from jinn.contracts import JinnError
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.ours.conv_tokenizer import ConvTokenizerConfig
from jinn.models.ours.known_actions import KnownActionsConfig
from jinn.models.patches import grid_of
from jinn.models.token_latent_actions import TokenLatentActionsConfig
from jinn.models.transformer import AnyTransformerConfig
from jinn.training.loop import Phase
from jinn.training.parallel import ParallelConfig
from jinn.training.recipe import Recipe, phases
from jinn.training.stages import SelfRolloutStage
from jinn.world.config import WorldConfig
from jinn.world.folder import outline
from jinn.world.world import World


@dataclass(frozen=True)
class ClusterConfig:
    """The hardware to plan for.

    Attributes:
        gpus: Number of GPUs.
        utilisation: Fraction of their peak that the training reaches; measure your own (docs/many-gpus.md).
        peak_flops: Dense bfloat16 FLOP/s of one GPU; the default is that of an H200 or H100.
        gpu_memory: Memory of one GPU in GB; the default is that of an H200.
    """

    gpus: int = 8
    utilisation: float = 0.4
    peak_flops: float = 989e12
    gpu_memory: float = 141.0

    def __post_init__(self) -> None:
        if self.gpus < 1 or not 0 < self.utilisation <= 1 or self.peak_flops <= 0 or self.gpu_memory <= 0:
            raise JinnError("--gpus is at least 1, --utilisation lies in (0, 1], and the others are above 0")


class Part(NamedTuple):
    """What one clip costs in a part of a model: a transformer, a block of it, or a stack of convolutions.

    Attributes:
        flops: of the forward pass; a multiplication and an addition are two.
        kept: bytes of activations that are kept for the backward pass, in mixed precision.
        kept_recomputed: the same with recomputation.
        block: number of parameters that are gathered at once where the weights are sharded.
    """

    flops: int
    kept: int
    kept_recomputed: int
    block: int


def module_part(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> Part:
    """A module on an input of this shape, which is one clip. Nothing of it is recomputed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        build()(torch.empty(shape))
    with FakeTensorMode():
        module = build()
        # The difference between two clips and one leaves out the casts of weights, which clips share.
        kept = saved_bytes(module, (2 * shape[0], *shape[1:])) - saved_bytes(module, shape)
    return Part(counter.get_total_flops(), kept, kept, parameters_of(module))


@cache
def transformer_part(config: AnyTransformerConfig, frames: int, tokens: int) -> Part:
    """A transformer on clips of so many frames and tokens per frame; its blocks may be recomputed."""
    clip = (1, frames, tokens, config.width)
    numbers = range(1, config.layers + 1)
    kinds = {config.looks_back(number): number for number in numbers}  # blocks of one kind cost the same
    costs = {kind: module_part(partial(config.block, number), clip) for kind, number in kinds.items()}
    blocks = [costs[config.looks_back(number)] for number in numbers]
    # Of a recomputed block only the float32 input is kept; its own come and go, one block after another.
    inputs = 4 * config.layers * math.prod(clip)
    return Part(
        flops=sum(block.flops for block in blocks),
        kept=sum(block.kept for block in blocks),
        kept_recomputed=inputs + max(block.kept for block in blocks),
        block=max(block.block for block in blocks),
    )


@dataclass(frozen=True)
class PhasePlan:
    """The cost of one phase.

    Attributes:
        learned: number of parameters that learn.
        tokens, flops: of all clips of the phase.
        dynamics_flops: those of the dynamics model alone, without recomputation, as the paper counts.
        days: on the cluster.
        memory: GB on each GPU, by use.
        even: whether its batch can be split evenly; training refuses it if not.
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
    """The recipe's models without data; `JinnError` if there are none of such sizes."""
    config = WorldConfig(
        "plan", 10.0, recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling
    )
    return outline(config)


def parameters_of(module: nn.Module) -> int:
    """Number of its parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def saved_bytes(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes of all distinct tensors that autograd keeps of a forward pass on a tensor of this shape."""
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


def tokenizer_parts(recipe: Recipe, world: World, phase: Phase) -> list[Part]:
    """Encoder and decoder of the tokenizer."""
    config, frames, grid_hw = recipe.tokenizer, phase.config.frames, world.tokenizer.grid_hw
    if isinstance(config, ConvTokenizerConfig):
        return list(conv_parts(config, frames, grid_hw))
    return [transformer_part(part, frames, math.prod(grid_hw)) for part in (config.encoder, config.decoder)]


@cache
def conv_parts(config: ConvTokenizerConfig, frames: int, grid_hw: tuple[int, int]) -> tuple[Part, Part]:
    """Encoder and decoder of our own tokenizer on clips of so many frames."""
    pixels = frames, 3, grid_hw[0] * config.patch, grid_hw[1] * config.patch
    encoder = module_part(lambda: config.build().encoder, pixels)
    latents = frames, config.build().quantizer.dim, *grid_hw
    return encoder, module_part(lambda: config.build().decoder, latents)


def action_parts(recipe: Recipe, world: World, phase: Phase) -> list[Part]:
    """Encoder and decoder of the latent action model; a model of known actions has no decoder."""
    config, pairs = recipe.latent_actions, phase.config.frames - 1
    if isinstance(config, LatentActionsConfig):
        tokens = math.prod(grid_of(config.size_hw, config.patch))
        encoded = [transformer_part(config.encoder, pairs + 1, tokens)]
    elif isinstance(config, TokenLatentActionsConfig):
        tokens = math.prod(world.tokenizer.grid_hw)
        encoded = [transformer_part(config.encoder, pairs + 1, tokens)]
    else:  # ours encode pairs of frames
        tokens = math.prod(grid_of(config.small_hw, config.patch))
        encoded = [transformer_part(config.encoder, pairs, tokens)]
    if isinstance(config, KnownActionsConfig):
        return encoded
    return [*encoded, transformer_part(config.decoder, pairs, tokens)]


def dynamics_parts(recipe: Recipe, world: World, phase: Phase) -> list[Part]:
    """The dynamics in a phase in which they learn."""
    tokens = math.prod(world.tokenizer.grid_hw)
    once = transformer_part(recipe.dynamics.transformer, phase.config.frames, tokens)
    # A frame passes through the dynamics twice, as masks and to be cached; nothing of it is recomputed.
    twice = Part(2 * once.flops, 2 * once.kept, 2 * once.kept, once.block)
    return [twice if phase.stage is SelfRolloutStage else once]


PARTS = {"tokenizer": tokenizer_parts, "latent_actions": action_parts, "dynamics": dynamics_parts}


def plan(recipe: Recipe, cluster: ClusterConfig, parallel: ParallelConfig) -> list[PhasePlan]:
    """The cost of each phase of a recipe on a cluster."""
    world = empty_world(recipe)
    return [plan_phase(recipe, world, phase, cluster, parallel) for phase in phases(recipe)]


def plan_phase(
    recipe: Recipe, world: World, phase: Phase, cluster: ClusterConfig, parallel: ParallelConfig
) -> PhasePlan:
    """The cost of one phase; see `plan`."""
    config, with_dynamics = phase.config, "dynamics" in phase.learns
    parts = {name: PARTS[name](recipe, world, phase) for name in (PARTS if with_dynamics else phase.learns)}
    frozen = [name for name in parts if name not in phase.learns]
    learned_parts = [part for name in phase.learns for part in parts[name]]
    learned = sum(parameters_of(world.get_submodule(name)) for name in phase.learns)
    largest_block = max(part.block for part in learned_parts)
    split = parallel.tensor_parallel
    pieces = max(1, cluster.gpus // split) * parallel.accumulate
    clips, clips_at_once = config.steps * config.batch, -(-config.batch // pieces)
    tokens = config.frames * math.prod(world.tokenizer.grid_hw)
    passes = 4 if parallel.recompute else 3
    frozen_flops = sum(parts[name][0].flops for name in frozen)  # they only encode
    flops = float(clips * (passes * sum(part.flops for part in learned_parts) + frozen_flops))
    memory = {
        "weights": 4 * learned / cluster.gpus,
        "gradients": 4 * learned / cluster.gpus,
        "optimiser": 8 * learned / cluster.gpus,
        "frozen models": 4 * sum(parameters_of(world.get_submodule(name)) for name in frozen),
        # FSDP gathers the next block while one computes; in bfloat16, and their gradients.
        "gathered blocks": 2 * largest_block * (2 + 2) / split if cluster.gpus > 1 else 0.0,
        "logits": 3 * 4 * clips_at_once * tokens * sum(world.dynamics.levels) if with_dynamics else 0,
        "activations": clips_at_once * sum(part.kept for part in learned_parts),
        "activations, recomputed": clips_at_once * sum(part.kept_recomputed for part in learned_parts),
    }
    return PhasePlan(
        name=phase.name,
        learned=learned,
        tokens=clips * tokens,
        flops=flops,
        dynamics_flops=3.0 * clips * parts["dynamics"][0].flops if with_dynamics else 0.0,
        days=flops / (cluster.gpus * cluster.peak_flops * cluster.utilisation) / 86_400,
        memory={key: value / 1e9 for key, value in memory.items()},
        even=cluster.gpus % split == 0 and config.batch % pieces == 0,
    )


def total_memory(memory: dict[str, float], recompute: bool) -> float:
    """GB at the peak of a step, with or without recomputation."""
    other = "activations" if recompute else "activations, recomputed"
    return sum(value for key, value in memory.items() if key != other)
