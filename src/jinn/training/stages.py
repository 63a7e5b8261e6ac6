"""What each phase of training computes: the tokenizer, the latent actions, the dynamics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from jinn.contracts import to_uint8
from jinn.models.latent_actions import LatentActionModel
from jinn.models.quantize import VQ
from jinn.models.tokenizer import VideoTokenizer
from jinn.training.loop import Clips
from jinn.world.rollout import World


class TokenizerStage:
    """Phase 1."""

    name = "tokenizer"

    def __init__(self, tokenizer: VideoTokenizer, shown_BTHWC: Tensor, restart_every: int = 0) -> None:
        self.tokenizer, self.shown_BTHWC = tokenizer, shown_BTHWC
        self.restart_every = restart_every

    def trainable(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer}

    def loss(
        self, step: int, frames_BTHWC: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if step == 0:
            self.tokenizer.begin(frames_BTHWC, generator)
        loss, report = self.tokenizer.loss(frames_BTHWC)
        quantizer = self.tokenizer.quantizer
        if isinstance(quantizer, VQ):
            quantizer.note_usage(report["codes"])
            if self.restart_every and step and step % self.restart_every == 0:
                quantizer.restart_dead(report["latents"], generator)
        return loss, {"mse": report["mse"]}

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """Real frames over their reconstructions."""
        made = self.tokenizer.decode(self.tokenizer.encode(self.shown_BTHWC))
        return sheet([self.shown_BTHWC[:, -1], made[:, -1]])

    def export(self, run: Path) -> None:
        """The tokenizer lives in the checkpoint until the world is written in phase 2."""


class LatentActionStage:
    """The latent actions by themselves, before the dynamics: our remedy against their collapse.

    Latents are blurred by noise instead of quantised, until the model predicts well with them; then k-means
    turns them into codes (`finish`). A codebook from the first step is what makes a LAM collapse: before the
    decoder has any use for latents they are all alike, and one code serves them all.
    """

    name = "latent_actions"

    def __init__(self, model: LatentActionModel, shown_BTHWC: Tensor) -> None:
        self.model, self.shown_BTHWC = model, shown_BTHWC

    def trainable(self) -> dict[str, nn.Module]:
        return {"latent_actions": self.model}

    def loss(
        self, step: int, frames_BTHWC: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        shape = (len(frames_BTHWC), frames_BTHWC.shape[1] - 1, self.model.quantizer.dim)
        noise_BTm1d = torch.randn(shape, generator=generator).to(frames_BTHWC.device)
        loss, report = self.model.loss(frames_BTHWC, noise_BTm1d)
        return loss, {"action_mse": report["mse"], "frozen_mse": report["frozen_mse"]}

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """Frames, those that follow them, and these as drawn from the former and a latent."""
        pixels_BTHWC = self.model.see(self.shown_BTHWC)
        made_BTHWC = self.model.next_pixels(pixels_BTHWC[:, :-1], self.model.latents(pixels_BTHWC))
        rows = [pixels_BTHWC[:, -2], pixels_BTHWC[:, -1], made_BTHWC[:, -1]]
        return sheet([to_uint8(row) for row in rows])

    def export(self, run: Path) -> None:
        """The latent actions live in the checkpoint until the world is written with the dynamics."""

    @torch.no_grad()
    def finish(self, clips: Clips, step: int, seed: int, batches: int = 32) -> None:
        """Make codes of the latents: k-means of those of the clips from ``step`` on."""
        device = self.shown_BTHWC.device
        latents = [self.model.latents(self.model.see(clips(step + i).to(device))) for i in range(batches)]
        generator = torch.Generator().manual_seed(seed)
        self.model.quantizer.cluster(torch.cat([x.flatten(0, 1) for x in latents]), generator, starts=10)


class WorldStage:
    """The dynamics on the frozen tokenizer's tokens; the latent actions with them, or frozen too.

    Args:
        world: all three models.
        shown_BTHWC: a clip for the previews.
        joint: the latent actions learn along (the paper's), by their own loss on pixels.
        restart_every: steps between restarts of dead action codes, if they learn; 0 is never.
    """

    name = "world"

    def __init__(self, world: World, shown_BTHWC: Tensor, joint: bool, restart_every: int = 0) -> None:
        self.world, self.shown_BTHWC = world, shown_BTHWC
        self.joint, self.restart_every = joint, restart_every
        world.tokenizer.requires_grad_(False)
        world.latent_actions.requires_grad_(joint)

    def trainable(self) -> dict[str, nn.Module]:
        learning: dict[str, nn.Module] = {"latent_actions": self.world.latent_actions} if self.joint else {}
        return {**learning, "dynamics": self.world.dynamics}

    def loss(
        self, step: int, frames_BTHWC: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        world = self.world
        tokens_BTN = world.tokenizer.encode(frames_BTHWC)
        if not self.joint:
            return world.dynamics.loss(tokens_BTN, world.latent_actions.encode(frames_BTHWC), generator)
        action_loss, report = world.latent_actions.loss(frames_BTHWC)
        codebook = world.latent_actions.quantizer
        codebook.note_usage(report["actions"])
        if self.restart_every and step and step % self.restart_every == 0:
            codebook.restart_dead(report["latents"], generator)
        token_loss, metrics = world.dynamics.loss(tokens_BTN, report["actions"], generator)
        used = (codebook.usage_K > 0.1 / world.num_actions).sum()
        return action_loss + token_loss, {**metrics, "action_mse": report["mse"], "actions_used": used}

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """A real clip, the roll-out under its inferred actions, then the same start under each action."""
        world = self.world
        was_training = world.training
        world.eval()
        real_THWC = self.shown_BTHWC[:1]
        length = real_THWC.shape[1]
        actions = world.latent_actions.encode(real_THWC)[0].tolist()
        rows = [real_THWC[0]]
        for plan in [actions, *([a] * (length - 1) for a in range(min(world.num_actions, 8)))]:
            state, frame = world.reset(real_THWC[:, :1])
            frames = [frame]
            for action in plan:
                state, frame = world.step(state, torch.tensor([action], device=frame.device))
                frames.append(frame)
            rows.append(torch.cat(frames))
        world.train(was_training)
        return sheet(rows)

    def export(self, run: Path) -> None:
        """The world as it is now, playable: RUN/world."""
        self.world.save(run / "world")


def sheet(rows_BHWC: list[Tensor], gap: int = 2) -> np.ndarray:
    """Rows of frames as one picture, uint8 HWC, on white."""
    height, width = rows_BHWC[0].shape[1:3]
    columns = max(len(row) for row in rows_BHWC)
    picture = np.full(
        (len(rows_BHWC) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8
    )
    for i, row in enumerate(rows_BHWC):
        for j, frame in enumerate(row.cpu().numpy()):
            y, x = i * (height + gap), j * (width + gap)
            picture[y : y + height, x : x + width] = frame
    return picture
