"""The state of a roll-out: all that the next frame depends on, and nothing else.

A state is never changed: `World.step` gives a new one. So a fork is the same value kept twice, a rewind
is an old value, and many players in one batch are their states stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jinn.models.transformer import Past


class State(NamedTuple):
    """Where B roll-outs stand. Its size is fixed: it does not grow with the frames played.

    Attributes:
        tokens_BN: tokens of the present frame.
        past: keys and values of the frames in the dynamics' window. When the window is full the oldest
            frame leaves; what it did to newer frames stays in their keys and values.
        drawn: the same of the tokenizer's decoder; no layer at all where it draws each frame by itself.
        seeds_B: int64, the seed of each roll-out's chance.
        frames_B: int64, how many frames each has played.
    """

    tokens_BN: Tensor
    past: Past
    drawn: Past
    seeds_B: Tensor
    frames_B: Tensor


def stack(states: Sequence[State]) -> State:
    """Join roll-outs, of whatever age, into one batch."""

    def join(pasts: list[Past]) -> Past:
        return Past(
            torch.cat([past.keys_LBNHPC for past in pasts], dim=1),
            torch.cat([past.values_LBNHPC for past in pasts], dim=1),
            torch.cat([past.valid_BP for past in pasts]),
            torch.cat([past.frames_B for past in pasts]),
        )

    return State(
        torch.cat([s.tokens_BN for s in states]),
        join([s.past for s in states]),
        join([s.drawn for s in states]),
        torch.cat([s.seeds_B for s in states]),
        torch.cat([s.frames_B for s in states]),
    )


def take(state: State, rows: Sequence[int]) -> State:
    """Some roll-outs of a batch, in the order given; a row may be taken twice (a fork)."""
    index = torch.tensor(rows, dtype=torch.long)
    there = index.to(state.tokens_BN.device)

    def pick(past: Past) -> Past:
        keys, values = past.keys_LBNHPC[:, there], past.values_LBNHPC[:, there]
        return Past(keys, values, past.valid_BP[there], past.frames_B[there])

    return State(
        state.tokens_BN[there],
        pick(state.past),
        pick(state.drawn),
        state.seeds_B[index],
        state.frames_B[index],
    )


def trim(state: State, frames: int) -> State:
    """Forget all but the newest ``frames`` frames of the past (the present frame stays)."""

    def forget(past: Past) -> Past:
        room = past.valid_BP.shape[1]
        recent_P = torch.arange(room, device=past.valid_BP.device) >= room - frames
        return past._replace(valid_BP=past.valid_BP & recent_P)

    return state._replace(past=forget(state.past), drawn=forget(state.drawn))
