"""What a player has done so far, so that he may go back and take another way.

The world is a function of prompt, seed and keys. So a few states along the way are enough: any other frame
is played again from the state before it, and comes out the same.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from torch import Tensor

from jinn.models.maskgit import SamplingConfig
from jinn.player.scheduler import Frame
from jinn.world.state import State

# Of the states that are kept for one player (one of the built-in world has some 3 MB).
MEMORY = 32 * 2**20
FEWEST_KEPT = 4
EVERY = 8  # frames, until there are too many states


@dataclass
class History:
    """A roll-out from its prompt to its newest frame, in bounded memory.

    Attributes:
        prompt_BTHWC: uint8, B = 1: what it began from.
        first: the prompt's frame; its state holds the seed.
        actions: the action that led to each frame after the prompt.
        samplings: how each of these was drawn, the index of one of `ways`.
        ways: the sampling settings that were used.
        kept: some of the frames with their states, by number; 0 is the prompt's.
        most: how many of these there may be.
    """

    prompt_BTHWC: Tensor
    first: Frame
    actions: array[int] = field(default_factory=lambda: array("H"))
    samplings: array[int] = field(default_factory=lambda: array("H"))
    ways: list[SamplingConfig | None] = field(default_factory=list)
    kept: dict[int, Frame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = self.first
        self.kept[0] = self.first
        self.most = max(FEWEST_KEPT, MEMORY // num_bytes(self.first.state))

    @property
    def step(self) -> int:
        """How many frames were played since the prompt."""
        return len(self.actions)

    def add(self, action: int, sampling: SamplingConfig | None, frame: Frame) -> None:
        """The newest frame, and how it came about."""
        if sampling not in self.ways:
            self.ways.append(sampling)
        self.actions.append(action)
        self.samplings.append(self.ways.index(sampling))
        self.now = frame
        if self.step % EVERY == 0:
            self.kept[self.step] = frame
            self.thin_out(self.most)

    def thin_out(self, most: int) -> None:
        """Keep fewer states: to go back takes longer then. Those go first that stand closest together."""
        while len(self.kept) > most:
            steps = list(self.kept)  # in order
            gaps = {
                step: after - before
                for before, step, after in zip(steps[:-1], steps[1:], [*steps[2:], self.step], strict=True)
            }
            del self.kept[min(gaps, key=lambda step: gaps[step])]

    def before(self, step: int) -> int:
        """The last frame kept that is not after the given one."""
        return max(kept for kept in self.kept if kept <= step)

    def way_to(self, step: int) -> tuple[int, SamplingConfig | None]:
        """The action that led to a frame, and how the frame was drawn."""
        return self.actions[step - 1], self.ways[self.samplings[step - 1]]

    def go_back(self, step: int, frame: Frame) -> None:
        """Forget what came after a frame."""
        del self.actions[step:], self.samplings[step:]
        self.kept = {kept: value for kept, value in self.kept.items() if kept <= step}
        self.now = frame


def num_bytes(state: State) -> int:
    """How much memory a state takes."""
    tensors = (state.tokens_BN, *state.dynamics_cache, *(state.decoder_cache or ()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
