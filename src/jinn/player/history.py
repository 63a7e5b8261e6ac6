"""What a player has done so far, so that he may go back and take another way.

The world is a function of prompt, seed and keys. So a few states along the way are enough: any other frame
is played again from the state before it, and comes out the same.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from torch import Tensor

from jinn.models.sampling import SamplingConfig
from jinn.player.scheduler import Frame

# A state of the built-in world has some 3 MB; of sixteen, none is more than 1/8 of the session away.
MOST_KEPT = 16
FIRST_SPACING = 8


@dataclass
class History:
    """A roll-out from its prompt to its newest frame, in bounded memory.

    Attributes:
        prompt_BTHWC: uint8, B = 1: what it began from.
        seed: of its chance.
        actions: the action that led to each frame after the prompt.
        samplings: how each of these was drawn, the index of one of `ways`.
        ways: the sampling settings that were used.
        kept: some of the frames with their states, by number; 0 is the prompt's.
        spacing: of the frames kept; doubles when they become too many.
    """

    prompt_BTHWC: Tensor
    seed: int
    first: Frame
    actions: array[int] = field(default_factory=lambda: array("H"))
    samplings: array[int] = field(default_factory=lambda: array("H"))
    ways: list[SamplingConfig | None] = field(default_factory=list)
    kept: dict[int, Frame] = field(default_factory=dict)
    spacing: int = FIRST_SPACING

    def __post_init__(self) -> None:
        self.now = self.first
        self.kept[0] = self.first

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
        if self.step % self.spacing == 0:
            self.kept[self.step] = frame
        if len(self.kept) > MOST_KEPT:
            self.spacing *= 2
            self.kept = {step: kept for step, kept in self.kept.items() if step % self.spacing == 0}

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
