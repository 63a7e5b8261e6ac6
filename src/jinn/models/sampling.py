"""MaskGIT sampling (Chang et al. 2022): pure functions of logits and of uniform noise.

Chance is an argument: whoever holds the same noise samples the same frame, in torch, in another
runtime or in a browser, alone or in a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.models.quantize import join_digits


@dataclass(frozen=True)
class SamplingConfig:
    """How the tokens of a frame are drawn.

    Attributes:
        steps: MaskGIT steps a frame (25 in the paper).
        temperature: of the softmax that tokens are drawn from; 0 takes the likeliest. The paper has 2
            for Platformers and 1 for CoinRun.
        choice_temperature: of the Gumbel noise on the confidence that decides which tokens stay. 0 is
            greedy, which tends to copy the last frame. The noise fades to zero over the steps.
    """

    steps: int = 25
    temperature: float = 1.0
    choice_temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.temperature < 0 or self.choice_temperature < 0:
            raise ValueError("sampling needs at least one step and temperatures of zero or more")


def masked_after(step: int, steps: int, tokens: int) -> int:
    """How many of a frame's tokens are still masked after a step (cosine schedule).

    Args:
        step: 0 to steps - 1.
        steps: MaskGIT steps of the frame.
        tokens: N.

    Returns:
        A number that falls by at least one a step while it can, and is 0 after the last step.
    """
    cosine = math.floor(tokens * math.cos(math.pi / 2 * (step + 1) / steps))
    # Early cosine steps round to "nothing unmasked": every step must earn its forward pass, and no step
    # may leave fewer masked tokens than steps that are still to come, while there are enough.
    return max(min(cosine, tokens - step - 1), min(steps - step - 1, tokens - step - 1), 0)


def draw_tokens(logits_BNK: Tensor, uniform_BN: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Draw one token a place by inverting the cumulative distribution.

    Args:
        logits_BNK: any float dtype.
        uniform_BN: in [0, 1): one number a place, not K.
        temperature: divides the logits; 0 takes the likeliest token.

    Returns:
        int64 ``tokens_BN`` and the log-probability of each under the tempered distribution.
    """
    logits_BNK = logits_BNK.float()
    if temperature == 0:
        log_BNK = logits_BNK.log_softmax(-1)
        best = log_BNK.max(-1)
        return best.indices, best.values
    log_BNK = (logits_BNK / temperature).log_softmax(-1)
    # The running sum over thousands of codes is slow where it is one after the other. So first a group of
    # codes is found by the running sum over groups, then the code in it.
    group = math.isqrt(log_BNK.shape[-1] - 1) + 1
    lacking = -log_BNK.shape[-1] % group
    shares_BNGg = F.pad(log_BNK.exp(), (0, lacking)).unflatten(-1, (-1, group))
    groups_BNG = shares_BNGg.sum(-1).cumsum(-1)
    # Rounding may leave the total a little under 1: the threshold is a share of the total that there is.
    threshold_BN1 = uniform_BN.unsqueeze(-1) * groups_BNG[..., -1:]
    chosen_BN1 = first_above(groups_BNG, threshold_BN1)
    before_BN1 = F.pad(groups_BNG, (1, 0)).gather(-1, chosen_BN1)
    index_BN1g = chosen_BN1.unsqueeze(-1).expand(*chosen_BN1.shape, group)
    within_BNg = shares_BNGg.gather(-2, index_BN1g).squeeze(-2).cumsum(-1)
    tokens_BN1 = chosen_BN1 * group + first_above(within_BNg, threshold_BN1 - before_BN1)
    return tokens_BN1.squeeze(-1), log_BNK.gather(-1, tokens_BN1).squeeze(-1)


def draw_digits(
    logits_BNF: Tensor, uniform_BND: Tensor, temperature: float, levels: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """`draw_tokens` for tokens whose digits are drawn one by one, each from its own part of F.

    Args:
        logits_BNF: the logits of all digits, one after another.
        uniform_BND: in [0, 1): one number a digit.
        temperature: of every digit.
        levels: of the digits; one alone is a token drawn as a whole.

    Returns:
        int64 ``tokens_BN``, and the log-probability of each: the sum of its digits'.
    """
    parts = zip(logits_BNF.split(levels, -1), uniform_BND.unbind(-1), strict=True)
    digits, confidences = zip(*(draw_tokens(*part, temperature) for part in parts), strict=True)
    return join_digits(torch.stack(digits, -1), levels), torch.stack(confidences).sum(0)


def first_above(rising: Tensor, threshold: Tensor) -> Tensor:
    """The first place on the last axis where a rising row lies above the threshold, ``(..., 1)``.

    Where rounding has left the threshold above the whole row: the first place that reaches the row's end,
    for what comes after it has no share.
    """
    above = (rising <= threshold).sum(-1, keepdim=True)
    return torch.minimum(above, (rising < rising[..., -1:]).sum(-1, keepdim=True))


def keep_masked(
    confidence_BN: Tensor, masked_BN: Tensor, uniform_BN: Tensor, temperature: float, remaining: int
) -> Tensor:
    """Which places stay masked after a step: those that the model is least sure of.

    Args:
        confidence_BN: log-probability of the token drawn at each place.
        masked_BN: bool, the places that were masked before the step; no other can become masked.
        uniform_BN: in [0, 1), makes the Gumbel noise on the confidence.
        temperature: of that noise.
        remaining: how many places stay masked.

    Returns:
        bool ``BN`` with exactly ``remaining`` True a row.
    """
    tiny = torch.finfo(torch.float32).tiny
    gumbel_BN = -(-uniform_BN.clamp(min=tiny, max=1 - 1e-7).log()).log()
    score_BN = (confidence_BN + temperature * gumbel_BN).masked_fill(~masked_BN, float("inf"))
    least_BR = score_BN.topk(remaining, dim=-1, largest=False).indices
    return torch.zeros_like(masked_BN).scatter(-1, least_BR, True)


def frame_noise(seeds_B: Tensor, frames_B: Tensor, steps: int, tokens: int, digits: int = 1) -> Tensor:
    """The uniform noise of one frame for each player: a pure function of seed and frame number.

    So a state needs no generator: a fork, a rewind or a player in a batch draws what it would draw alone.

    Returns:
        float32 ``SBNU`` in [0, 1): for each step and place, one number for each digit of the token (of one,
        if it is drawn as a whole), and a last one for the choice.
    """
    noise = []
    for seed, frame in zip(seeds_B.tolist(), frames_B.tolist(), strict=True):
        generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + frame * 0x85EBCA77) & (2**63 - 1))
        noise.append(torch.rand(steps, tokens, digits + 1, generator=generator))
    return torch.stack(noise, dim=1)
