"""Our own dynamics model: conditioned on the previous frame, and masked in training as it is in play.

Five changes to the paper's model (`jinn.models.dynamics`), each with a row in docs/research-log.md:

* **Previous-frame conditioning.** Each token is conditioned on the 3 x 3 neighbourhood of tokens in the previous
  frame, gated by the action. A frame that scrolls by less than a patch can be read off there, and a model that
  need not discover this by attention learns the rest sooner.
* **Clean frames.** The paper masks all frames of a clip at one rate, but in play the past frames are clean.
  Here every frame has a rate of its own, and a fraction of the frames is not masked at all.
* **Late masks.** The paper masks at least half of a frame, but the last steps of MaskGIT reveal a few tokens of a
  frame that is known otherwise. A model that has never seen such a frame leaves its last place empty, though the
  object that belongs there is nowhere else. Here half of the frames are masked as the exponential schedule of play
  masks them (`jinn.models.maskgit.masked_after`): at a rate N^-u, u uniform in [0, 1], down to a single token.
* **Doubt about the action.** A latent action says how the picture changes, and in most states most changes are
  impossible: no video shows a player who sinks into the ground. A model that always trusts the action obeys all the
  same. Here an action is a belief: a distribution over the actions. In training, each clip has a doubt d; each of its
  actions is replaced by a random one with probability d, and the belief says so. So the model learns to weigh the
  action against what the state makes possible. In play, doubt is a dial from obedience to physics.
* **The first frame stays.** In play the past is the model's own, and small errors of colour add up until the level is
  another one. The first frame of a roll-out is real: it can stay in the window as its oldest frame. What it is worth
  is learned in the last phase (`jinn.models.ours.self_rollout`), where clips are longer than the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import Generators, to_device, uniform
from jinn.models.dynamics import Dynamics
from jinn.models.embedding import TokenEmbedding
from jinn.models.ours.causal_digits import CausalDigits
from jinn.models.ours.motion import neighbourhood
from jinn.models.transformer import TransformerConfig


@dataclass(frozen=True)
class PreviousFrameDynamicsConfig:
    """Our own dynamics model.

    Attributes:
        transformer: sizes.
        clean_frames: fraction of the frames that training does not mask, in [0, 1).
        doubt: largest probability with which training replaces an action by a random one, in [0, 1].
        keep_first: whether the first frame of a roll-out (of a longer prompt: the oldest in the window) stays in
            the window. Half of the clips of the training begin with a frame from any time before.
        digit_hidden: units of the head that draws the digits of a token one after another
            (`jinn.models.ours.causal_digits`); 0 draws each by itself.
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    clean_frames: float = 0.3
    doubt: float = 0.0
    keep_first: bool = False
    digit_hidden: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.doubt <= 1:
            raise ValueError(f"doubt is a probability from 0 to 1, got {self.doubt}")
        if not 0 <= self.clean_frames < 1:
            raise ValueError(f"clean_frames is a fraction of at least 0 and below 1, got {self.clean_frames}")
        if self.digit_hidden < 0:
            raise ValueError(f"digit_hidden is 0 or a number of units, got {self.digit_hidden}")

    def build(
        self, levels: tuple[int, ...], grid_hw: tuple[int, int], num_actions: int
    ) -> PreviousFrameDynamics:
        """The model itself; arguments as of `Dynamics`."""
        return PreviousFrameDynamics(self.transformer, levels, grid_hw, num_actions, self)


class PreviousFrameDynamics(Dynamics):
    """See the module's docstring; arguments as of `Dynamics` and `PreviousFrameDynamicsConfig`."""

    def __init__(
        self,
        transformer: TransformerConfig,
        levels: tuple[int, ...],
        grid_hw: tuple[int, int],
        num_actions: int,
        config: PreviousFrameDynamicsConfig,
    ) -> None:
        super().__init__(transformer, levels, grid_hw, num_actions)
        self.clean_frames, self.doubt, self.keep_first = config.clean_frames, config.doubt, config.keep_first
        if config.digit_hidden:
            self.digits = CausalDigits(transformer.width, levels, config.digit_hidden)
        self.previous_frame = PreviousFrame(levels, transformer.width, grid_hw, num_actions)

    def condition(self, previous_BTN: Tensor, actions_BT: Tensor) -> Tensor:
        """As in `Dynamics`: the action, and the previous frame around each position, ``BTND``.

        Args:
            previous_BTN: as in `Dynamics`.
            actions_BT: int64, or beliefs ``BTA`` from `believe`.
        """
        action_BT1D = embed_action(self.action_embed, actions_BT).unsqueeze(2)
        return action_BT1D + self.previous_frame(previous_BTN, actions_BT)

    def perceive(self, actions_BTm1: Tensor, generators: Generators) -> Tensor:
        """The actions as training shows them: beliefs ``BTA`` about actions of which some are random.

        Args:
            actions_BTm1: int64. Without doubt they are returned as they are.
            generators: one per clip, for its doubt and its random actions.
        """
        if not self.doubt:
            return actions_BTm1
        num_actions, steps = self.action_embed.num_embeddings, actions_BTm1.shape[1]
        doubt_B1 = self.doubt * uniform(generators, 1)
        is_random_BTm1 = uniform(generators, steps) < doubt_B1
        random_BTm1 = (uniform(generators, steps) * num_actions).long()
        doubt_B1, is_random_BTm1, random_BTm1 = (
            to_device(x, actions_BTm1.device) for x in (doubt_B1, is_random_BTm1, random_BTm1)
        )
        return believe(torch.where(is_random_BTm1, random_BTm1, actions_BTm1), num_actions, doubt_B1)

    def sample_mask(self, frames: int, tokens: int, generators: Generators) -> Tensor:
        """As in `Dynamics`, but every frame has its own rate, early or late, and some frames stay clean."""
        is_late_BT1 = uniform(generators, frames, 1) < 0.5
        uniform_BT1 = uniform(generators, frames, 1)
        rate_BT1 = torch.where(is_late_BT1, float(tokens) ** -uniform_BT1, 0.5 + 0.5 * uniform_BT1)
        clean_BT1 = uniform(generators, frames, 1) < self.clean_frames
        # No frame follows the last one: clean, it would teach nothing.
        clean_BT1[:, -1] = False
        rate_BT1 = rate_BT1.masked_fill(clean_BT1, 0.0)
        rate_BT1[:, 0] = 0.0
        return uniform(generators, frames, tokens) < rate_BT1


def believe(actions: Tensor, num_actions: int, doubt: Tensor | float) -> Tensor:
    """Belief in actions: ``doubt`` is spread evenly over all of them, the rest is on the action itself.

    Args:
        actions: int64 of any shape.
        num_actions: A.
        doubt: in [0, 1]. Less than 0 exaggerates the action.

    Returns:
        float32, the shape of the actions and A.
    """
    certain = F.one_hot(actions, num_actions).float()
    doubt = torch.as_tensor(doubt, device=certain.device).unsqueeze(-1)
    return certain * (1 - doubt) + doubt / num_actions


def embed_action(embedding: nn.Embedding, actions: Tensor) -> Tensor:
    """The vector of an int64 action, or the mean vector under a belief."""
    return actions @ embedding.weight if actions.is_floating_point() else embedding(actions)


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
        gate_BT1P = 1 + embed_action(self.gate, actions_BT).unsqueeze(2)
        return self.project(F.gelu(self.expand(around_BTNP) * gate_BT1P))
