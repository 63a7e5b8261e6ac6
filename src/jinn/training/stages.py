"""What each phase of training computes: the tokenizer, then latent actions and dynamics together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from jinn.models.dynamics import Dynamics
from jinn.models.latent_actions import LatentActionModel
from jinn.models.quantize import VQ
from jinn.models.tokenizer import VideoTokenizer
from jinn.training.loop import Clips
from jinn.world.rollout import World


@dataclass(frozen=True)
class LatentActionSchedule:
    """When the latent action model trains how, in steps of phase 2.

    Attributes:
        warmup: first steps, in which latents are blurred by noise instead of quantised; ended by k-means.
            0 is the paper's.
        alone: first steps, in which the dynamics model waits for codes that mean something. 0 is the
            paper's: both learn from the first step.
        until: steps after which the latent actions are frozen, so that codes keep their meaning and the
            time goes to the dynamics; -1 is the paper's: never.
        restart_every: steps between restarts of dead codes; 0 is never (paper).
    """

    warmup: int = 0
    alone: int = 0
    until: int = -1
    restart_every: int = 0


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


class WorldStage:
    """Phase 2: latent actions on pixels, dynamics on the frozen tokenizer's tokens."""

    name = "world"

    def __init__(
        self, world: World, schedule: LatentActionSchedule, clips: Clips, shown_BTHWC: Tensor
    ) -> None:
        self.world, self.schedule, self.clips, self.shown_BTHWC = world, schedule, clips, shown_BTHWC
        world.tokenizer.requires_grad_(False)

    def trainable(self) -> dict[str, nn.Module]:
        return {"latent_actions": self.latent_actions, "dynamics": self.dynamics}

    @property
    def latent_actions(self) -> LatentActionModel:
        return self.world.latent_actions

    @property
    def dynamics(self) -> Dynamics:
        return self.world.dynamics

    def loss(
        self, step: int, frames_BTHWC: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        schedule = self.schedule
        loss = torch.zeros((), device=frames_BTHWC.device)
        metrics: dict[str, Tensor] = {}
        if schedule.until < 0 or step < schedule.until:
            if step == schedule.warmup and step > 0:
                self.cluster(step, generator)
            noise = None
            if step < schedule.warmup:
                shape = (len(frames_BTHWC), frames_BTHWC.shape[1] - 1, self.latent_actions.quantizer.dim)
                noise = torch.randn(shape, generator=generator).to(frames_BTHWC.device)
            action_loss, report = self.latent_actions.loss(frames_BTHWC, noise)
            actions_BTm1 = report["actions"]
            codebook = self.latent_actions.quantizer
            codebook.note_usage(actions_BTm1)
            every = schedule.restart_every
            if every and step > schedule.warmup and step % every == 0:
                codebook.restart_dead(report["latents"], generator)
            loss = loss + action_loss
            metrics["action_mse"] = report["mse"]
            metrics["actions_used"] = (codebook.usage_K > 0.1 / self.world.num_actions).sum()
        else:
            actions_BTm1 = self.latent_actions.encode(frames_BTHWC)
        if step >= schedule.alone:
            tokens_BTN = self.world.tokenizer.encode(frames_BTHWC)
            token_loss, report = self.dynamics.loss(tokens_BTN, actions_BTm1, generator)
            loss = loss + token_loss
            metrics |= report
        if not loss.requires_grad:
            raise ValueError("no step may train nothing: the dynamics start after the latent actions end")
        return loss, metrics

    @torch.no_grad()
    def cluster(self, step: int, generator: torch.Generator, batches: int = 8) -> None:
        """End the warm-up: the codebook becomes the k-means of the latents of this and the next steps."""
        model = self.latent_actions
        device = model.quantizer.usage_K.device
        latents = [model.latents(model.see(self.clips(step + i).to(device))) for i in range(batches)]
        model.quantizer.cluster(torch.cat([x.flatten(0, 1) for x in latents]), generator)

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
