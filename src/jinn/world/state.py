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


class State(NamedTuple):
    """The states of B roll-outs. Their size is fixed: it does not grow with the frames played.

    Attributes:
        tokens_BN: tokens of the present frame.
        dynamics_cache: keys and values of the frames in the dynamics' window. When the window is full, the
            oldest frame leaves; its effect on newer frames remains in their keys and values.
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

    def join(caches: Sequence[KVCache]) -> KVCache:
        return KVCache(
            torch.cat([cache.keys_LBNHPC for cache in caches], dim=1),
            torch.cat([cache.values_LBNHPC for cache in caches], dim=1),
            torch.cat([cache.valid_BP for cache in caches]),
            torch.cat([cache.frames_B for cache in caches]),
        )

    decoder_caches = [s.decoder_cache for s in states if s.decoder_cache is not None]
    return State(
        torch.cat([s.tokens_BN for s in states]),
        join([s.dynamics_cache for s in states]),
        join(decoder_caches) if decoder_caches else None,
        torch.cat([s.seeds_B for s in states]),
        torch.cat([s.frames_B for s in states]),
    )


def take(state: State, rows: Sequence[int]) -> State:
    """Some roll-outs of a batch, in the given order; a row may be taken twice (a fork)."""
    index_B = torch.tensor(rows, dtype=torch.long)
    device_index_B = index_B.to(state.tokens_BN.device)

    def pick(cache: KVCache) -> KVCache:
        keys, values = cache.keys_LBNHPC[:, device_index_B], cache.values_LBNHPC[:, device_index_B]
        return KVCache(keys, values, cache.valid_BP[device_index_B], cache.frames_B[device_index_B])

    return State(
        state.tokens_BN[device_index_B],
        pick(state.dynamics_cache),
        None if state.decoder_cache is None else pick(state.decoder_cache),
        state.seeds_B[index_B],
        state.frames_B[index_B],
    )
