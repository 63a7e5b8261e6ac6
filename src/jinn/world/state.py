"""The state of a roll-out: all that the next frame depends on, and nothing else.

A state is never changed: `World.step` returns a new one. So a fork is the same value kept twice, a rewind is an
old value, and a batch of roll-outs is their states stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.files import read_tensors, write_tensors
from jinn.models.attention import KVCache
from jinn.world.graph import AXES, STATE, group_tensors, name_tensors

if TYPE_CHECKING:
    from jinn.world.world import World


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
        write_tensors(Path(path).expanduser(), self._named())

    @classmethod
    def load(cls, path: Path | str, world: World) -> State:
        """The inverse of `save`.

        Args:
            path: of the file.
            world: that plays on, to whose device the state goes.

        Raises:
            JinnError: there is no such file, or it holds something else than a state of this world.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise JinnError(f"there is no state at {path}: State.save writes one")
        named = read_tensors(path)
        alike = world.reset(world.prompts[:1, None])[0]._named()
        rollouts = named["seeds_B"].numel() if "seeds_B" in named else 0
        # The largest number in each tensor of integers; a seed is any number, and frames are never so many.
        most = {"tokens_BN": world.tokenizer.codebook_size - 1, "seeds_B": None}
        for name in {**alike, **named}:
            if not _fits(
                named.get(name), alike.get(name), AXES.get(name, 0), rollouts, most.get(name, 2**53)
            ):
                raise JinnError(f"{path} holds no state of this world (see {name}): State.save writes one")
        on_device = {name: x.to(alike[name]) for name, x in named.items()}
        return cls._make((*group_tensors(on_device, STATE), on_device["seeds_B"], on_device["frames_B"]))

    def _named(self) -> dict[str, Tensor]:
        return name_tensors(self[:3], STATE) | {"seeds_B": self.seeds_B, "frames_B": self.frames_B}


def _fits(x: Tensor | None, alike: Tensor | None, batch_axis: int, rollouts: int, most: int | None) -> bool:
    """Whether a tensor of a file may take the place of one like another, which is of a single roll-out."""
    if x is None or alike is None or not rollouts or x.is_floating_point() != alike.is_floating_point():
        return False
    shape = [rollouts if axis == batch_axis else size for axis, size in enumerate(alike.shape)]
    if list(x.shape) != shape:
        return False
    if x.is_floating_point():
        return bool(x.isfinite().all())
    return x.dtype == alike.dtype and (
        x.dtype == torch.bool or most is None or bool(((x >= 0) & (x <= most)).all())
    )


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
