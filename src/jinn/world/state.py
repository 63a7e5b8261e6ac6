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
        tokens_BTN: tokens of the newest frames, as many as the tokenizer's decoder looks at. Before the
            first frame of a prompt that frame is repeated: a video that stood still.
        past: keys and values of the frames in the dynamics' window. When the window is full the oldest
            frame leaves; what it did to newer frames stays in their keys and values.
        seeds_B: int64, the seed of each roll-out's chance.
        frames_B: int64, how many frames each has played.
    """

    tokens_BTN: Tensor
    past: Past
    seeds_B: Tensor
    frames_B: Tensor


def stack(states: Sequence[State]) -> State:
    """Join roll-outs, of whatever age, into one batch."""
    return State(
        torch.cat([s.tokens_BTN for s in states]),
        Past(
            torch.cat([s.past.keys_LBNHPC for s in states], dim=1),
            torch.cat([s.past.values_LBNHPC for s in states], dim=1),
            torch.cat([s.past.valid_BP for s in states]),
        ),
        torch.cat([s.seeds_B for s in states]),
        torch.cat([s.frames_B for s in states]),
    )


def take(state: State, rows: Sequence[int]) -> State:
    """Some roll-outs of a batch, in the order given; a row may be taken twice (a fork)."""
    index = torch.tensor(rows, dtype=torch.long, device=state.tokens_BTN.device)
    return State(
        state.tokens_BTN[index],
        Past(
            state.past.keys_LBNHPC[:, index],
            state.past.values_LBNHPC[:, index],
            state.past.valid_BP[index],
        ),
        state.seeds_B[index],
        state.frames_B[index],
    )


def trim(state: State, frames: int) -> State:
    """Forget all but the newest ``frames`` frames of the past (the present frame's tokens stay)."""
    past = state.past
    room = past.valid_BP.shape[1]
    recent_P = torch.arange(room, device=past.valid_BP.device) >= room - frames
    return state._replace(past=past._replace(valid_BP=past.valid_BP & recent_P))
