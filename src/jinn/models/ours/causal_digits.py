"""Digits that belong together: each digit of a token is drawn in the knowledge of those before it.

Where the next frame may look in two ways, a token that mixes digits of both looks like neither: at a temperature above
0 new parts of a picture flicker, and at 0 they are an average. Here the transformer is passed once and a small head
draws the digits one after another, so a token is sampled from a joint distribution (the chain rule; our own form).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from jinn.models.digits import Digits


class CausalDigits(Digits):
    """One hidden layer; the state is the input of its activation, and each revealed digit adds a vector to it.

    Args:
        width: D, of the transformer.
        levels: of the digits of a token.
        hidden: units of the hidden layer.
    """

    def __init__(self, width: int, levels: tuple[int, ...], hidden: int) -> None:
        super().__init__(levels)
        self.to_hidden = nn.Linear(width, hidden)
        revealed = [nn.Embedding(count, hidden) for count in levels[:-1]]
        to_logits = [nn.Linear(hidden, count, bias=False) for count in levels]
        for embedding in revealed:
            nn.init.normal_(embedding.weight, std=0.5)
        for linear in to_logits:
            nn.init.normal_(linear.weight, std=0.5 * hidden**-0.5)
        self.revealed, self.to_logits = nn.ModuleList(revealed), nn.ModuleList(to_logits)

    def begin(self, x: Tensor) -> Tensor:
        """As of `Digits`."""
        return self.to_hidden(x)

    def logits(self, state: Tensor, digit: int) -> Tensor:
        """As of `Digits`."""
        return self.to_logits[digit](F.gelu(state))

    def reveal(self, state: Tensor, digit: int, value: Tensor) -> Tensor:
        """As of `Digits`; nothing follows the last digit."""
        return state + self.revealed[digit](value) if digit < len(self.revealed) else state
