"""The head of the dynamics: from the transformer's output at a position to the digits of its token.

A token of a VQ is one digit and the head the paper's: a linear layer and a softmax over the codes. A token of an FSQ
has several digits (`jinn.models.embedding`). The same layer draws each of them by itself, as if they were independent
given the context: our own choice, in the manner of product quantisation. `jinn.models.ours.causal_digits` draws each
digit in the knowledge of those before it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.models.maskgit import sample_categorical
from jinn.models.quantize import join_digits, split_digits


class Digits(nn.Module, ABC):
    """A head that reveals the digits of a token one after another.

    What it knows of the token meanwhile is a ``state``, a tensor ``...S``.

    Args:
        levels: of the digits of a token.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels

    @abstractmethod
    def begin(self, x: Tensor) -> Tensor:
        """The transformer's output ``...D`` to the state before the first digit."""

    @abstractmethod
    def logits(self, state: Tensor, digit: int) -> Tensor:
        """The logits of the levels of one digit, ``...L``."""

    @abstractmethod
    def reveal(self, state: Tensor, digit: int, value: Tensor) -> Tensor:
        """The state once a digit has this value, int64 ``...``."""

    def nll(self, x_XD: Tensor, tokens_X: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each token in nats, summed over its digits; and whether the likeliest digits are right."""
        state = self.begin(x_XD)
        nll_X = torch.zeros(len(x_XD), device=x_XD.device)
        right_X = torch.ones_like(tokens_X, dtype=torch.bool)
        for digit, value_X in enumerate(split_digits(tokens_X, self.levels).unbind(-1)):
            logits_XL = self.logits(state, digit).float()
            nll_X = nll_X + F.cross_entropy(logits_XL, value_X, reduction="none")
            right_X &= logits_XL.detach().argmax(-1) == value_X
            state = self.reveal(state, digit, value_X)
        return nll_X, right_X

    def sample(self, x_BND: Tensor, uniform_BNQ: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Sample one token per position.

        Args:
            x_BND: the transformer's output.
            uniform_BNQ: in [0, 1), one number for each digit.
            temperature: divides the logits; 0 takes the likeliest value of each digit.

        Returns:
            int64 ``tokens_BN`` and the log-probability of each: the sum of those of its digits.
        """
        state = self.begin(x_BND)
        values: list[Tensor] = []
        confidences: list[Tensor] = []
        for digit, uniform_BN in enumerate(uniform_BNQ.unbind(-1)):
            value_BN, confidence_BN = sample_categorical(self.logits(state, digit), uniform_BN, temperature)
            state = self.reveal(state, digit, value_BN)
            values.append(value_BN)
            confidences.append(confidence_BN)
        return join_digits(torch.stack(values, -1), self.levels), torch.stack(confidences).sum(0)


class IndependentDigits(Digits):
    """One linear layer; no digit knows of the others.

    Args:
        width: D, of the transformer.
        levels: of the digits of a token.
    """

    def __init__(self, width: int, levels: tuple[int, ...]) -> None:
        super().__init__(levels)
        self.to_logits = nn.Linear(width, sum(levels), bias=False)
        nn.init.normal_(self.to_logits.weight, std=0.5 * width**-0.5)

    def begin(self, x: Tensor) -> Tensor:
        """The logits of all digits, one after another, ``...F``."""
        return self.to_logits(x)

    def logits(self, state: Tensor, digit: int) -> Tensor:
        """As of `Digits`."""
        return state.split(self.levels, -1)[digit]

    def reveal(self, state: Tensor, digit: int, value: Tensor) -> Tensor:
        """The same state: no digit changes the logits of another."""
        return state
