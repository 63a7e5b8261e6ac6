"""Many processes, one training: which process computes what, and how a model is distributed over them.

`torchrun` starts a process (a *rank*) for each GPU. The ranks form a mesh of two axes. Along ``data`` each rank
has other clips and a shard of every weight (FSDP2: the weights of a block are gathered when it computes, and its
gradients are averaged and scattered again). Along ``tensor`` the ranks have the same clips, and each computes
some of the heads and of the feed-forward's channels. None of this changes what is learned: a run may go on elsewhere.
"""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.utils.checkpoint import checkpoint

from jinn.contracts import JinnError, find_device
from jinn.models.attention import Attention
from jinn.models.space_time import SpaceTimeBlock
from jinn.models.transformer import Block, STBlock, TransformerConfig

# Of the matrix products in training; weights, gradients and moments are float32 in both.
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ParallelConfig:
    """How a training step is laid out on the hardware; the result is the same.

    Attributes:
        tensor_parallel: number of GPUs that each layer is split over; divides the number of GPUs and all heads.
        accumulate: number of parts into which each GPU splits its clips, one after another; gradients add up.
        recompute: keep only the input of each block and recompute the block in the backward pass (activation
            checkpointing): about a third more work, for a fraction of the memory. Not in self-rollout training.
        compile: compile each block by torch.compile (needs a C++ compiler on a CPU). Not in self-rollout training.
    """

    tensor_parallel: int = 1
    accumulate: int = 1
    recompute: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if min(self.tensor_parallel, self.accumulate) < 1:
            raise JinnError(
                "parallel.tensor_parallel and parallel.accumulate are whole numbers of at least 1"
            )


@dataclass(frozen=True)
class Ranks:
    """This process, number ``rank`` (from 0) of the ``size`` that train.

    Attributes:
        precision: of the run's matrix products, the same on all ranks.
        mesh: with the axes ``data`` and ``tensor``; None where one process trains alone.
        writers: a process group for the thread that writes checkpoints, so that its messages do not mix with
            those of the training.
    """

    config: ParallelConfig = field(default_factory=ParallelConfig)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    size: int = 1
    precision: Precision = "float32"
    mesh: DeviceMesh | None = None
    writers: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the log, the previews and the world."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """The rows of a batch that this rank computes; raises `JinnError` if the batch cannot be split evenly."""
        groups = self.size // self.config.tensor_parallel
        if batch % (groups * self.config.accumulate):
            raise JinnError(
                f"a batch of {batch} clips cannot be split evenly over {groups} groups of GPUs and "
                f"{self.config.accumulate} parts: choose a multiple of {groups * self.config.accumulate}"
            )
        group = self.rank // self.config.tensor_parallel
        return range(group * batch // groups, (group + 1) * batch // groups)

    def mean(self, report: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean of each tensor over all ranks, in one message."""
        if self.size == 1:
            return report
        flat = torch.cat([value.detach().float().flatten() for value in report.values()])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([value.numel() for value in report.values()])
        return {key: part.view(report[key].shape) for key, part in zip(report, parts, strict=True)}

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank. The message goes between CPUs and waits for no GPU."""
        flags = torch.tensor([int(flag)])
        if self.size > 1:
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def agree(self, number: int) -> int:
        """The first rank's number, on every rank. It is also a barrier: none goes on before all have called it."""
        numbers = torch.tensor([number])
        self.broadcast([numbers])
        return int(numbers)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors, which all ranks computed up to rounding, to those of the first rank."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)


@contextmanager
def join(config: ParallelConfig, device: torch.device | str) -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did.

    Raises `JinnError` if the layout does not fit them, or if there is no such device.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if size % config.tensor_parallel:
        raise JinnError(
            f"{size} processes cannot be split into groups of {config.tensor_parallel}: start a multiple "
            "(torchrun --nproc-per-node ...), or choose another parallel.tensor_parallel"
        )
    if size > 1 and str(device).startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    device = find_device(device)
    if size == 1:
        yield Ranks(config, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Gloo beside NCCL: messages that concern only the hosts (stopping, checkpoints) bypass the GPUs.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        shape = (size // config.tensor_parallel, config.tensor_parallel)
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=("data", "tensor"))
        yield Ranks(config, device, rank, size, mesh=mesh, writers=dist.new_group(backend="gloo"))
    finally:
        # Gloo's threads still release the tensors of the last message: a process that ends before that is aborted.
        time.sleep(0.1)
        dist.destroy_process_group()


def distribute(module: nn.Module, ranks: Ranks) -> None:
    """Apply tensor parallelism, compilation, activation checkpointing and FSDP in place.

    Afterwards only the losses of the model may be called. Raises `JinnError` if there is no compiler.
    """
    compilers = os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl"  # that torch.compile would find
    if ranks.config.compile and ranks.device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise JinnError(
            "parallel.compile needs a C++ compiler on a CPU (such as g++): install one or leave it"
        )
    blocks = [part for part in module.modules() if isinstance(part, STBlock | SpaceTimeBlock)]
    mesh = ranks.mesh
    if mesh is not None and ranks.config.tensor_parallel > 1:
        for block in blocks:
            split_heads(block, mesh["tensor"])
    for block in blocks:
        if ranks.config.compile:
            block.forward = torch.compile(block.forward)  # type: ignore[method-assign]
        if ranks.config.recompute:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]
    if mesh is None:
        module.to(ranks.device)
        return
    # Blocks are gathered in the precision in which they compute; the residual stream stays float32.
    half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    on_gpu = ranks.device.type == "cuda"
    precision = half if on_gpu and ranks.precision == "bfloat16" else MixedPrecisionPolicy()
    for weight in module.parameters():  # those of convolutions are in the layout that is fastest on a CPU
        weight.data = weight.data.contiguous()
    for block in blocks:
        fully_shard(block, mesh=mesh["data"], mp_policy=precision)
        for path in ("clip", "next_frame"):
            register_fsdp_forward_method(block, path)
    fully_shard(module, mesh=mesh["data"])
    for loss in ("loss", "continuous_loss", "call"):
        if hasattr(module, loss):
            register_fsdp_forward_method(module, loss)


def split_heads(block: Block, mesh: DeviceMesh) -> None:
    """Tensor parallelism of one block: each rank computes some of the heads and of the hidden channels."""
    plan: dict[str, ParallelStyle] = {"feedforward.0": ColwiseParallel(), "feedforward.2": RowwiseParallel()}
    for name in [name for name, part in block.named_children() if isinstance(part, Attention)]:
        for part in ("query", "key", "value"):
            plan[f"{name}.{part}"] = ColwiseParallel()
        plan[f"{name}.out"] = RowwiseParallel()
        # All ranks have the same gains but different heads (the last axis but one): their gradients add up.
        for part in ("query_norm", "key_norm"):
            plan[f"{name}.{part}"] = SequenceParallel(sequence_dim=-2, use_local_output=True)
    parallelize_module(block, mesh, plan)


def check_split(config: TransformerConfig, gpus: int) -> None:
    """Raise `JinnError` unless `split_heads` can split a transformer's blocks over so many GPUs."""
    hidden = max(1, round(config.feedforward * config.width))
    if config.heads % gpus or hidden % gpus:
        raise JinnError(
            f"{config.heads} heads and {hidden} hidden channels cannot be split over {gpus} GPUs: "
            "choose another parallel.tensor_parallel"
        )


def outline(module: nn.Module) -> nn.Module:
    """A copy without data (on the device ``meta``), to be filled by `gather`."""
    empty: dict[int, object] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in module.parameters()
    }
    return copy.deepcopy(module, empty)


def gather(
    module: nn.Module, outline: nn.Module, device: torch.device, keep: bool = True
) -> nn.Module | None:
    """A plain copy of a distributed model with its present weights, on a device. All ranks take part.

    The outline was made before the model was distributed. A rank that does not ``keep`` the copy gets None.
    """
    whole: dict[str, Tensor] = {}
    for key, value in module.state_dict().items():
        tensor = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            whole[key] = tensor.to(device, copy=True)
    if not keep:
        return None
    plain = copy.deepcopy(outline)
    plain.load_state_dict(whole, assign=True)
    return plain.to(device)


@torch.no_grad()
def copy_whole(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor, the same on all ranks, into one that may be sharded. All ranks take part."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.detach(), target.device_mesh, target.placements)
    target.copy_(value)


def by_mesh(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters grouped by their mesh: one fused operation takes only parameters that are sharded alike."""
    groups: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in parameters:
        mesh = parameter.device_mesh if isinstance(parameter, DTensor) else None
        groups.setdefault(mesh, []).append(parameter)
    return list(groups.values())


def clip_gradients(parameters: Iterable[nn.Parameter], length: float) -> Tensor:
    """Scale all gradients down to a common norm of ``length`` if it is larger; returns the norm before."""
    groups = by_mesh(p for p in parameters if p.grad is not None)
    norms = [nn.utils.get_total_norm([cast(Tensor, p.grad) for p in group]) for group in groups]
    norm = torch.stack([x.full_tensor() if isinstance(x, DTensor) else x for x in norms]).norm()
    for group in groups:
        nn.utils.clip_grads_with_norm_(group, length, norm)
    return norm
