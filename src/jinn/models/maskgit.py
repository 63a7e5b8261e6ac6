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

FEW = 64  # categories whose cumulative distribution is a short sum


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
        random_tokens: how many tokens the first step reveals, at random places; with 0, or a single step, there is no
            such step. Confidences prefer what stays as it was: that is one token, what may come in its place are many,
            and so a player sticks. A few tokens that are drawn without this preference decide what happens, and the
            rest follows them (our own idea, docs/research-log.md).
        doubt: about the action, from -1, which exaggerates it, over 0 to 1, which ignores it. Only our own dynamics
            model knows it (`jinn.models.ours.previous_frame`), and only if it was trained with doubt.
    """

    steps: int = 25
    temperature: float = 1.0
    choice_temperature: float = 1.0
    schedule: Schedule = "cosine"
    random_tokens: int = 0
    doubt: float = 0.0

    def __post_init__(self) -> None:
        if not -1 <= self.doubt <= 1:
            raise ValueError(f"doubt is from -1 to 1, got {self.doubt}")
        if not 1 <= self.steps <= 1000 or self.temperature < 0 or self.choice_temperature < 0:
            raise ValueError("sampling needs from 1 to 1000 steps and temperatures of zero or more")
        if self.random_tokens < 0:
            raise ValueError(f"random_tokens is zero or more, got {self.random_tokens}")


def fill(
    sample: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    noise_SBNU: Tensor,
    mask_token: int,
    config: SamplingConfig,
) -> Tensor:
    """Sample a frame: start from masks only and reveal the most confident tokens, step by step.

    Args:
        sample: maps ``tokens_BN``, some of which are masks, the positions where tokens are wanted, ``drawn_BR``, and
            the noise of their digits, ``uniform_BRQ``, to a token for each of these positions, ``BR``, and its
            log-probability.
        noise_SBNU: uniform, from `frame_noise`; S is at least ``config.steps``.
        mask_token: K, the first number after the codes.
        config: steps, schedule and temperature of the choice.

    Returns:
        int64 ``tokens_BN`` in [0, K).
    """
    B, N = noise_SBNU.shape[1:3]
    at_random = min(config.random_tokens, N - 1) if config.steps > 1 else 0
    steps = config.steps - bool(at_random)  # those that are left to the confidences
    tokens_BN = torch.full((B, N), mask_token, device=noise_SBNU.device)
    masked_BR = torch.arange(N, device=noise_SBNU.device).expand(B, N)
    if at_random:
        noise_BNU, noise_SBNU = noise_SBNU[0], noise_SBNU[1:]
        order_BN = noise_BNU[..., -1].topk(N, dim=-1).indices  # a random one
        drawn_BR, masked_BR = order_BN[:, :at_random], order_BN[:, at_random:]
        uniform_BRQ = torch.take_along_dim(noise_BNU[..., :-1], drawn_BR.unsqueeze(-1), dim=1)
        sampled_BR, _ = sample(tokens_BN, drawn_BR, uniform_BRQ)
        tokens_BN = tokens_BN.scatter(1, drawn_BR, sampled_BR)
    for step in range(steps):
        noise_BRU = torch.take_along_dim(noise_SBNU[step], masked_BR.unsqueeze(-1), dim=1)
        uniform_BRQ, choice_BR = noise_BRU[..., :-1], noise_BRU[..., -1]
        sampled_BR, confidence_BR = sample(tokens_BN, masked_BR, uniform_BRQ)
        tokens_BN = tokens_BN.scatter(1, masked_BR, sampled_BR)
        remaining = min(masked_after(step, steps, N, config.schedule), masked_BR.shape[1])
        if remaining == 0:
            break
        fading = config.choice_temperature * (1 - (step + 1) / steps)
        masked_BR = masked_BR.gather(1, least_confident(confidence_BR, choice_BR, fading, remaining))
        tokens_BN = tokens_BN.scatter(1, masked_BR, mask_token)
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

    Rounding may leave the total a little under 1, so the threshold is a fraction of the actual total.

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
    if log_BNK.shape[-1] <= FEW:
        rising_BNK = log_BNK.exp().cumsum(-1)
        tokens_BN1 = first_above(rising_BNK, uniform_BN.unsqueeze(-1) * rising_BNK[..., -1:])
    else:
        tokens_BN1 = find_in_groups(log_BNK.exp(), uniform_BN.unsqueeze(-1))
    return tokens_BN1.squeeze(-1), log_BNK.gather(-1, tokens_BN1).squeeze(-1)


def find_in_groups(probabilities_BNK: Tensor, uniform_BN1: Tensor) -> Tensor:
    """Where the cumulative distribution passes a number in [0, 1), for many categories.

    A cumulative sum over thousands of codes is slow where it runs sequentially. So we first find a group of codes by
    the cumulative sum over groups, and then the code inside the group.

    Returns:
        int64 ``BN1``.
    """
    group = math.isqrt(probabilities_BNK.shape[-1] - 1) + 1
    padding = -probabilities_BNK.shape[-1] % group
    probabilities_BNGg = F.pad(probabilities_BNK, (0, padding)).unflatten(-1, (-1, group))
    groups_BNG = probabilities_BNGg.sum(-1).cumsum(-1)
    threshold_BN1 = uniform_BN1 * groups_BNG[..., -1:]
    chosen_BN1 = first_above(groups_BNG, threshold_BN1)
    before_BN1 = F.pad(groups_BNG, (1, 0)).gather(-1, chosen_BN1)
    index_BN1g = chosen_BN1.unsqueeze(-1).expand(*chosen_BN1.shape, group)
    within_BNg = probabilities_BNGg.gather(-2, index_BN1g).squeeze(-2).cumsum(-1)
    return chosen_BN1 * group + first_above(within_BNg, threshold_BN1 - before_BN1)


def first_above(rising: Tensor, threshold: Tensor) -> Tensor:
    """The first index on the last axis where a rising row lies above the threshold, ``(..., 1)``.

    Where rounding has left the threshold above the whole row, it is the first index that reaches the row's
    last value, since everything after it has probability zero.
    """
    above = (rising <= threshold).sum(-1, keepdim=True)
    return torch.minimum(above, (rising < rising[..., -1:]).sum(-1, keepdim=True))


def least_confident(confidence_BR: Tensor, uniform_BR: Tensor, temperature: float, remaining: int) -> Tensor:
    """Which of the tokens that a step has drawn are masked again: the least confident ones.

    Args:
        confidence_BR: log-probability of the token sampled at each position.
        uniform_BR: in [0, 1), turned into the Gumbel noise on the confidences.
        temperature: of that noise.
        remaining: how many become masks.

    Returns:
        int64, their places in the rows, with ``remaining`` columns.
    """
    tiny = torch.finfo(torch.float32).tiny
    gumbel_BR = -(-uniform_BR.clamp(min=tiny, max=1 - 1e-7).log()).log()
    return (confidence_BR + temperature * gumbel_BR).topk(remaining, dim=-1, largest=False).indices


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
