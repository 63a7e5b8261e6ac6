"""Optimiser, learning rate, precision."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from jinn.training.parallel import by_mesh


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
        betas: of AdamW.
        weight_decay: of AdamW, on matrices only (the paper does not say on what).
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
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-2
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


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine to the final learning rate."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine


def make_optimizer(config: TrainingConfig, modules: Iterable[nn.Module]) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; gains, biases, embeddings and codebooks are not decayed.

    To be made after the modules were spread over ranks (`jinn.training.parallel.spread`).
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in modules:
        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                if parameter.requires_grad:
                    is_matrix = isinstance(part, nn.Linear) and name == "weight"
                    (decayed if is_matrix else free).append(parameter)
    groups = [
        {"params": alike, "weight_decay": decay}
        for parameters, decay in ((decayed, config.weight_decay), (free, 0.0))
        for alike in by_mesh(parameters)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 where the hardware multiplies it faster than float32, else nothing."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    if device.type == "cpu" and cpu_likes_bfloat16():
        return torch.autocast("cpu", torch.bfloat16)
    return contextlib.nullcontext()


def cpu_likes_bfloat16() -> bool:
    """Whether this CPU has bfloat16 matrix units (AMX). Without them bfloat16 is slower than float32."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())
