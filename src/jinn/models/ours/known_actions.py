"""An inverse dynamics model for games whose actions are known: which of them led from one frame to the next.

Where a store holds the true actions, no latent ones need to be found: the dynamics are conditioned on the true ones.
What remains for a model in the place of `jinn.models.latent_actions` is to infer actions where nobody recorded
them: between the frames of a prompt, in videos of the same game, and in generated frames, to check them. It reads
pairs of frames as our own latent action model does (`jinn.models.ours.motion_latent_actions`), and learns by
cross-entropy. (Inverse dynamics that label videos: Baker et al. 2022, VPT.)

Some actions cannot be told from two frames: who runs into a wall stays where he is, whatever was pressed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import check_frames, to_float
from jinn.models.latent_actions import AttentionPooling, check_number_of_actions
from jinn.models.ours.motion import MotionConfig, downsample, stacked_pairs
from jinn.models.patches import grid_of, position_embedding
from jinn.models.transformer import Loss, STTransformer


@dataclass(frozen=True)
class KnownActionsConfig(MotionConfig):
    """Known actions, and the model that infers them.

    Attributes:
        num_actions: A, 2 to 64.
    """

    num_actions: int = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number_of_actions(self.num_actions)

    @classmethod
    def sized_as(cls, other: MotionConfig, num_actions: int) -> KnownActionsConfig:
        """The sizes of another model of motion; raises ValueError if a world cannot have so many actions."""
        shared = {own.name: getattr(other, own.name) for own in fields(MotionConfig)}
        return cls(**shared, num_actions=num_actions)

    def build(self) -> KnownActionModel:
        """The model itself."""
        return KnownActionModel(self)


class KnownActionModel(nn.Module):
    """See the module's docstring. A world needs of it what it needs of a latent action model: `encode`."""

    def __init__(self, config: KnownActionsConfig) -> None:
        super().__init__()
        self.config, self.num_actions = config, config.num_actions
        tokens, width = math.prod(grid_of(config.small_hw, config.patch)), config.encoder.width
        self.embed = nn.Linear(6 * config.patch**2 + config.displacements, width)
        self.encoder_position_ND = position_embedding(tokens, width)
        self.encoder = STTransformer(config.encoder)
        self.pooling = AttentionPooling(width, width)
        self.to_logits = nn.Linear(width, config.num_actions)

    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to logits ``B(T-1)A``."""
        config = self.config
        pixels_BTHWC = downsample(to_float(frames_BTHWC), config.downsample)
        x_BTND = self.embed(stacked_pairs(pixels_BTHWC, config.search_radius, config.patch))
        return self.to_logits(self.pooling(self.encoder(x_BTND + self.encoder_position_ND)))

    @torch.no_grad()
    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames to int64 ``actions_BTm1`` in [0, A): the likeliest action of each step between neighbours.

        Raises:
            JinnError: frames are not uint8 BTHWC of the model's size.
        """
        check_frames(frames_BTHWC, self.config.size_hw)
        return self(frames_BTHWC).argmax(-1)

    def loss(self, frames_BTHWC: Tensor, actions_BTm1: Tensor) -> Loss:
        """Cross-entropy of the true actions.

        Args:
            frames_BTHWC: uint8 clips of at least 2 frames.
            actions_BTm1: int64 in [0, A); a step whose action is unknown (-1) teaches nothing.

        Returns:
            The loss in nats, and for the log ``accuracy``, the fraction of the steps whose likeliest action is true.
        """
        logits_BTm1A = self(frames_BTHWC)
        # The mean over all steps, known or not: so every clip counts the same whichever others share its batch.
        nll_X = F.cross_entropy(
            logits_BTm1A.float().flatten(0, 1), actions_BTm1.flatten(), ignore_index=-1, reduction="none"
        )
        right_BTm1 = logits_BTm1A.detach().argmax(-1) == actions_BTm1
        return nll_X.mean(), {"accuracy": right_BTm1.float().mean()}
