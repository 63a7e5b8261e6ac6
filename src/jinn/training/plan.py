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

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from jinn.contracts import JinnError
from jinn.models.ours.conv_tokenizer import ConvTokenizerConfig
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig
from jinn.models.patches import grid_of
from jinn.models.transformer import STBlock, TransformerConfig
from jinn.training.loop import Phase
from jinn.training.parallel import ParallelConfig
from jinn.training.recipe import Recipe, phases
from jinn.training.stages import SelfRolloutStage
from jinn.world.config import WorldConfig
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


@dataclass(frozen=True)
class Part:
    """One transformer, or one stack of convolutions, in a phase.

    Attributes:
        learns: whether there is a backward pass.
        flops: of the forward pass of one clip.
        kept: bytes of activations that one clip keeps for the backward pass, without and with recomputation.
        block: number of parameters that are gathered at once where the weights are sharded.
    """

    learns: bool
    flops: int
    kept: dict[bool, int]
    block: int


def transformer_part(config: TransformerConfig, frames: int, tokens: int, learns: bool = True) -> Part:
    """A transformer on clips of so many frames and tokens per frame."""
    with torch.device("meta"):
        block = parameters_of(STBlock(config, bool(config.temporal_every)))
    kept = {
        recompute: kept_bytes(config, frames, tokens, recompute) if learns else 0
        for recompute in (False, True)
    }
    return Part(learns, forward_flops(config, frames, tokens), kept, block)


def convolution_part(build: Callable[[], nn.Module], shape: tuple[int, ...], learns: bool = True) -> Part:
    """A stack of convolutions and the shape of its input from one clip; it is never recomputed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        build()(torch.empty(shape))
    with FakeTensorMode():
        stack = build()
        twice = saved_bytes(stack, (2 * shape[0], *shape[1:])) if learns else 0
        kept = twice - saved_bytes(stack, shape) if learns else 0
    return Part(learns, counter.get_total_flops(), {False: kept, True: kept}, parameters_of(stack))


@dataclass(frozen=True)
class PhasePlan:
    """The cost of one phase.

    Attributes:
        name: of the phase.
        learned: number of parameters that learn.
        tokens: of all clips of the phase.
        flops: in total.
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
    """The recipe's models without data."""
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


def forward_flops(config: TransformerConfig, frames: int, tokens: int) -> int:
    """FLOPs of one clip through a transformer; a multiplication and an addition are two."""

    def measure(block: STBlock) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            block(torch.empty(1, frames, tokens, config.width))
        return counter.get_total_flops()

    with torch.device("meta"):
        return per_layer(config, measure)


def kept_bytes(config: TransformerConfig, frames: int, tokens: int, recompute: bool) -> int:
    """Bytes of activations that a transformer keeps of one clip for its backward pass, in mixed precision."""

    def measure(block: STBlock) -> int:
        # The difference between two clips and one leaves out the casts of weights, which clips share.
        clip = frames, tokens, config.width
        return saved_bytes(block, (2, *clip)) - saved_bytes(block, (1, *clip))

    with FakeTensorMode():
        if not recompute:
            return per_layer(config, measure)
        widest = measure(STBlock(config, temporal=bool(config.temporal_every)))
    return config.layers * frames * tokens * config.width * 4 + widest


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


def plan(recipe: Recipe, cluster: ClusterConfig, parallel: ParallelConfig) -> list[PhasePlan]:
    """The cost of each phase of a recipe on a cluster."""
    world = empty_world(recipe)
    return [plan_phase(recipe, world, phase, cluster, parallel) for phase in phases(recipe)]


def tokenizer_parts(recipe: Recipe, world: World, frames: int, learns: bool) -> list[Part]:
    """Encoder and decoder if it learns, else the encoder alone."""
    config = recipe.tokenizer
    rows, columns = world.tokenizer.grid_hw
    if isinstance(config, ConvTokenizerConfig):
        pixels = frames, 3, rows * config.patch, columns * config.patch
        latents = frames, world.tokenizer.quantizer.dim, rows, columns
        encoder = convolution_part(lambda: config.build().encoder, pixels, learns)
        return [encoder, convolution_part(lambda: config.build().decoder, latents)] if learns else [encoder]
    encoder = transformer_part(config.encoder, frames, rows * columns, learns)
    return [encoder, transformer_part(config.decoder, frames, rows * columns)] if learns else [encoder]


def action_parts(recipe: Recipe, frames: int, learns: bool) -> list[Part]:
    """Encoder and decoder if it learns, else the encoder alone."""
    config = recipe.latent_actions
    encoded, size_hw = frames, config.size_hw
    if isinstance(config, MotionLatentActionsConfig):  # it encodes pairs of frames
        encoded, size_hw = frames - 1, config.small_hw
    rows, columns = grid_of(size_hw, config.patch)
    tokens = rows * columns
    encoder = transformer_part(config.encoder, encoded, tokens, learns)
    return [encoder, transformer_part(config.decoder, frames - 1, tokens)] if learns else [encoder]


def dynamics_part(recipe: Recipe, phase: Phase, tokens: int) -> Part:
    """The dynamics in a phase in which they learn."""
    once = transformer_part(recipe.dynamics.transformer, phase.config.frames, tokens)
    if phase.stage is not SelfRolloutStage:
        return once
    # A frame passes through the dynamics twice, as masks and to be cached; nothing of it is recomputed.
    kept = {recompute: 2 * once.kept[False] for recompute in once.kept}
    return replace(once, flops=2 * once.flops, kept=kept)


def plan_phase(
    recipe: Recipe, world: World, phase: Phase, cluster: ClusterConfig, parallel: ParallelConfig
) -> PhasePlan:
    """The cost of one phase; see `plan`."""
    rows, columns = world.tokenizer.grid_hw
    frames, tokens = phase.config.frames, rows * columns
    parts: list[Part] = []
    dynamics: Part | None = None
    needed = ["tokenizer", "latent_actions", "dynamics"] if "dynamics" in phase.learns else list(phase.learns)
    if "tokenizer" in needed:
        parts += tokenizer_parts(recipe, world, frames, "tokenizer" in phase.learns)
    if "latent_actions" in needed:
        parts += action_parts(recipe, frames, "latent_actions" in phase.learns)
    if "dynamics" in needed:
        parts.append(dynamics := dynamics_part(recipe, phase, tokens))
    vocabulary = sum(world.dynamics.levels) if dynamics else 0
    learning = sum(parameters_of(world.get_submodule(name)) for name in phase.learns)
    frozen = sum(parameters_of(world.get_submodule(name)) for name in needed if name not in phase.learns)
    split = parallel.tensor_parallel
    pieces = max(1, cluster.gpus // split) * parallel.accumulate
    clips_at_once = -(-phase.config.batch // pieces)
    clips = phase.config.steps * phase.config.batch
    learned_parts = [part for part in parts if part.learns]
    flops = float(
        sum(clips * part.flops * ((4 if parallel.recompute else 3) if part.learns else 1) for part in parts)
    )
    kept = {
        recompute: float(sum(clips_at_once * part.kept[recompute] for part in learned_parts))
        for recompute in (False, True)
    }
    largest_block = max((part.block for part in learned_parts), default=0)
    memory = {
        "weights": 4 * learning / cluster.gpus,
        "gradients": 4 * learning / cluster.gpus,
        "optimiser": 8 * learning / cluster.gpus,
        "frozen models": 4.0 * frozen,
        # FSDP gathers the next block while one computes; in bfloat16, and their gradients.
        "gathered blocks": 2 * largest_block * (2 + 2) / split if cluster.gpus > 1 else 0.0,
        "logits": 3 * 4.0 * clips_at_once * frames * tokens * vocabulary,
        "activations": kept[False],
        "activations, recomputed": kept[True],
    }
    return PhasePlan(
        name=phase.name,
        learned=learning,
        tokens=clips * frames * tokens,
        flops=flops,
        dynamics_flops=3.0 * clips * dynamics.flops if dynamics else 0.0,
        days=flops / (cluster.gpus * cluster.peak_flops * cluster.utilisation) / 86_400,
        memory={key: value / 1e9 for key, value in memory.items()},
        even=cluster.gpus % split == 0 and phase.config.batch % pieces == 0,
    )


def total_memory(memory: dict[str, float], recompute: bool) -> float:
    """GB at the peak of a step, with or without recomputation."""
    other = "activations" if recompute else "activations, recomputed"
    return sum(value for key, value in memory.items() if key != other)
