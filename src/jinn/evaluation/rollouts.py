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
        latent_BT: int64 actions that the world's own model infers from the real clips.
        true_BT: int64 true actions, -1 where they are unknown.
        next_BTN: tokens predicted with teacher forcing.
        generated: predicted frames 1 to T by regime: "next_frame" with teacher forcing, and those of `plans`.
        regime: the one whose actions the world was trained on: "given" where they are known, "inferred" else. The
            frames with teacher forcing are predicted from these actions, too.
        random: pairs of random actions ``BT`` and the roll-out under them, whose frame 0 is the prompt, as
            reconstructed.
    """

    real_BTHWC: Tensor
    tokens_BTN: Tensor
    reconstructed_BTHWC: Tensor
    latent_BT: Tensor
    true_BT: Tensor
    next_BTN: Tensor
    generated: dict[str, Tensor]
    regime: str
    random: tuple[tuple[Tensor, Tensor], ...]


def play_clips(
    world: World, clips: Clips, first: int, seed: int, draws: int, latent_U: Tensor | None
) -> Rollouts:
    """Everything that a world predicts of some clips; a clip's prediction does not depend on the others.

    Args:
        first: number of the first clip.
        seed: of roll-outs and random actions.
        draws: number of random action sequences for each clip.
        latent_U: int64, the world's action for each true action; None if it is unknown.
    """
    numbers, real_BTHWC = range(first, first + len(clips)), clips.read().to(world.device)
    tokens_BTN, true_BT = world.tokenizer.encode(real_BTHWC), clips.actions()
    named = plans(world, real_BTHWC, true_BT, latent_U)
    regime = "given" if world.has_known_actions and "given" in named else "inferred"
    latent_BT, seeds = named["inferred"], [seed + n for n in numbers]
    next_BTN, next_BTHWC = next_frames(world, real_BTHWC, tokens_BTN, named[regime], seeds)
    shape = (draws, clips.frames - 1)
    rngs = clip_generators(seed, numbers)
    random_BRT = torch.stack([torch.randint(world.num_actions, shape, generator=rng) for rng in rngs])
    # All plans are one batch.
    actions_PBT = torch.stack([*named.values(), *random_BRT.to(world.device).unbind(1)])
    P, B, _ = actions_PBT.shape
    prompts_XHWC = real_BTHWC[:, 0].repeat(P, 1, 1, 1)
    made_PBTHWC = roll_out(world, prompts_XHWC, actions_PBT.flatten(0, 1), seeds * P).unflatten(0, (P, B))
    return Rollouts(
        real_BTHWC,
        tokens_BTN,
        world.tokenizer.decode(tokens_BTN),
        latent_BT,
        torch.full_like(latent_BT, -1) if true_BT is None else true_BT,
        next_BTN,
        {"next_frame": next_BTHWC} | dict(zip(named, made_PBTHWC[:, :, 1:], strict=False)),
        regime,
        tuple(zip(actions_PBT, made_PBTHWC, strict=True))[len(named) :],
    )


def plans(
    world: World, real_BTHWC: Tensor, true_BT: Tensor | None, latent_U: Tensor | None
) -> dict[str, Tensor]:
    """Actions ``BT`` to roll real clips out with: "inferred" ones, and where the true ones are known "given" ones.

    Given ones are the true actions, mapped to the world's; unknown ones (-1, or not in the map) count as true action 0.
    """
    found = {"inferred": world.infer_actions(real_BTHWC)}
    if latent_U is not None and true_BT is not None:
        known_BT = (true_BT >= 0) & (true_BT < len(latent_U))
        found["given"] = latent_U[true_BT.masked_fill(~known_BT, 0)].to(world.device)
    return found


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
    for name, made_BTHWC in rollouts.generated.items():
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

    ``count`` of the measured clips are shown; ``latent_U`` and ``seed`` are those of `play_clips`.
    """
    rows = np.unique(clips.evenly_spaced(count))
    real_BTHWC = clips.rows(rows).read().to(world.device)
    seeds = [seed + int(row) for row in rows]
    shown = {"real": real_BTHWC.cpu()}
    for name, actions_BT in plans(world, real_BTHWC, clips.rows(rows).actions(), latent_U).items():
        shown[f"{name} actions"] = roll_out(world, real_BTHWC[:, 0], actions_BT, seeds).cpu()
    prompts_PHWC = real_BTHWC[np.unique(np.linspace(0, len(rows) - 1, 3).astype(int)), 0]
    P, A, T = len(prompts_PHWC), world.num_actions, clips.frames - 1
    actions_XT = torch.arange(A, device=world.device).repeat(P).unsqueeze(1).expand(-1, T)
    constant = roll_out(world, prompts_PHWC.repeat_interleave(A, 0), actions_XT, [seed] * (P * A))
    return Pictures(shown, constant.unflatten(0, (P, A)).cpu())
