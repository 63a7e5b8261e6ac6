"""Policies that need no skill: an agent that solves no more levels than they do learned nothing from what it sees."""

from __future__ import annotations

import torch
from torch import Tensor

from jinn.agents.play import Policy


def constant_action(action: int) -> Policy:
    """A policy that always takes the same action."""
    return lambda frames_BHWC: torch.full((len(frames_BHWC),), action)


def random_actions(num_actions: int, generator: torch.Generator) -> Policy:
    """A policy that takes each of the actions equally often."""
    return lambda frames_BHWC: torch.randint(num_actions, (len(frames_BHWC),), generator=generator)


def blind_actions(counts_U: Tensor, generator: torch.Generator) -> Policy:
    """A policy that takes each action as often as it was counted, whatever the frame shows.

    Args:
        counts_U: float, how often each action was taken; the tensor may still be added to.
        generator: of the actions.
    """
    return lambda frames_BHWC: counts_U.multinomial(len(frames_BHWC), True, generator=generator)
