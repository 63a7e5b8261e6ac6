"""What each phase of training computes: the tokenizer, the latent actions, the dynamics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import Chance, to_device, to_uint8
from jinn.models.quantize import perplexity
from jinn.world.rollout import World


class TokenizerStage:
    """Phase 1."""

    name = "tokenizer"
    learns = ("tokenizer",)

    def __init__(self, world: World, shown_BTHWC: Tensor) -> None:
        self.world, self.shown_BTHWC = world, shown_BTHWC

    def begin(self, first_BTHWC: Tensor, chance: torch.Generator) -> list[Tensor]:
        self.world.tokenizer.begin(first_BTHWC, chance)
        self.unit = self.world.tokenizer.unit(first_BTHWC)
        return [self.unit, *self.world.tokenizer.parameters()]

    def loss(self, step: int, frames_BTHWC: Tensor, chance: Chance) -> tuple[Tensor, dict[str, Tensor]]:
        loss, report = self.world.tokenizer.loss(frames_BTHWC, self.unit)
        return loss, {"mse": report["mse"]}

    @torch.no_grad()
    def preview(self, world: World) -> np.ndarray:
        """Real frames over their reconstructions."""
        made = world.tokenizer.decode(world.tokenizer.encode(self.shown_BTHWC))
        return sheet([self.shown_BTHWC[:, -1], made[:, -1]])

    def export(self, world: World, run: Path) -> None:
        """The tokenizer lives in the checkpoint until the world is written in phase 2."""


class LatentActionStage:
    """The latent actions by themselves, before the dynamics: our remedy against their collapse.

    Latents are blurred by noise instead of quantised, until the model predicts well with them; then k-means
    turns them into codes (`finish`). A codebook from the first step is what makes a LAM collapse: before the
    decoder has any use for latents they are all alike, and one code serves them all.
    """

    name = "latent_actions"
    learns = ("latent_actions",)

    def __init__(self, world: World, shown_BTHWC: Tensor) -> None:
        self.world, self.shown_BTHWC = world, shown_BTHWC

    def begin(self, first_BTHWC: Tensor, chance: torch.Generator) -> list[Tensor]:
        self.unit = self.world.latent_actions.unit(first_BTHWC)
        return [self.unit]

    def loss(self, step: int, frames_BTHWC: Tensor, chance: Chance) -> tuple[Tensor, dict[str, Tensor]]:
        shape = (frames_BTHWC.shape[1] - 1, self.world.latent_actions.quantizer.dim)
        noise_BTm1d = torch.stack([torch.randn(shape, generator=generator) for generator in chance])
        noise_BTm1d = to_device(noise_BTm1d, frames_BTHWC.device)
        loss, report = self.world.latent_actions.loss(frames_BTHWC, noise_BTm1d, self.unit)
        return loss, {"action_mse": report["mse"], "frozen_mse": report["frozen_mse"]}

    @torch.no_grad()
    def preview(self, world: World) -> np.ndarray:
        """Frames, those that follow them, and these as drawn from the former and a latent."""
        model = world.latent_actions
        pixels_BTHWC = model.see(self.shown_BTHWC)
        made_BTHWC = model.next_pixels(pixels_BTHWC[:, :-1], model.latents(pixels_BTHWC))
        rows = [pixels_BTHWC[:, -2], pixels_BTHWC[:, -1], made_BTHWC[:, -1]]
        return sheet([to_uint8(row) for row in rows])

    def export(self, world: World, run: Path) -> None:
        """The latent actions live in the checkpoint until the world is written with the dynamics."""

    @torch.no_grad()
    def finish(self, batches: Iterable[Tensor], seed: int) -> list[Tensor]:
        """Make codes of the latents: k-means of those of some batches.

        Returns:
            What was set, for all ranks to have alike.
        """
        model, device = self.world.latent_actions, self.shown_BTHWC.device
        latents = [model.latents(model.see(to_device(frames_BTHWC, device))) for frames_BTHWC in batches]
        generator = torch.Generator().manual_seed(seed)
        model.quantizer.cluster(torch.cat([x.flatten(0, 1) for x in latents]), generator, starts=10)
        return [model.quantizer.codebook_KD]


class WorldStage:
    """The dynamics on the frozen tokenizer's tokens; the latent actions with them, or frozen too.

    Args:
        world: all three models.
        shown_BTHWC: a clip for the previews.
        joint: the latent actions learn along (the paper's), by their own loss on pixels.
    """

    name = "world"

    def __init__(self, world: World, shown_BTHWC: Tensor, joint: bool) -> None:
        self.world, self.shown_BTHWC, self.joint = world, shown_BTHWC, joint
        self.learns = ("latent_actions", "dynamics") if joint else ("dynamics",)
        world.tokenizer.requires_grad_(False)
        world.latent_actions.requires_grad_(joint)

    def begin(self, first_BTHWC: Tensor, chance: torch.Generator) -> list[Tensor]:
        self.unit = self.world.latent_actions.unit(first_BTHWC)
        return [self.unit]

    def loss(self, step: int, frames_BTHWC: Tensor, chance: Chance) -> tuple[Tensor, dict[str, Tensor]]:
        world = self.world
        tokens_BTN = world.tokenizer.encode(frames_BTHWC)
        if not self.joint:
            return world.dynamics.loss(tokens_BTN, world.latent_actions.encode(frames_BTHWC), chance)
        action_loss, report = world.latent_actions.loss(frames_BTHWC, unit=self.unit)
        token_loss, metrics = world.dynamics.loss(tokens_BTN, report["actions"], chance)
        metrics |= {
            "action_mse": report["mse"],
            "action_perplexity": perplexity(report["actions"], world.num_actions),
        }
        return action_loss + token_loss, metrics

    @torch.no_grad()
    def preview(self, world: World) -> np.ndarray:
        """A real clip, the roll-out under its inferred actions, then the same start under each action."""
        world.eval()
        real_THWC = self.shown_BTHWC[0]
        length = len(real_THWC)
        actions = world.latent_actions.encode(self.shown_BTHWC[:1])[0].tolist()
        plans = [actions, *([a] * (length - 1) for a in range(min(world.num_actions, 8)))]
        plans_BTm1 = torch.tensor(plans, device=real_THWC.device)
        # The same seed for all: what differs between the rows is what the actions do.
        start_B1HWC = real_THWC[:1].expand(len(plans), 1, -1, -1, -1)
        state, frame_BHWC = world.reset(start_B1HWC, [0] * len(plans))
        frames = [frame_BHWC]
        for actions_B in plans_BTm1.unbind(1):
            state, frame_BHWC = world.step(state, actions_B)
            frames.append(frame_BHWC)
        return sheet([real_THWC, *torch.stack(frames, dim=1)])

    def export(self, world: World, run: Path) -> None:
        """The world as it is now, playable: RUN/world."""
        world.save(run / "world")


class PlayStage(WorldStage):
    """The dynamics go on learning, now from pasts that they drew themselves; all else rests."""

    name = "play"

    def __init__(self, world: World, shown_BTHWC: Tensor) -> None:
        super().__init__(world, shown_BTHWC, joint=False)

    def loss(self, step: int, frames_BTHWC: Tensor, chance: Chance) -> tuple[Tensor, dict[str, Tensor]]:
        tokens_BTN = self.world.tokenizer.encode(frames_BTHWC)
        actions_BTm1 = self.world.latent_actions.encode(frames_BTHWC)
        temperature = self.world.config.sampling.temperature
        return self.world.dynamics.played_loss(tokens_BTN, actions_BTm1, chance, temperature)


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
