"""What the config.json of a world holds."""

from __future__ import annotations

from dataclasses import dataclass

from jinn.contracts import check_name
from jinn.data.images import Fit
from jinn.models.dynamics import DynamicsConfig
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.maskgit import SamplingConfig
from jinn.models.ours.conv_tokenizer import ConvTokenizerConfig
from jinn.models.ours.known_actions import KnownActionsConfig
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig
from jinn.models.ours.previous_frame import PreviousFrameDynamicsConfig
from jinn.models.token_latent_actions import TokenLatentActionsConfig
from jinn.models.tokenizer import TokenizerConfig

# The paper's models and our own; the type of a config decides which one is built.
AnyTokenizerConfig = TokenizerConfig | ConvTokenizerConfig
AnyLatentActionsConfig = (
    LatentActionsConfig | TokenLatentActionsConfig | MotionLatentActionsConfig | KnownActionsConfig
)
AnyDynamicsConfig = DynamicsConfig | PreviousFrameDynamicsConfig


@dataclass(frozen=True)
class WorldConfig:
    """A world's models, and how it samples.

    Attributes:
        name: shown to people.
        fps: frames per second of the videos that it was trained on.
        tokenizer, latent_actions, dynamics: the three models. Where actions are known, the second one infers them.
        sampling: how frames are sampled in play.
        fit: how pictures of another shape become frames, in the videos and in play (`jinn.data.images.resize`).
    """

    name: str
    fps: float
    tokenizer: AnyTokenizerConfig
    latent_actions: AnyLatentActionsConfig
    dynamics: AnyDynamicsConfig
    sampling: SamplingConfig
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.fps <= 0:
            raise ValueError(f"fps is above 0, got {self.fps}")
