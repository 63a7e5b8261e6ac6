"""The state of a roll-out: all that the next frame depends on, and nothing else.

A state is never changed: `World.step` returns a new one. So a fork is the same value kept twice, a rewind is an
old value, and a batch of roll-outs is their states stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from jinn.contracts import JinnError, find_device
from jinn.files import read_tensors, write_tensors
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

    def __repr__(self) -> str:
        frames, tokens = self.frames_B.tolist(), self.tokens_BN
        return (
            f"State({len(frames)} roll-outs of {tokens.shape[1]} tokens on {tokens.device}, frames {frames})"
        )

    def save(self, path: Path | str) -> None:
        """Write the state as one file of safetensors, from which `State.load` goes on to the same frames."""
        tensors = name_tensors(self[:3], STATE) | {"seeds_B": self.seeds_B, "frames_B": self.frames_B}
        write_tensors(Path(path).expanduser(), tensors)

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> State:
        """The inverse of `save`.

        Args:
            path: of the file.
            device: of the world that plays on.

        Raises:
            JinnError: there is no such file or device, or it holds something else.
        """
        path, device = Path(path).expanduser(), find_device(device)
        if not path.is_file():
            raise JinnError(f"there is no state at {path}: State.save writes one")
        named = read_tensors(path)
        try:
            seeds_B, frames_B = named.pop("seeds_B"), named.pop("frames_B")
            named = {name: x.to(device) for name, x in named.items()}
            state = cls._make((*group_tensors(named, STATE), seeds_B, frames_B))
        except (KeyError, TypeError) as error:
            raise JinnError(f"{path} holds no state ({error}): State.save writes one") from None
        return state


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
