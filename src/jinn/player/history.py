"""What a player has played so far, so that they may go back and play on differently.

A roll-out is a function of prompt, seed and actions. So a few cached states are enough: any other frame is
computed again from the cached state before it, and comes out the same.
"""

from __future__ import annotations

from torch import Tensor

from jinn.models.maskgit import SamplingConfig
from jinn.player.scheduler import Frame
from jinn.world.graph import STATE, name_tensors
from jinn.world.state import State

MIN_CACHED = 4  # states, however large
EVERY = 8  # frames between two cached states, as long as there is memory


class History:
    """A roll-out from its prompt (uint8, B = 1) to the newest frame, ``now``.

    Cached states take ``max_bytes``, and the last ``max_back`` frames at most can be gone back to: who plays for days
    takes no more memory than who plays for hours.
    """

    def __init__(self, prompt_BTHWC: Tensor, first: Frame, max_bytes: int, max_back: int = 200_000) -> None:
        self.prompt_BTHWC, self.now = prompt_BTHWC, first  # the state of the first frame holds the seed
        self.first = 0  # the first step that can be gone back to
        self.inputs: list[tuple[int, SamplingConfig]] = []  # what led to each frame after the first step
        self.max_back = max_back
        self.cache = {0: first}  # some of the frames with their states, by step; 0 is the prompt's
        # A state of the built-in world takes about 3 MB.
        self.max_cached = max(MIN_CACHED, max_bytes // num_bytes(first.state))

    @property
    def step(self) -> int:
        """The number of frames played since the prompt."""
        return self.first + len(self.inputs)

    @property
    def num_bytes(self) -> int:
        """The memory that it takes, in bytes; an input takes about a hundred."""
        states = num_bytes(self.now.state) * (len(self.cache) + 1)
        return states + self.prompt_BTHWC.nbytes + 100 * len(self.inputs)

    def add(self, action: int, sampling: SamplingConfig, frame: Frame) -> None:
        """Append the newest frame, with the action and the sampling settings that led to it."""
        self.inputs.append((action, sampling))
        self.now = frame
        if self.step % EVERY == 0:
            self.cache[self.step] = frame
            self.thin_out(self.max_cached)
        if len(self.inputs) > self.max_back and len(self.cache) > 1:
            self._forget()

    def inputs_between(self, step: int, later: int) -> list[tuple[int, SamplingConfig]]:
        """What led from a step to a later one."""
        return self.inputs[step - self.first : later - self.first]

    def _forget(self) -> None:
        """Forget what was before the second cached state."""
        del self.cache[self.first]
        second = min(self.cache)
        del self.inputs[: second - self.first]
        self.first = second

    def thin_out(self, max_cached: int) -> None:
        """Cache fewer states, so that going back takes longer. The most closely spaced ones go first."""
        while len(self.cache) > max_cached:
            steps = [*self.cache, self.step]  # in order
            closest = min(range(1, len(self.cache)), key=lambda i: steps[i + 1] - steps[i - 1])
            del self.cache[steps[closest]]

    def cached_before(self, step: int) -> int:
        """The last cached step that is not after the given one."""
        return max(cached for cached in self.cache if cached <= step)

    def go_back(self, step: int, frame: Frame) -> None:
        """Forget what came after a frame."""
        del self.inputs[step - self.first :]
        self.cache = {cached: value for cached, value in self.cache.items() if cached <= step}
        self.now = frame


def num_bytes(state: State) -> int:
    """The memory that a state takes, in bytes."""
    return sum(tensor.nbytes for tensor in name_tensors(state[:3], STATE).values())
