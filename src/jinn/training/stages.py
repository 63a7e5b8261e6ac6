"""What each phase of training computes: the tokenizer, the latent actions, the dynamics.

`jinn.training.recipe.phases` says which stage a phase has.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jinn.contracts import Generators, JinnError, to_device, to_uint8
from jinn.data.clips import Batch
from jinn.models.latent_actions import LatentActionModel
from jinn.models.ours.known_actions import KnownActionModel
from jinn.models.ours.motion_latent_actions import MotionLatentActionModel
from jinn.models.ours.self_rollout import self_rollout_loss
from jinn.models.quantize import perplexity
from jinn.training.loop import Clips, Stage
from jinn.training.optim import TrainingConfig
from jinn.world.world import World

Loss = tuple[Tensor, dict[str, Tensor]]

# Batches whose latents k-means turns into the codebook of latent actions.
CLUSTERED_BATCHES = 32


class TokenizerStage(Stage):
    """The tokenizer reconstructs frames (paper, first phase)."""

    def initialize(self, first_BTHWC: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Initial weights and the loss scale, from the first clips."""
        self.world.tokenizer.initialize_from_data(first_BTHWC, generator)
        self.loss_scale = self.world.tokenizer.loss_scale(first_BTHWC)
        return [self.loss_scale, *self.world.tokenizer.parameters()]

    def loss(self, clips: Batch, generators: Generators) -> Loss:
        """The loss of `jinn.models.tokenizer`."""
        return self.world.tokenizer.loss(clips.frames_BTHWC, self.loss_scale)

    @torch.no_grad()
    def preview(self, world: World) -> np.ndarray:
        """Real frames above their reconstructions."""
        reconstructed = world.tokenizer.decode(world.tokenizer.encode(self.preview_BTHWC))
        return contact_sheet([self.preview_BTHWC[:, -1], reconstructed[:, -1]])


class LatentActionStage(Stage):
    """Our latent action model learns by itself, without quantisation; then k-means makes codes of its latents."""

    def __init__(self, world: World, preview_BTHWC: Tensor) -> None:
        super().__init__(world, preview_BTHWC)
        if not isinstance(world.latent_actions, MotionLatentActionModel):
            raise JinnError(
                "latent_action_training is for our own latent action model: the paper's learns with the dynamics"
            )

    @property
    def model(self) -> MotionLatentActionModel:
        """The model that learns."""
        return cast(MotionLatentActionModel, self.world.latent_actions)

    def initialize(self, first_BTHWC: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The loss scale, from the first clips."""
        self.loss_scale = self.model.loss_scale(first_BTHWC)
        return [self.loss_scale]

    def loss(self, clips: Batch, generators: Generators) -> Loss:
        """`MotionLatentActionModel.continuous_loss` with fresh noise."""
        frames_BTHWC = clips.frames_BTHWC
        shape = (frames_BTHWC.shape[1] - 1, self.model.config.quantizer.dim)
        noise_BTm1d = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        noise_BTm1d = to_device(noise_BTm1d, frames_BTHWC.device)
        loss, report = self.model.continuous_loss(frames_BTHWC, noise_BTm1d, self.loss_scale)
        return loss, {"action_mse": report["mse"], "copy_mse": report["copy_mse"]}

    @torch.no_grad()
    def preview(self, world: World) -> np.ndarray:
        """Frames, the frames that follow them, and these as predicted from the former and a latent."""
        model = cast(MotionLatentActionModel, world.latent_actions)
        pixels_BTHWC = model.preprocess(self.preview_BTHWC)
        predicted_BTHWC = model.predict_next(pixels_BTHWC[:, :-1], model.encode_pixels(pixels_BTHWC))
        rows = [pixels_BTHWC[:, -2], pixels_BTHWC[:, -1], predicted_BTHWC[:, -1]]
        return contact_sheet([to_uint8(row) for row in rows])

    @torch.no_grad()
    def finish(self, world: World, clips: Clips, config: TrainingConfig, seed: int) -> dict[str, Tensor]:
        """Make codes of the latents of the clips that would come next."""
        model, device = cast(MotionLatentActionModel, world.latent_actions), self.preview_BTHWC.device
        later = (clips(config.steps + i, range(config.batch)).frames_BTHWC for i in range(CLUSTERED_BATCHES))
        latents = [model.encode_pixels(model.preprocess(to_device(frames, device))) for frames in later]
        generator = torch.Generator().manual_seed(seed)
        # The best of ten: a single start may give a rare but distinct action no code of its own.
        model.quantizer.cluster(torch.cat([x.flatten(0, 1) for x in latents]), generator, starts=10)
        return {"latent_actions.quantizer.codebook_KD": model.quantizer.codebook_KD}


class KnownActionStage(Stage):
    """The model that infers known actions learns from the true ones."""

    def loss(self, clips: Batch, generators: Generators) -> Loss:
        """The loss of `jinn.models.ours.known_actions`."""
        model = cast(KnownActionModel, self.world.latent_actions)
        loss, report = model.loss(clips.frames_BTHWC, clips.actions_BTm1)
        return loss, {"action_accuracy": report["accuracy"]}

    @torch.no_grad()
    def preview(self, world: World) -> np.ndarray:
        """Frames above those that follow them, in the order of the action that is inferred between them."""
        order_B = world.infer_actions(self.preview_BTHWC)[:, -1].argsort(stable=True)
        return contact_sheet([self.preview_BTHWC[order_B, -2], self.preview_BTHWC[order_B, -1]])


class DynamicsStage(Stage):
    """The dynamics learn on the tokens of a frozen tokenizer, and on known actions or those of a frozen model."""

    def __init__(self, world: World, preview_BTHWC: Tensor) -> None:
        super().__init__(world, preview_BTHWC)
        world.tokenizer.requires_grad_(False)
        world.latent_actions.requires_grad_(False)

    def loss(self, clips: Batch, generators: Generators) -> Loss:
        """The loss of `jinn.models.dynamics`; where the first frame stays in the window, with one from long before."""
        world, first_BN = self.world, None
        if world.dynamics.keep_first:
            with exact(clips.first_BHWC):
                first_BN = world.tokenizer.encode(clips.first_BHWC.unsqueeze(1)).squeeze(1)
        return world.dynamics.loss(*self.encode(clips), generators, first_BN)

    def encode(self, clips: Batch) -> tuple[Tensor, Tensor]:
        """``tokens_BTN, actions_BTm1`` of clips, as in play. Where actions are known, only those that were not recorded
        are inferred."""
        world, frames_BTHWC = self.world, clips.frames_BTHWC
        with exact(frames_BTHWC):
            tokens_BTN = world.tokenizer.encode(frames_BTHWC)
            actions_BTm1 = world.infer_actions(frames_BTHWC)
        if world.has_known_actions:
            actions_BTm1 = torch.where(clips.actions_BTm1 < 0, actions_BTm1, clips.actions_BTm1)
        return tokens_BTN, actions_BTm1

    @torch.no_grad()
    def preview(self, world: World) -> np.ndarray:
        """A real clip, the roll-out under its inferred actions, then the same start under each action."""
        world.eval()
        real_THWC = self.preview_BTHWC[0]
        length = len(real_THWC)
        inferred = world.infer_actions(self.preview_BTHWC[:1])[0].tolist()
        rows = [inferred, *([action] * (length - 1) for action in range(min(world.num_actions, 8)))]
        actions_BTm1 = torch.tensor(rows, device=real_THWC.device)
        # The same seed in all rows: they differ only by what the actions do.
        start_B1HWC = real_THWC[:1].expand(len(rows), 1, -1, -1, -1)
        state, frame_BHWC = world.reset(start_B1HWC, [0] * len(rows))
        frames = [frame_BHWC]
        for actions_B in actions_BTm1.unbind(1):
            state, frame_BHWC = world.step(state, actions_B)
            frames.append(frame_BHWC)
        return contact_sheet([real_THWC, *torch.stack(frames, dim=1)])

    def export(self, world: World, run: Path) -> None:
        """The world as it is now, playable: RUN/world."""
        world.save(run / "world")


class JointStage(DynamicsStage):
    """Latent actions and dynamics learn together, each by its own loss (paper, second phase)."""

    def __init__(self, world: World, preview_BTHWC: Tensor) -> None:
        super().__init__(world, preview_BTHWC)
        world.latent_actions.requires_grad_(True)

    def initialize(self, first_BTHWC: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The loss scale of the latent actions, from the first clips."""
        model = cast(LatentActionModel, self.world.latent_actions)
        self.loss_scale = model.loss_scale(self.world.seen_by_actions(first_BTHWC))
        return [self.loss_scale]

    def loss(self, clips: Batch, generators: Generators) -> Loss:
        """The sum of the losses of `jinn.models.latent_actions` and `jinn.models.dynamics`."""
        world, frames_BTHWC = self.world, clips.frames_BTHWC
        with exact(frames_BTHWC):
            tokens_BTN = world.tokenizer.encode(frames_BTHWC)
            seen = world.seen_by_actions(frames_BTHWC)
        model = cast(LatentActionModel, world.latent_actions)
        action_loss, report = model.loss(seen, self.loss_scale)
        token_loss, metrics = world.dynamics.loss(tokens_BTN, report["actions"], generators)
        metrics["action_mse"] = report["mse"]
        metrics["action_perplexity"] = perplexity(report["actions"], world.num_actions)
        return action_loss + token_loss, metrics


class SelfRolloutStage(DynamicsStage):
    """The dynamics learn on pasts that they sampled themselves (our own last phase)."""

    def loss(self, clips: Batch, generators: Generators) -> Loss:
        """The loss of `jinn.models.ours.self_rollout`, whose frames are sampled as in play."""
        sampling = self.world.config.sampling
        return self.world.dynamics.call(self_rollout_loss, *self.encode(clips), generators, sampling)


def exact(frames_BTHWC: Tensor) -> torch.autocast:
    """No autocast: what a frozen model says of frames is what it says in play.

    In bfloat16 up to half of the tokens of a large codebook are others, and dynamics that have learned on those do not
    know the tokens of play (docs/research-log.md).
    """
    return torch.autocast(frames_BTHWC.device.type, enabled=False)


def contact_sheet(rows_BHWC: list[Tensor], gap: int = 2) -> np.ndarray:
    """Rows of as many frames each as one picture, uint8 HWC, with white between the frames."""
    frames_RBHWC = F.pad(torch.stack(rows_BHWC), (0, 0, 0, gap, 0, gap), value=255)
    rows_RHBWC = frames_RBHWC.transpose(1, 2)
    picture_HWC = rows_RHBWC.flatten(2, 3).flatten(0, 1)
    return picture_HWC[:-gap, :-gap].cpu().numpy()
