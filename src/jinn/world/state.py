"""The state of a roll-out: all that the next frame depends on, and nothing else.

A state is never changed: `World.step` returns a new one. So a fork is the same value kept twice, a rewind is an
old value, and a batch of roll-outs is their states stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jinn.models.transformer import KVCache
from jinn.world.graph import AXES, STATE, group_tensors, name_tensors


class State(NamedTuple):
    """The states of B roll-outs. Their size is fixed: it does not grow with the frames played.

    Attributes:
        tokens_BN: tokens of the present frame.
        dynamics_cache: keys and values of the frames in the dynamics' window. When the window is full, the
            oldest frame leaves, or the second oldest if the first one stays (`PreviousFrameDynamicsConfig`); its
            effect on newer frames remains in their keys and values.
        decoder_cache: the same of the tokenizer's decoder; None if it decodes each frame by itself.
        seeds_B: int64 on the CPU, the seed of each roll-out.
        frames_B: int64 on the CPU, how many frames each has played.
    """

    tokens_BN: Tensor
    dynamics_cache: KVCache
    decoder_cache: KVCache | None
    seeds_B: Tensor
    frames_B: Tensor


def stack(states: Sequence[State]) -> State:
    """Join roll-outs, of whatever age, into one batch."""
    named = [name_tensors(state[:3], STATE) for state in states]
    joined = {name: torch.cat([tensors[name] for tensors in named], AXES[name]) for name in named[0]}
    seeds_B = torch.cat([state.seeds_B for state in states])
    frames_B = torch.cat([state.frames_B for state in states])
    return State._make((*group_tensors(joined, STATE), seeds_B, frames_B))


def take(state: State, rows: Sequence[int]) -> State:
    """Some roll-outs of a batch, in the given order; a row may be taken twice (a fork)."""
    index_B = torch.tensor(rows, dtype=torch.long)
    device_index_B = index_B.to(state.tokens_BN.device)
    named = name_tensors(state[:3], STATE)
    taken = {name: x.index_select(AXES[name], device_index_B) for name, x in named.items()}
    return State._make((*group_tensors(taken, STATE), state.seeds_B[index_B], state.frames_B[index_B]))
