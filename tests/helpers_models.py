"""Small models and random clips for the tests of the models."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from jinn.models.dynamics import Dynamics, DynamicsConfig
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.ours.conv_tokenizer import ConvConfig, ConvTokenizer, ConvTokenizerConfig
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig
from jinn.models.ours.previous_frame import PreviousFrameDynamicsConfig
from jinn.models.quantize import FSQConfig, VQConfig
from jinn.models.tokenizer import TokenizerConfig, VideoTokenizer
from jinn.models.transformer import TransformerConfig

ST = TransformerConfig(layers=2, width=32, heads=4, window=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generators(clips: int) -> list[torch.Generator]:
    return [seeded(clip) for clip in range(clips)]


def frames(B: int = 2, T: int = 5, H: int = 16, W: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (B, T, H, W, 3), dtype=torch.uint8, generator=seeded(seed))


def no_gradient(module: nn.Module) -> set[str]:
    return {n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def small_tokenizer(quantizer: VQConfig | FSQConfig | None = None) -> VideoTokenizer:
    return VideoTokenizer(TokenizerConfig((16, 16), 4, ST, ST, quantizer or VQConfig(32, 8)))


def conv_tokenizer(
    size_hw: tuple[int, int] = (16, 16), quantizer: VQConfig | FSQConfig | None = None
) -> ConvTokenizer:
    sizes = ConvConfig(fine=8, coarse=16, fine_blocks=1, coarse_blocks=1)
    return ConvTokenizer(ConvTokenizerConfig(size_hw, 2, sizes, sizes, quantizer or FSQConfig((8, 5, 5))))


PAPER_LAM = LatentActionsConfig((16, 16), 8, ST, ST, VQConfig(4, 8))
OUR_LAM = MotionLatentActionsConfig((16, 16), 4, ST, 2, 2, decoder=ST, quantizer=VQConfig(4, 8))

PAPER, OURS = DynamicsConfig(ST), PreviousFrameDynamicsConfig(ST, clean_frames=0.5)
KINDS = {
    "paper": (PAPER, (32,)),
    "paper-fsq": (PAPER, (8, 4)),
    "ours": (OURS, (8, 4)),
    "ours-vq": (OURS, (32,)),
    "ours-causal": (replace(OURS, digit_hidden=16), (8, 4)),
}


def dynamics_of(kind: str = "paper") -> Dynamics:
    config, levels = KINDS[kind]
    return config.build(levels, (4, 4), 5)
