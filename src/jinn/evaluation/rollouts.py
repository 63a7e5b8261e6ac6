"""Roll-outs of a world on real clips, and how close the predicted frames come to the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jinn.data.clips import clip_generators
from jinn.evaluation.clips import Clips
from jinn.evaluation.estimate import Records
from jinn.evaluation.lpips import lpips
from jinn.evaluation.metrics import psnr, ssim
from jinn.evaluation.motion import mean_change
from jinn.evaluation.networks import Networks
from jinn.evaluation.results import Pictures
from jinn.world.world import World


@dataclass(frozen=True)
class Rollouts:
    """Real clips of T + 1 frames, of which frame 0 is the prompt, and what a world predicts of them.

    Attributes:
        real_BTHWC, tokens_BTN: uint8 frames and their tokens, T + 1 each.
        reconstructed_BTHWC: the decoded tokens.
        latent_BT: int64 latent actions, inferred from the real clips.
        true_BT: int64 true actions, -1 where they are unknown.
        next_BTN, next_BTHWC: tokens and frames predicted with teacher forcing.
        inferred_BTHWC, given_BTHWC: roll-outs from the prompt (which is frame 0, as reconstructed) under
            the inferred latent actions, and under the true ones as far as they can be mapped, else None.
        random: pairs of random actions ``BT`` and the roll-out under them.
    """

    real_BTHWC: Tensor
    tokens_BTN: Tensor
    reconstructed_BTHWC: Tensor
    latent_BT: Tensor
    true_BT: Tensor
    next_BTN: Tensor
    next_BTHWC: Tensor
    inferred_BTHWC: Tensor
    given_BTHWC: Tensor | None
    random: tuple[tuple[Tensor, Tensor], ...]

    def generated(self) -> dict[str, Tensor]:
        """Predicted frames 1 to T, by the name of their regime."""
        made = {"next_frame": self.next_BTHWC, "inferred": self.inferred_BTHWC[:, 1:]}
        return made if self.given_BTHWC is None else made | {"given": self.given_BTHWC[:, 1:]}


def play_clips(
    world: World, clips: Clips, first: int, seed: int, draws: int, latent_U: Tensor | None
) -> Rollouts:
    """Everything that a world predicts of some clips; a clip's prediction does not depend on the others.

    Args:
        world: the world that is measured.
        clips: real clips.
        first: number of the first clip.
        seed: seed of roll-outs and random actions.
        draws: number of random action sequences for each clip.
        latent_U: int64, the latent action of each true action; None if it is unknown.
    """
    device, numbers = world.device, range(first, first + len(clips))
    real_BTHWC = clips.read().to(device)
    B, T = len(clips), clips.frames - 1
    tokens_BTN = world.tokenizer.encode(real_BTHWC)
    latent_BT = world.latent_actions.encode(real_BTHWC)
    rngs = clip_generators(seed, numbers)
    random_BRT = torch.stack([torch.randint(world.num_actions, (draws, T), generator=rng) for rng in rngs])
    seeds = [seed + n for n in numbers]
    next_BTN, next_BTHWC = next_frames(world, real_BTHWC, tokens_BTN, latent_BT, seeds)

    true_BT = clips.actions()
    plans = {"inferred": latent_BT}
    if latent_U is not None and true_BT is not None:
        plans["given"] = to_latent(latent_U, true_BT).to(device)
    plans |= {f"random {r}": random_BRT[:, r].to(device) for r in range(draws)}
    prompts_PBHWC = real_BTHWC[:, 0].expand(len(plans), *real_BTHWC[:, 0].shape)
    played = roll_out(world, prompts_PBHWC.flatten(0, 1), torch.cat([*plans.values()]), seeds * len(plans))
    made = dict(zip(plans, played.unflatten(0, (len(plans), B)), strict=True))
    return Rollouts(
        real_BTHWC,
        tokens_BTN,
        world.tokenizer.decode(tokens_BTN),
        latent_BT,
        torch.full_like(latent_BT, -1) if true_BT is None else true_BT,
        next_BTN,
        next_BTHWC,
        made["inferred"],
        made.get("given"),
        tuple((plans[name], made[name]) for name in plans if name.startswith("random")),
    )


def roll_out(world: World, prompts_BHWC: Tensor, actions_BT: Tensor, seeds: list[int]) -> Tensor:
    """Roll out from one frame each; uint8 ``B(T+1)HWC``, frame 0 is the reconstructed prompt."""
    state, frame = world.reset(prompts_BHWC.unsqueeze(1), seeds)
    frames = [frame]
    for actions_B in actions_BT.unbind(1):
        state, frame = world.step(state, actions_B)
        frames.append(frame)
    return torch.stack(frames, dim=1)


def next_frames(
    world: World, frames_BTHWC: Tensor, tokens_BTN: Tensor, actions_BTm1: Tensor, seeds: list[int]
) -> tuple[Tensor, Tensor]:
    """Predict each frame from the real ones before it (teacher forcing): tokens and frames, ``B(T-1)``."""
    state, _ = world.reset(frames_BTHWC[:, :1], seeds)
    tokens, frames = [], []
    for t, actions_B in enumerate(actions_BTm1.unbind(1)):
        predicted, frame = world.step(state, actions_B)
        tokens.append(predicted.tokens_BN)
        frames.append(frame)
        state = world.observe(state, actions_B, tokens_BTN[:, t + 1])
    return torch.stack(tokens, dim=1), torch.stack(frames, dim=1)


def to_latent(latent_U: Tensor, true_BT: Tensor) -> Tensor:
    """Map true actions to latent ones; unknown actions (-1, or not in the map) count as true action 0."""
    known_BT = (true_BT >= 0) & (true_BT < len(latent_U))
    return latent_U[true_BT.masked_fill(~known_BT, 0)]


def compare_frames(networks: Networks, made_BTHWC: Tensor, real_BTHWC: Tensor, name: str) -> Records:
    """``<name>/psnr`` (dB), ``<name>/ssim`` and ``<name>/lpips`` of each frame, ``BT``."""
    found = {f"{name}/psnr": psnr(made_BTHWC, real_BTHWC), f"{name}/ssim": ssim(made_BTHWC, real_BTHWC)}
    if networks.alexnet is not None:
        found[f"{name}/lpips"] = lpips(networks.alexnet, made_BTHWC, real_BTHWC)
    return found


def records(rollouts: Rollouts, networks: Networks) -> Records:
    """Picture metrics of each predicted frame ``BT`` beside their baseline, and the motion of each clip ``B``."""
    real_BTHWC, tokens_BTN = rollouts.real_BTHWC, rollouts.tokens_BTN
    future_BTHWC = real_BTHWC[:, 1:]
    prompt = compare_frames(networks, real_BTHWC[:, :1].expand_as(future_BTHWC), future_BTHWC, "")
    before = compare_frames(networks, real_BTHWC[:, :-1], future_BTHWC, "")
    found = {"motion": mean_change(real_BTHWC)}
    for name, made_BTHWC in rollouts.generated().items():
        found |= compare_frames(networks, made_BTHWC, future_BTHWC, name)
        copies = before if name == "next_frame" else prompt
        # Cloned, for a file of records cannot hold one tensor under two names.
        found |= {f"{name}{metric}/copy_last": values.clone() for metric, values in copies.items()}
    exact_BTN = rollouts.next_BTN == tokens_BTN[:, 1:]
    found["next_frame/token_accuracy"] = exact_BTN.double().mean((1, 2))
    same_BTN = tokens_BTN[:, :-1] == tokens_BTN[:, 1:]
    found["next_frame/token_accuracy/copy_last"] = same_BTN.double().mean((1, 2))
    return found


def example_rollouts(world: World, clips: Clips, count: int, latent_U: Tensor | None, seed: int) -> Pictures:
    """Some clips beside the roll-outs that were measured, and constant actions from three of the prompts.

    Args:
        world: the world that is measured.
        clips: the measured clips.
        count: number of clips to show.
        latent_U: as in `play_clips`.
        seed: seed of the evaluation.
    """
    rows = np.unique(np.linspace(0, len(clips) - 1, count).round().astype(int))
    real_BTHWC, true_BT = clips.rows(rows).read(), clips.rows(rows).actions()
    plans = {"inferred actions": world.latent_actions.encode(real_BTHWC.to(world.device))}
    if latent_U is not None and true_BT is not None:
        plans["given actions"] = to_latent(latent_U, true_BT).to(world.device)
    seeds = [seed + int(row) for row in rows]
    shown = {"real": real_BTHWC}
    for name, actions_BT in plans.items():
        shown[name] = roll_out(world, real_BTHWC[:, 0].to(world.device), actions_BT, seeds).cpu()
    prompts_PHWC = real_BTHWC[np.unique(np.linspace(0, len(rows) - 1, 3).astype(int)), 0].to(world.device)
    P, A, T = len(prompts_PHWC), world.num_actions, clips.frames - 1
    actions_XT = torch.arange(A, device=world.device).repeat(P).unsqueeze(1).expand(-1, T)
    constant = roll_out(world, prompts_PHWC.repeat_interleave(A, 0), actions_XT, [seed] * (P * A))
    return Pictures(shown, constant.unflatten(0, (P, A)).cpu())
