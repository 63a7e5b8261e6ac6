"""Our own dynamics model: conditioned on the previous frame, and masked in training as it is in play.

Two changes to the paper's model (`jinn.models.dynamics`), each with a row in docs/research-log.md:

* **Previous-frame conditioning.** Each token is conditioned on the 3 x 3 neighbourhood of tokens in the previous
  frame, gated by the action. A frame that scrolls by less than a patch can be read off there, and a model that
  need not discover this by attention learns the rest sooner.
* **Clean frames.** The paper masks all frames of a clip at one rate, but in play the past frames are clean.
  Here every frame has a rate of its own, and a fraction of the frames is not masked at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import Generators, uniform
from jinn.models.dynamics import Dynamics
from jinn.models.embedding import TokenEmbedding
from jinn.models.ours.motion import neighbourhood
from jinn.models.transformer import TransformerConfig


@dataclass(frozen=True)
class PreviousFrameDynamicsConfig:
    """Our own dynamics model.

    Attributes:
        transformer: sizes.
        clean_frames: fraction of the frames that training does not mask, in [0, 1).
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    clean_frames: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.clean_frames < 1:
            raise ValueError(f"clean_frames is a fraction of at least 0 and below 1, got {self.clean_frames}")

    def build(
        self, levels: tuple[int, ...], grid_hw: tuple[int, int], num_actions: int
    ) -> PreviousFrameDynamics:
        """The model itself; arguments as of `Dynamics`."""
        return PreviousFrameDynamics(self.transformer, levels, grid_hw, num_actions, self.clean_frames)


class PreviousFrameDynamics(Dynamics):
    """See the module's docstring; arguments as of `Dynamics` and `PreviousFrameDynamicsConfig`."""

    def __init__(
        self,
        transformer: TransformerConfig,
        levels: tuple[int, ...],
        grid_hw: tuple[int, int],
        num_actions: int,
        clean_frames: float,
    ) -> None:
        super().__init__(transformer, levels, grid_hw, num_actions)
        self.clean_frames = clean_frames
        self.previous_frame = PreviousFrame(levels, transformer.width, grid_hw, num_actions)

    def condition(self, previous_BTN: Tensor, actions_BT: Tensor) -> Tensor:
        """As in `Dynamics`: the action, and the previous frame around each position, ``BTND``."""
        return super().condition(previous_BTN, actions_BT) + self.previous_frame(previous_BTN, actions_BT)

    def sample_mask(self, frames: int, tokens: int, generators: Generators) -> Tensor:
        """As in `Dynamics`: every frame has its own rate in [0.5, 1], and some frames stay clean."""
        rate_BT1 = 0.5 + 0.5 * uniform(generators, frames, 1)
        clean_BT1 = uniform(generators, frames, 1) < self.clean_frames
        # No frame follows the last one: clean, it would teach nothing.
        clean_BT1[:, -1] = False
        rate_BT1 = rate_BT1.masked_fill(clean_BT1, 0.0)
        rate_BT1[:, 0] = 0.0
        return uniform(generators, frames, tokens) < rate_BT1


class PreviousFrame(nn.Module):
    """The 3 x 3 neighbourhood of each token in the previous frame, gated by the action.

    Where the picture moves depends on the action, and what is then seen at a position depends on both the
    neighbourhood and the direction of the motion: a product, so the action multiplies the channels.
    """

    def __init__(
        self, levels: tuple[int, ...], width: int, grid_hw: tuple[int, int], num_actions: int
    ) -> None:
        super().__init__()
        self.grid_hw = grid_hw
        self.token_embed = TokenEmbedding(levels, width // 4, std=0.5)
        self.expand = nn.Linear(9 * (width // 4), 2 * width)
        self.gate = nn.Embedding(num_actions, 2 * width)
        self.project = nn.Linear(2 * width, width)
        nn.init.normal_(self.gate.weight, std=0.5)

    def forward(self, previous_BTN: Tensor, actions_BT: Tensor) -> Tensor:
        """Tokens of the previous frames and the actions that lead away from them, to ``BTND``."""
        around_BTNP = neighbourhood(self.token_embed(previous_BTN), self.grid_hw)
        gate_BT1P = 1 + self.gate(actions_BT).unsqueeze(2)
        return self.project(F.gelu(self.expand(around_BTNP) * gate_BT1P))
