"""What ``jinn eval`` measures. Each evaluator yields ``(name, figure)``; the caller decides where they go.

The clips are held-out ones, spread evenly over the store. Every figure is a mean over clips with a
bootstrap interval; every fidelity figure has a frozen-picture line beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError
from jinn.data.clips import iterate_clips, read_actions, read_clips
from jinn.data.store import FrameStore
from jinn.evaluation.metrics import Figure, bootstrap, global_motion, mutual_information, psnr
from jinn.models.quantize import code_usage
from jinn.world.rollout import World

Named = Iterator[tuple[str, Figure | float]]


@dataclass(frozen=True)
class EvalClips:
    """Clips to measure on.

    Attributes:
        frames_BTHWC: uint8.
        actions_BTm1: true actions where the store has them (-1 is unknown); for scoring only.
    """

    frames_BTHWC: Tensor
    actions_BTm1: Tensor | None


def held_out_clips(store: FrameStore, frames: int, limit: int, split: str = "heldout") -> EvalClips:
    """Evenly spread clips of a split.

    Raises:
        JinnError: the split is empty.
    """
    if not len(store.select(split)):
        raise JinnError(
            f"the store holds no {split} videos or levels (it needs four at least to keep one apart): "
            "add more, or measure on what it was trained on with --split all, knowing that it is that"
        )
    episodes, starts = np.array(list(iterate_clips(store, frames, split, limit))).T
    return EvalClips(
        read_clips(store, episodes, starts, frames), read_actions(store, episodes, starts, frames)
    )


@torch.inference_mode()
def evaluate(world: World, clips: EvalClips, seed: int = 0, batch: int = 16) -> Named:
    """Everything that is measured for now: reconstruction, prediction, roll-out, control, latent actions."""
    yield from evaluate_tokenizer(world, clips, seed, batch)
    yield from evaluate_dynamics(world, clips, seed, batch)
    yield from evaluate_rollout(world, clips, seed, batch)
    yield from evaluate_actions(world, clips, batch)


@torch.inference_mode()
def evaluate_tokenizer(world: World, clips: EvalClips, seed: int, batch: int) -> Named:
    """Reconstruction PSNR, and how the codebook is used."""
    values, codes = [], []
    for frames_BTHWC in clips.frames_BTHWC.split(batch):
        tokens_BTN = world.tokenizer.encode(frames_BTHWC)
        values.append(psnr(world.tokenizer.decode(tokens_BTN), frames_BTHWC).mean(1))
        codes.append(tokens_BTN)
    yield "tokenizer/psnr", bootstrap(torch.cat(values), seed)
    used, perplexity = code_usage(torch.cat(codes), world.tokenizer.codebook_size)
    yield "tokenizer/codes_used", used
    yield "tokenizer/perplexity", perplexity


@torch.inference_mode()
def evaluate_dynamics(world: World, clips: EvalClips, seed: int, batch: int) -> Named:
    """The last frame of each clip, all of it hidden, given the true ones before (teacher-forced)."""
    accuracies, losses, unchanged = [], [], []
    for frames_BTHWC in clips.frames_BTHWC.split(batch):
        tokens_BTN = world.tokenizer.encode(frames_BTHWC)
        actions_BTm1 = world.latent_actions.encode(frames_BTHWC)
        hidden_BTN = tokens_BTN.clone()
        hidden_BTN[:, -1] = world.dynamics.mask_token
        logits_BNK = world.dynamics(hidden_BTN, actions_BTm1, tokens_BTN)[:, -1].float()
        target_BN = tokens_BTN[:, -1]
        accuracies.append((logits_BNK.argmax(-1) == target_BN).double().mean(1))
        log_BNK = logits_BNK.log_softmax(-1)
        losses.append(-log_BNK.gather(-1, target_BN.unsqueeze(-1)).squeeze(-1).double().mean(1))
        unchanged.append((tokens_BTN[:, -2] == target_BN).double().mean(1))
    yield "dynamics/token_accuracy", bootstrap(torch.cat(accuracies), seed)
    yield "dynamics/token_accuracy_frozen", bootstrap(torch.cat(unchanged), seed)
    yield "dynamics/nll", bootstrap(torch.cat(losses), seed)


def roll_out(world: World, prompt_BHWC: Tensor, actions_BT: Tensor, seed: int) -> Tensor:
    """Play given actions from one frame each; uint8 ``BTHWC``, the frames after the prompt."""
    state, _ = world.reset(prompt_BHWC.unsqueeze(1), seed)
    frames = []
    for t in range(actions_BT.shape[1]):
        state, frame = world.step(state, actions_BT[:, t])
        frames.append(frame)
    return torch.stack(frames, dim=1)


@torch.inference_mode()
def evaluate_rollout(world: World, clips: EvalClips, seed: int, batch: int, delta_t: int = 4) -> Named:
    """Roll-outs from one frame: fidelity by horizon, and Delta PSNR (paper section 3).

    Delta_t PSNR is the PSNR at frame t under actions inferred from the true video, less the PSNR under
    actions drawn uniformly at random: what the actions are worth.
    """
    generator = torch.Generator().manual_seed(seed)
    inferred, random, frozen = [], [], []
    for i, frames_BTHWC in enumerate(clips.frames_BTHWC.split(batch)):
        actions_BTm1 = world.latent_actions.encode(frames_BTHWC)
        drawn_BTm1 = torch.randint(world.num_actions, actions_BTm1.shape, generator=generator)
        prompt_BHWC, real_BTHWC = frames_BTHWC[:, 0], frames_BTHWC[:, 1:]
        first = seed + i * batch
        inferred.append(psnr(roll_out(world, prompt_BHWC, actions_BTm1, first), real_BTHWC))
        made_BTHWC = roll_out(world, prompt_BHWC, drawn_BTm1[:, :delta_t], first)
        random.append(psnr(made_BTHWC, real_BTHWC[:, :delta_t]))
        frozen.append(psnr(prompt_BHWC.unsqueeze(1), real_BTHWC))
    inferred_BT, random_BT, frozen_BT = torch.cat(inferred), torch.cat(random), torch.cat(frozen)
    for t in sorted({1, delta_t, inferred_BT.shape[1]}):
        if t <= inferred_BT.shape[1]:
            yield f"rollout/psnr_{t}", bootstrap(inferred_BT[:, t - 1], seed)
            yield f"rollout/psnr_{t}_frozen", bootstrap(frozen_BT[:, t - 1], seed)
    if delta_t <= inferred_BT.shape[1]:
        delta_B = inferred_BT[:, delta_t - 1] - random_BT[:, delta_t - 1]
        yield f"control/delta_psnr_{delta_t}", bootstrap(delta_B, seed)


@torch.inference_mode()
def evaluate_actions(world: World, clips: EvalClips, batch: int) -> Named:
    """How the latent actions are used, and what they share with the true ones where those are known."""
    codes = torch.cat([world.latent_actions.encode(x) for x in clips.frames_BTHWC.split(batch)])
    used, perplexity = code_usage(codes, world.num_actions)
    yield "actions/used", used
    yield "actions/perplexity", perplexity
    if clips.actions_BTm1 is not None:
        known = clips.actions_BTm1 >= 0
        if bool(known.any()):
            yield (
                "actions/nmi_true",
                mutual_information(codes[known].numpy(), clips.actions_BTm1[known].numpy()),
            )
    motion = global_motion(clips.frames_BTHWC).reshape(-1, 2)
    labels = motion[:, 0] * 1000 + motion[:, 1]
    yield "actions/nmi_scrolling", mutual_information(codes.numpy().ravel(), labels.numpy())


@torch.inference_mode()
def guess_action_names(world: World, clips: EvalClips, batch: int = 16) -> tuple[str, ...] | None:
    """Name each latent action after the player's motion, guessed from how the picture scrolls.

    Where the camera follows the player, the picture moves the other way. Where the picture does not
    scroll there is nothing to guess from, and the answer is None.
    """
    codes = torch.cat([world.latent_actions.encode(x) for x in clips.frames_BTHWC.split(batch)]).ravel()
    motion = global_motion(clips.frames_BTHWC).reshape(-1, 2).double()
    if float((motion.abs().sum(-1) > 0).double().mean()) < 0.05:
        return None
    means = np.full((world.num_actions, 2), np.nan)
    for action in range(world.num_actions):
        if bool((codes == action).any()):
            means[action] = -motion[codes == action].mean(0).numpy()
    return _names(means)


def _names(means_A2: np.ndarray) -> tuple[str, ...]:
    """A name for each mean motion (down, right); of those that go one way, the fastest has the plain name."""
    names = [_name(down, right) for down, right in means_A2]
    speeds = np.hypot(*means_A2.T)
    fastest = {name: max(s for n, s in zip(names, speeds, strict=True) if n == name) for name in names}
    return tuple(
        name if speed == fastest[name] or name in ("stay", "unused") else f"{name} slowly"
        for name, speed in zip(names, speeds, strict=True)
    )


def _name(down: float, right: float, still: float = 0.4) -> str:
    if np.isnan(down):
        return "unused"
    # A direction counts if it is clearly there, and not drowned by the other.
    vertical = "" if abs(down) < max(still, abs(right) / 4) else "up" if down < 0 else "down"
    horizontal = "" if abs(right) < max(still, abs(down) / 4) else "left" if right < 0 else "right"
    return "-".join(part for part in (vertical, horizontal) if part) or "stay"
