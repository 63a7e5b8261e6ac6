"""Optimisers, learning rate, precision."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from jinn.training.parallel import Precision, by_mesh

# Of a `TrainingConfig`: when something is logged and kept, which changes nothing of what is learned.
INTERVALS = ("checkpoint_every", "preview_every", "log_every")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how one phase trains.

    Attributes:
        steps: number of optimiser steps.
        batch: clips per step, of all GPUs together.
        frames: T, frames per clip.
        learning_rate, final_learning_rate: at the peak (after the warm-up), and at the end of the cosine.
        warmup: steps of linear warm-up.
        hold: fraction of the remaining steps at the peak, before the cosine begins; 0 in the paper's schedule.
        betas: AdamW betas.
        weight_decay: of weight matrices only (the paper does not say of what).
        optimizer: "adamw" is the paper's; "muon" updates matrices by `Muon` and the rest by AdamW.
        clip_norm: norm to which larger gradients are scaled down; 0 never does.
        checkpoint_every, preview_every, log_every: steps between checkpoints, preview images and lines of the log.
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
        intervals = [getattr(self, name) for name in INTERVALS]
        if min(self.steps, self.batch, self.frames, *intervals) < 1:
            raise ValueError("steps, batch, frames and the three intervals are whole numbers of at least 1")
        if not 0 <= self.hold < 1:
            raise ValueError("hold is a fraction of the steps, at least 0 and below 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas are fractions, at least 0 and below 1")
        rates = self.learning_rate, self.final_learning_rate, self.weight_decay, self.clip_norm
        if min(self.warmup, *rates) < 0:
            raise ValueError("warmup, learning rates, weight_decay and clip_norm are not negative")


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, an optional plateau at the peak, then a cosine to the final learning rate."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    after = max(1, config.steps - config.warmup)
    progress = ((step - config.warmup) / after - config.hold) / (1 - config.hold)
    cosine = (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine


def make_optimizers(
    config: TrainingConfig, modules: Iterable[nn.Module], precision: Precision = "float32"
) -> list[torch.optim.Optimizer]:
    """One or two optimisers for the trainable parameters; gains, biases, embeddings, codebooks are not decayed.

    ``precision`` is that of Muon's matrix products. Make them after the modules were distributed over the ranks
    (`jinn.training.parallel.distribute`).
    """
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for part in nn.ModuleList(modules).modules():
        for name, parameter in part.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if not (isinstance(part, nn.Linear | nn.Conv2d) and name == "weight"):
                free.append(parameter)
            elif config.optimizer == "muon" and min(parameter.flatten(1).shape) >= Muon.LEAST_SIDE:
                matrices.append(parameter)
            else:
                decayed.append(parameter)
    groups = [
        {"params": alike, "weight_decay": decay}
        for parameters, decay in ((decayed, config.weight_decay), (free, 0.0))
        for alike in by_mesh(parameters)
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, config.learning_rate, config.weight_decay, precision=precision))
    if groups:
        optimizers.append(torch.optim.AdamW(groups, config.learning_rate, config.betas, fused=True))
    return optimizers


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum whose update is orthogonalised by Newton-Schulz iteration (Jordan et al. 2024).

    The few directions in which all gradients of a matrix agree dominate the steps of AdamW; here a rare
    direction is learned as fast as a common one. Updates have the typical size of AdamW's (Liu et al. 2025:
    0.2 per number), so that both share a learning rate.

    Args:
        matrices: with two axes or more, the first that of the outputs (convolutions are flattened to one matrix).
        learning_rate, weight_decay: as of AdamW.
        momentum: decay of the sum of gradients per step.
        precision: of the matrix products that orthogonalise.
    """

    # The layers into and out of a quantiser of a few dimensions have too few directions to orthogonalise.
    LEAST_SIDE = 16

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        learning_rate: float,
        weight_decay: float,
        momentum: float = 0.95,
        precision: Precision = "float32",
    ) -> None:
        self.orthogonal = orthogonal_in_bfloat16 if precision == "bfloat16" else orthogonal
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient, all matrices of one shape in one batched product."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.flatten(1).shape, []).append(matrix)
            for matrices in by_shape.values():
                self._update(matrices, group["lr"], group["weight_decay"], group["momentum"])

    def _update(self, matrices: list[nn.Parameter], rate: float, decay: float, momentum: float) -> None:
        lookahead = []
        for matrix in matrices:
            gradient = cast(Tensor, matrix.grad)
            sum_so_far = momentum_of(self, matrix).mul_(momentum).add_(gradient)
            lookahead.append(gradient + momentum * sum_so_far)
        whole = [x.full_tensor() if isinstance(x, DTensor) else x for x in lookahead]
        updates_XRC = self.orthogonal(torch.stack([x.flatten(1) for x in whole]))
        size = 0.2 * max(updates_XRC.shape[1:]) ** 0.5
        for matrix, update_RC in zip(matrices, updates_XRC, strict=True):
            update = update_RC.reshape(matrix.shape)
            if isinstance(matrix, DTensor):
                update = distribute_tensor(update, matrix.device_mesh, matrix.placements)
            matrix.mul_(1 - rate * decay).add_(update, alpha=-rate * size)


def momentum_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Tensor:
    """The first moment of a parameter, zeros before the first step."""
    state = optimizer.state[parameter]
    if not state:
        state["exp_avg"] = torch.zeros_like(parameter, requires_grad=False)
        if isinstance(optimizer, torch.optim.AdamW):
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg_sq"] = torch.zeros_like(parameter, requires_grad=False)
    return cast(Tensor, state["exp_avg"])


# Jordan's coefficients of the Newton-Schulz iteration ``M <- (a + b MM' + c (MM')^2) M``.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonal(matrices_XRC: Tensor, rounds: int = 5) -> Tensor:
    """The nearest orthogonal matrices, approximately: singular values end up between 0.7 and 1.2.

    All rounds of the Newton-Schulz iteration are polynomials of the first ``MM'``: they are computed on its small side
    and multiplied with ``M`` once.
    """
    if matrices_XRC.shape[1] > matrices_XRC.shape[2]:
        return orthogonal(matrices_XRC.mT, rounds).mT
    matrices_XRC = _of_norm_1(matrices_XRC)
    gram_XRR = matrices_XRC @ matrices_XRC.mT
    identity_RR = torch.eye(gram_XRR.shape[-1], device=gram_XRR.device)
    factor_XRR = identity_RR.expand_as(gram_XRR)
    for _ in range(rounds):
        now_XRR = factor_XRR @ factor_XRR @ gram_XRR
        factor_XRR = (A * identity_RR + B * now_XRR + C * now_XRR @ now_XRR) @ factor_XRR
    return factor_XRR @ matrices_XRC


def orthogonal_in_bfloat16(matrices_XRC: Tensor, rounds: int = 5) -> Tensor:
    """`orthogonal` where bfloat16 products are fast, as Jordan has it; float32 again in the end.

    Each round multiplies the matrix itself: polynomials of the first ``MM'`` would lose small singular values to
    rounding.
    """
    if matrices_XRC.shape[1] > matrices_XRC.shape[2]:
        return orthogonal_in_bfloat16(matrices_XRC.mT, rounds).mT
    matrices_XRC = _of_norm_1(matrices_XRC).bfloat16()
    for _ in range(rounds):
        gram_XRR = matrices_XRC @ matrices_XRC.mT
        factor_XRR = torch.baddbmm(gram_XRR, gram_XRR, gram_XRR, beta=B, alpha=C)
        matrices_XRC = torch.baddbmm(matrices_XRC, factor_XRR, matrices_XRC, beta=A)
    return matrices_XRC.float()


def _of_norm_1(matrices_XRC: Tensor) -> Tensor:
    """Float32, the Frobenius norm of each matrix 1: so no singular value is larger than that."""
    matrices_XRC = matrices_XRC.float()
    return matrices_XRC / (torch.linalg.matrix_norm(matrices_XRC, keepdim=True) + 1e-7)


def fastest_precision(device: torch.device) -> Precision:
    """What "auto" means on a device: bfloat16 where the hardware multiplies it faster than float32."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Of CPUs those with instructions for it, as all with AMX have; on others bfloat16 is slower than float32.
    has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return "bfloat16" if device.type == "cpu" and has_bfloat16 and has_bfloat16() else "float32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which losses are computed: matrix products in bfloat16, or everything in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
