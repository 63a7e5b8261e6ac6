"""MaskGIT sampling (Chang et al. 2022; paper section 2.1): pure functions of logits and of uniform noise.

Randomness is an argument: the same noise gives the same frame, in torch, in another runtime or in a browser,
alone or in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Schedule = Literal["cosine", "exponential"]


@dataclass(frozen=True)
class SamplingConfig:
    """How the tokens of a frame are sampled.

    Attributes:
        steps: MaskGIT steps per frame (25 in the paper). One step is parallel decoding of the whole frame.
        temperature: of the softmax that tokens are sampled from; 0 takes the likeliest. The paper uses 2
            for Platformers and 1 for CoinRun.
        choice_temperature: of the Gumbel noise on the confidences, which decide the tokens that stay. 0 is
            greedy, which tends to copy the last frame. The noise fades to zero over the steps.
        schedule: how fast a frame is revealed, see `masked_after`. The paper's is the cosine.
        doubt: about the action, from -1, which exaggerates it, over 0 to 1, which ignores it. Only our own dynamics
            model knows it (`jinn.models.ours.previous_frame`), and only if it was trained with doubt.
    """

    steps: int = 25
    temperature: float = 1.0
    choice_temperature: float = 1.0
    schedule: Schedule = "cosine"
    doubt: float = 0.0

    def __post_init__(self) -> None:
        if not -1 <= self.doubt <= 1:
            raise ValueError(f"doubt is from -1 to 1, got {self.doubt}")
        if not 1 <= self.steps <= 1000 or self.temperature < 0 or self.choice_temperature < 0:
            raise ValueError("sampling needs from 1 to 1000 steps and temperatures of zero or more")


def fill(
    sample: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    noise_SBNU: Tensor,
    mask_token: int,
    config: SamplingConfig,
) -> Tensor:
    """Sample a frame: start from masks only and reveal the most confident tokens, step by step.

    Args:
        sample: maps ``tokens_BN``, some of which are masks, and the noise of their digits, ``uniform_BNQ``, to a token
            for each position, ``BN``, and its log-probability.
        noise_SBNU: uniform, from `frame_noise`; S is at least ``config.steps``.
        mask_token: K, the first number after the codes.
        config: steps, schedule and temperature of the choice.

    Returns:
        int64 ``tokens_BN`` in [0, K).
    """
    B, N = noise_SBNU.shape[1:3]
    tokens_BN = torch.full((B, N), mask_token, device=noise_SBNU.device)
    masked_BN = torch.ones_like(tokens_BN, dtype=torch.bool)
    for step in range(config.steps):
        uniform_BNQ, choice_BN = noise_SBNU[step, ..., :-1], noise_SBNU[step, ..., -1]
        sampled_BN, confidence_BN = sample(tokens_BN, uniform_BNQ)
        tokens_BN = torch.where(masked_BN, sampled_BN, tokens_BN)
        remaining = masked_after(step, config.steps, N, config.schedule)
        if remaining == 0:
            break
        fading = config.choice_temperature * (1 - (step + 1) / config.steps)
        masked_BN = least_confident(confidence_BN, masked_BN, choice_BN, fading, remaining)
        tokens_BN = tokens_BN.masked_fill(masked_BN, mask_token)
    return tokens_BN


def masked_after(step: int, steps: int, tokens: int, schedule: Schedule = "cosine") -> int:
    """How many of a frame's N tokens are still masked after a step, 0 to ``steps - 1``.

    The cosine schedule reveals the most tokens at last. Where nearly all of a frame is certain from the past, the few
    doubtful ones, such as the places where one object may be, are then drawn together and know nothing of each other.
    The exponential schedule (our own idea) keeps a constant fraction after each step down to a single token.
    The number falls by at least one a step while it can, and is 0 after the last step.
    """
    latest, most = steps - step - 1, tokens - step - 1
    if not latest:
        return 0
    if schedule == "cosine":
        wanted = math.floor(tokens * math.cos(math.pi / 2 * (step + 1) / steps))
    else:
        wanted = round(tokens ** (1 - (step + 1) / (steps - 1)))
    # Early cosine steps round to "nothing revealed". Every step must earn its forward pass, and no step may
    # leave fewer masked tokens than there are steps to come, while there are enough.
    return max(min(wanted, most), min(latest, most), 0)


def sample_categorical(logits_BNK: Tensor, uniform_BN: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sample one category per position by inverting the cumulative distribution.

    Args:
        logits_BNK: any float dtype.
        uniform_BN: in [0, 1): one number per position, not K.
        temperature: divides the logits; 0 takes the likeliest category.

    Returns:
        int64 ``BN`` in [0, K), and the log-probability of each under the tempered distribution.
    """
    logits_BNK = logits_BNK.float()
    if temperature == 0:
        log_BNK = logits_BNK.log_softmax(-1)
        best = log_BNK.max(-1)
        return best.indices, best.values
    log_BNK = (logits_BNK / temperature).log_softmax(-1)
    # A cumulative sum over thousands of codes is slow where it runs sequentially. So we first find a group
    # of codes by the cumulative sum over groups, and then the code inside the group.
    group = math.isqrt(log_BNK.shape[-1] - 1) + 1
    padding = -log_BNK.shape[-1] % group
    probabilities_BNGg = F.pad(log_BNK.exp(), (0, padding)).unflatten(-1, (-1, group))
    groups_BNG = probabilities_BNGg.sum(-1).cumsum(-1)
    # Rounding may leave the total a little under 1: the threshold is a fraction of the actual total.
    threshold_BN1 = uniform_BN.unsqueeze(-1) * groups_BNG[..., -1:]
    chosen_BN1 = first_above(groups_BNG, threshold_BN1)
    before_BN1 = F.pad(groups_BNG, (1, 0)).gather(-1, chosen_BN1)
    index_BN1g = chosen_BN1.unsqueeze(-1).expand(*chosen_BN1.shape, group)
    within_BNg = probabilities_BNGg.gather(-2, index_BN1g).squeeze(-2).cumsum(-1)
    tokens_BN1 = chosen_BN1 * group + first_above(within_BNg, threshold_BN1 - before_BN1)
    return tokens_BN1.squeeze(-1), log_BNK.gather(-1, tokens_BN1).squeeze(-1)


def first_above(rising: Tensor, threshold: Tensor) -> Tensor:
    """The first index on the last axis where a rising row lies above the threshold, ``(..., 1)``.

    Where rounding has left the threshold above the whole row, it is the first index that reaches the row's
    last value, since everything after it has probability zero.
    """
    above = (rising <= threshold).sum(-1, keepdim=True)
    return torch.minimum(above, (rising < rising[..., -1:]).sum(-1, keepdim=True))


def least_confident(
    confidence_BN: Tensor, masked_BN: Tensor, uniform_BN: Tensor, temperature: float, remaining: int
) -> Tensor:
    """The positions that stay masked after a step: those with the least confident tokens.

    Args:
        confidence_BN: log-probability of the token sampled at each position.
        masked_BN: bool, the positions masked before the step; no other can become masked.
        uniform_BN: in [0, 1), turned into the Gumbel noise on the confidences.
        temperature: of that noise.
        remaining: how many positions stay masked.

    Returns:
        bool ``BN`` with exactly ``remaining`` True values per row.
    """
    tiny = torch.finfo(torch.float32).tiny
    gumbel_BN = -(-uniform_BN.clamp(min=tiny, max=1 - 1e-7).log()).log()
    score_BN = (confidence_BN + temperature * gumbel_BN).masked_fill(~masked_BN, float("inf"))
    least_BR = score_BN.topk(remaining, dim=-1, largest=False).indices
    return torch.zeros_like(masked_BN).scatter(-1, least_BR, True)


def frame_noise(seeds_B: Tensor, frames_B: Tensor, steps: int, tokens: int, digits: int = 1) -> Tensor:
    """The uniform noise of one frame of each roll-out: a pure function of its seed and its frame number.

    So a state needs no generator: a fork, a rewind or a row of a batch samples what it would sample alone.

    Returns:
        float32 ``SBNU`` in [0, 1), U = Q + 1: for each step and position one number per digit of the token,
        and a last one for the choice of the tokens that stay.
    """
    noise = []
    for seed, frame in zip(seeds_B.tolist(), frames_B.tolist(), strict=True):
        generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + frame * 0x85EBCA77) & (2**63 - 1))
        noise.append(torch.rand(steps, tokens, digits + 1, generator=generator))
    return torch.stack(noise, dim=1)
