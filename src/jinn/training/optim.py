"""Optimisers, learning rate, precision."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from jinn.training.parallel import Precision, by_mesh


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how one phase trains.

    Attributes:
        steps: optimiser steps.
        batch: clips a step, of all GPUs together.
        frames: T, frames a clip.
        learning_rate: the highest, after the warm-up.
        final_learning_rate: at the end of the cosine.
        warmup: steps of linear warm-up.
        hold: share of the steps after it that keep the highest rate, before the cosine begins; the paper's
            schedule holds none.
        betas: of AdamW.
        weight_decay: on matrices only (the paper does not say on what).
        optimizer: "adamw" is the paper's; "muon" moves the matrices by `Muon` and the rest by AdamW.
        clip_norm: the gradient is scaled down to this length; 0 never does.
        checkpoint_every: steps between checkpoints.
        preview_every: steps between preview images.
        log_every: steps between lines of the log.
    """

    steps: int = 10_000
    batch: int = 32
    frames: int = 16
    learning_rate: float = 3e-4
    final_learning_rate: float = 3e-5
    warmup: int = 100
    hold: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-2
    optimizer: Literal["adamw", "muon"] = "adamw"
    clip_norm: float = 1.0
    checkpoint_every: int = 250
    preview_every: int = 250
    log_every: int = 10

    def __post_init__(self) -> None:
        counts = (
            self.steps,
            self.batch,
            self.frames,
            self.checkpoint_every,
            self.preview_every,
            self.log_every,
        )
        if min(counts) < 1:
            raise ValueError("steps, batch, frames and the three intervals are whole numbers of at least 1")
        if not 0 <= self.hold < 1:
            raise ValueError("hold is a share of the steps, from 0 to less than 1")


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, a stretch at the highest rate if wanted, then a cosine to the final learning rate."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    after = max(1, config.steps - config.warmup)
    progress = ((step - config.warmup) / after - config.hold) / (1 - config.hold)
    cosine = (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine


def make_optimizers(config: TrainingConfig, modules: Iterable[nn.Module]) -> list[torch.optim.Optimizer]:
    """One or two that share the trainable parameters; gains, biases, embeddings, codebooks are not decayed.

    To be made after the modules were spread over ranks (`jinn.training.parallel.spread`).
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in modules:
        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                if parameter.requires_grad:
                    is_matrix = isinstance(part, nn.Linear | nn.Conv2d) and name == "weight"
                    (decayed if is_matrix else free).append(parameter)
    turned: list[nn.Parameter] = []
    if config.optimizer == "muon":
        turned = [p for p in decayed if min(p.flatten(1).shape) >= Muon.LEAST_SIDE]
        decayed = [p for p in decayed if min(p.flatten(1).shape) < Muon.LEAST_SIDE]
    groups = [
        {"params": alike, "weight_decay": decay}
        for parameters, decay in ((decayed, config.weight_decay), (free, 0.0))
        for alike in by_mesh(parameters)
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if turned:
        optimizers.append(Muon(turned, config.learning_rate, config.weight_decay))
    if groups:
        optimizers.append(torch.optim.AdamW(groups, config.learning_rate, config.betas, fused=True))
    return optimizers


class Muon(torch.optim.Optimizer):
    """Momentum whose every singular value is set to one before it moves a matrix (Jordan et al. 2024).

    AdamW's steps are ruled by the few directions in which all gradients of a matrix agree; here a rare
    direction is learned as fast as a common one. A step is as long as AdamW's typically are (Liu et al. 2025:
    0.2 a number), so that both share a learning rate.

    Args:
        matrices: of two axes or more, the first that of the outputs (a convolution's are read as one matrix).
        learning_rate, weight_decay: as of AdamW.
        momentum: share of the sum of gradients that stays each step; Nesterov's.
    """

    # What leads into and out of a quantiser of a few dimensions has too few directions to be turned.
    LEAST_SIDE = 16

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        learning_rate: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.flatten(1).shape, []).append(matrix)
            for matrices in alike.values():
                self._move(matrices, group["lr"], group["weight_decay"], group["momentum"])

    def _move(self, matrices: list[nn.Parameter], rate: float, decay: float, momentum: float) -> None:
        """One step of matrices of one shape, all in one product."""
        ahead = []
        for matrix in matrices:
            gradient = cast(Tensor, matrix.grad)
            sum_so_far = momentum_of(self, matrix).mul_(momentum).add_(gradient)
            ahead.append(gradient + momentum * sum_so_far)
        whole = [x.full_tensor() if isinstance(x, DTensor) else x for x in ahead]
        turned_XRC = orthogonal(torch.stack([x.flatten(1) for x in whole]))
        length = 0.2 * max(turned_XRC.shape[1:]) ** 0.5
        for matrix, turned_RC in zip(matrices, turned_XRC, strict=True):
            turned = turned_RC.reshape(matrix.shape)
            if isinstance(matrix, DTensor):
                turned = distribute_tensor(turned, matrix.device_mesh, matrix.placements)
            matrix.mul_(1 - rate * decay).add_(turned, alpha=-rate * length)


def momentum_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Tensor:
    """The first moment of a parameter, zeros before the first step."""
    state = optimizer.state[parameter]
    if not state:
        state["exp_avg"] = torch.zeros_like(parameter, requires_grad=False)
        if isinstance(optimizer, torch.optim.AdamW):
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg_sq"] = torch.zeros_like(parameter, requires_grad=False)
    moment: Tensor = state["exp_avg"]
    return moment


def orthogonal(matrices_XRC: Tensor, rounds: int = 5) -> Tensor:
    """The nearest orthogonal matrices, roughly: singular values come to lie between 0.7 and 1.2.

    Newton and Schulz's iteration ``M <- (a + b MM' + c (MM')^2) M`` with Jordan's coefficients. All rounds
    are polynomials in the first ``MM'``: they are computed on its small side, and meet the matrix once.
    """
    if matrices_XRC.shape[1] > matrices_XRC.shape[2]:
        return orthogonal(matrices_XRC.mT, rounds).mT
    matrices_XRC = matrices_XRC.float()
    matrices_XRC = matrices_XRC / (torch.linalg.matrix_norm(matrices_XRC, keepdim=True) + 1e-7)
    gram_XRR = matrices_XRC @ matrices_XRC.mT
    unit_RR = torch.eye(gram_XRR.shape[-1], device=gram_XRR.device)
    factor_XRR = unit_RR.expand_as(gram_XRR)
    for _ in range(rounds):
        now_XRR = factor_XRR @ factor_XRR @ gram_XRR
        factor_XRR = (3.4445 * unit_RR - 4.7750 * now_XRR + 2.0315 * now_XRR @ now_XRR) @ factor_XRR
    return factor_XRR @ matrices_XRC


def fastest_precision(device: torch.device) -> Precision:
    """What "auto" means on a device: bfloat16 where the hardware multiplies it faster than float32."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Of CPUs those with bfloat16 matrix units (AMX); on others bfloat16 is slower than float32.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return "bfloat16" if device.type == "cpu" and has_amx and has_amx() else "float32"


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The context in which losses are computed: matrix products in bfloat16, or everything in float32."""
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
