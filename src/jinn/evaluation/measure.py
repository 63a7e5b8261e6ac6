"""What is measured of each clip: tensors with one row a clip, of which `jinn.evaluation.figures` are made.

A row depends on its clip, the seed and the world only, not on the clips that share its batch. So batches can
be kept on disk one by one, and an evaluation that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jinn.data.clips import clip_generators
from jinn.evaluation.clips import Clips
from jinn.evaluation.i3d import I3D, SHORTEST, i3d_logits, load_i3d
from jinn.evaluation.lpips import LPIPS, SMALLEST, frame_features, load_lpips, lpips
from jinn.evaluation.metrics import psnr, ssim
from jinn.evaluation.motion import global_motion, motion_features
from jinn.evaluation.pretrained import MissingWeights
from jinn.world.world import World

# One row a clip; the names are those of the figures wherever a figure is a plain mean of them.
Records = dict[str, Tensor]

COUNTED_CODES = 2**16  # of a larger codebook a few clips could not say how it is used


@dataclass(frozen=True)
class Networks:
    """Pretrained networks, None where their weights are not installed.

    Attributes:
        i3d: of FVD.
        alexnet: of LPIPS, and of the frame distance.
        missing: a sentence for each one that is not there.
    """

    i3d: I3D | None
    alexnet: LPIPS | None
    missing: tuple[str, ...]


def load_networks(device: torch.device, size_hw: tuple[int, int], frames: int) -> Networks:
    """Load what is installed, and of use for clips of this size and length."""
    i3d, alexnet, missing = None, None, []
    try:
        if frames < SHORTEST:
            raise MissingWeights(f"FVD needs at least {SHORTEST} frames: measure more (--frames {SHORTEST})")
        i3d = load_i3d(device)
    except MissingWeights as error:
        missing.append(f"{error}.")
    try:
        if min(size_hw) < SMALLEST:
            raise MissingWeights(f"LPIPS needs frames of {SMALLEST} pixels a side: store larger ones")
        alexnet = load_lpips(device)
    except MissingWeights as error:
        missing.append(f"{error}.")
    return Networks(i3d, alexnet, tuple(missing))


# ---- Distances: features of clips -------------------------------------------------------------------


def features(networks: Networks, frames_BTHWC: Tensor, name: str) -> Records:
    """What the distances compare: ``<kind>/<name>``, float32 ``BXD`` with X samples a clip.

    The kinds: ``fvd`` (I3D logits, X = 1), ``frame`` (AlexNet's, X = T), ``motion`` (see
    `jinn.evaluation.motion`, X = 1).
    """
    found = {f"motion/{name}": motion_features(frames_BTHWC).unsqueeze(1)}
    if networks.i3d is not None:
        found[f"fvd/{name}"] = i3d_logits(networks.i3d, frames_BTHWC).unsqueeze(1)
    if networks.alexnet is not None:
        found[f"frame/{name}"] = frame_features(networks.alexnet, frames_BTHWC)
    return found


def measure_real(
    networks: Networks, measured: Clips, reference: Clips | None, other: Clips | None, first: int, seed: int
) -> Records:
    """Features of real clips, and of what stands for a world that does badly in one respect.

    ``real``: the measured clips. ``floor``: other real ones. ``static``: their first frame repeated.
    ``shuffled``: their frames in another order. ``other_level``: clips of one single level. Frame 0, the
    prompt, is left out.

    Args:
        networks: see `Networks`.
        measured, reference, other: some rows of `HeldOut`.
        first: number of the first of these rows.
        seed: of the shuffling.
    """
    real_BTHWC = measured.read()
    next_BTHWC = real_BTHWC[:, 1:]
    T = next_BTHWC.shape[1]
    orders = [
        torch.randperm(T, generator=chance) for chance in clip_generators(seed, _numbers(first, measured))
    ]
    shuffled = torch.stack([clip[order] for clip, order in zip(next_BTHWC, orders, strict=True)])
    shown = {
        "real": next_BTHWC,
        "static": real_BTHWC[:, :1].expand_as(next_BTHWC),
        "shuffled": shuffled,
    }
    if reference is not None:
        shown["floor"] = reference.read()[:, 1:]
    if other is not None:
        shown["other_level"] = other.read()[:, 1:]
    found = {"looks": looks(next_BTHWC)}
    for name, frames_BTHWC in shown.items():
        found |= features(networks, frames_BTHWC.to(_device(networks)), name)
    found.pop("frame/shuffled", None)  # the same frames as the real ones: their distance is nothing
    return found


def _device(networks: Networks) -> torch.device:
    for network in (networks.i3d, networks.alexnet):
        if network is not None:
            return next(network.parameters()).device
    return torch.device("cpu")


def _numbers(first: int, clips: Clips) -> range:
    return range(first, first + len(clips))


# ---- Fidelity and control: a world's roll-outs beside the true videos -------------------------------


def roll_out(world: World, prompts_BHWC: Tensor, actions_BT: Tensor, seeds: list[int]) -> Tensor:
    """Play given actions from one frame each; uint8 ``B(T+1)HWC``, the first as the tokenizer sees it."""
    state, frame = world.reset(prompts_BHWC.unsqueeze(1), seeds)
    frames = [frame]
    for actions_B in actions_BT.unbind(1):
        state, frame = world.step(state, actions_B)
        frames.append(frame)
    return torch.stack(frames, dim=1)


def next_frames(
    world: World, frames_BTHWC: Tensor, tokens_BTN: Tensor, actions_BTm1: Tensor, seeds: list[int]
) -> tuple[Tensor, Tensor]:
    """Each frame drawn from the true ones before it (teacher-forced): tokens and frames, ``B(T-1)``."""
    state, _ = world.reset(frames_BTHWC[:, :1], seeds)
    tokens, frames = [], []
    for t, actions_B in enumerate(actions_BTm1.unbind(1)):
        drawn, frame = world.step(state, actions_B)
        tokens.append(drawn.tokens_BN)
        frames.append(frame)
        state = world.observe(state, actions_B, tokens_BTN[:, t + 1])
    return torch.stack(tokens, dim=1), torch.stack(frames, dim=1)


def fidelity(networks: Networks, made_BTHWC: Tensor, real_BTHWC: Tensor, name: str) -> Records:
    """``<name>/psnr`` (dB), ``<name>/ssim`` and ``<name>/lpips`` of each frame, ``BT``."""
    found = {f"{name}/psnr": psnr(made_BTHWC, real_BTHWC), f"{name}/ssim": ssim(made_BTHWC, real_BTHWC)}
    if networks.alexnet is not None:
        found[f"{name}/lpips"] = lpips(networks.alexnet, made_BTHWC, real_BTHWC)
    return found


def measure_clips(
    world: World,
    networks: Networks,
    clips: Clips,
    first: int,
    seed: int,
    draws: int,
    keys_U: Tensor | None,
) -> Records:
    """All that needs a world's roll-outs, for some clips.

    Args:
        world: what is measured.
        networks: see `Networks`.
        clips: the true videos, T + 1 frames each.
        first: number of the first of these clips.
        seed: of roll-outs and random actions.
        draws: how many random sequences of actions each clip is played with.
        keys_U: int64, for each true action the latent one that is played for it; None if unknown.
    """
    device = world.device
    real_BTHWC = clips.read().to(device)
    next_BTHWC = real_BTHWC[:, 1:]
    B, T = next_BTHWC.shape[:2]
    tokens_BTN = world.tokenizer.encode(real_BTHWC)
    rebuilt_BTHWC = world.tokenizer.decode(tokens_BTN)
    codes_BT = world.latent_actions.encode(real_BTHWC)
    chance = clip_generators(seed, _numbers(first, clips))
    random_BRT = torch.stack([torch.randint(world.num_actions, (draws, T), generator=g) for g in chance])
    seeds = [seed + n for n in _numbers(first, clips)]

    found = fidelity(networks, rebuilt_BTHWC, real_BTHWC, "tokenizer")
    K = world.tokenizer.codebook_size
    if K <= COUNTED_CODES:
        found["tokens"] = torch.stack([torch.bincount(x.flatten(), minlength=K) for x in tokens_BTN])
    # Nothing moves: the line that every prediction has to be above.
    still_BTHWC = real_BTHWC[:, :1].expand_as(next_BTHWC)
    found |= fidelity(networks, still_BTHWC, next_BTHWC, "frozen")
    found |= fidelity(networks, real_BTHWC[:, :-1], next_BTHWC, "next_frame_frozen")
    found["moves"] = mean_change(real_BTHWC)

    drawn_BTN, drawn_BTHWC = next_frames(world, real_BTHWC, tokens_BTN, codes_BT, seeds)
    found |= fidelity(networks, drawn_BTHWC, next_BTHWC, "next_frame")
    found |= features(networks, drawn_BTHWC, "next_frame")
    found["next_frame/token_accuracy"] = (drawn_BTN == tokens_BTN[:, 1:]).double().mean((1, 2))
    found["next_frame/token_accuracy/frozen"] = (
        (tokens_BTN[:, :-1] == tokens_BTN[:, 1:]).double().mean((1, 2))
    )

    plans = {"inferred": codes_BT}
    true_BT = clips.actions()
    if keys_U is not None and true_BT is not None:
        plans["given"] = play_with(keys_U, true_BT).to(device)
    plans |= {f"random {r}": random_BRT[:, r].to(device) for r in range(draws)}
    played_PBT = torch.stack(list(plans.values()))
    prompts_PBHWC = real_BTHWC[:, 0].expand(len(plans), *real_BTHWC[:, 0].shape)
    played = roll_out(world, prompts_PBHWC.flatten(0, 1), played_PBT.flatten(0, 1), seeds * len(plans))
    made = dict(zip(plans, played.unflatten(0, (len(plans), B)), strict=True))

    for name in ("inferred", "given"):
        if name in made:
            found |= fidelity(networks, made[name][:, 1:], next_BTHWC, name)
            found |= features(networks, made[name][:, 1:], name)
    randoms = [made[f"random {r}"] for r in range(draws)]
    of_random = torch.stack([psnr(frames[:, 1:], next_BTHWC) for frames in randoms]).mean(0)
    found["control/delta_psnr"] = found["inferred/psnr"] - of_random
    found_again = [world.latent_actions.encode(frames) for frames in randoms]
    hits = [codes == plans[f"random {r}"] for r, codes in enumerate(found_again)]
    found["control/agreement"] = torch.stack(hits).double().mean((0, 2))
    rebuilt_codes_BT = world.latent_actions.encode(rebuilt_BTHWC)
    found["control/agreement/reconstruction"] = (rebuilt_codes_BT == codes_BT).double().mean(1)

    found["codes"] = codes_BT
    found["true"] = torch.full_like(codes_BT, -1) if true_BT is None else true_BT
    found["scrolling"] = global_motion(real_BTHWC)
    return found


def play_with(keys_U: Tensor, true_BT: Tensor) -> Tensor:
    """Latent actions for true ones; one that the map does not know, or -1, is played as true action 0."""
    known_BT = (true_BT >= 0) & (true_BT < len(keys_U))
    return keys_U[true_BT.masked_fill(~known_BT, 0)]


def measure_keys(world: World, clips: Clips) -> Records:
    """Latent and true actions of clips, to learn from them which is which."""
    real_BTHWC = clips.read().to(world.device)
    codes_BT, true_BT = world.latent_actions.encode(real_BTHWC).cpu(), clips.actions()
    return {"codes": codes_BT, "true": torch.full_like(codes_BT, -1) if true_BT is None else true_BT}


# ---- Stability: long roll-outs ----------------------------------------------------------------------

STILL = 0.25  # grey levels: less mean change than this from frame to frame is no life


def stretches(frames: int, length: int = 100) -> tuple[range, range, range]:
    """The first, the middle and the last frames of a long roll-out; 0 is the first one after the prompt."""
    length = min(length, frames // 3)
    middle = (frames - length) // 2
    return range(length), range(middle, middle + length), range(frames - length, frames)


def long_actions(num_actions: int, rollouts: int, frames: int, seed: int) -> Tensor:
    """Actions of long roll-outs, int64 ``(2 rollouts, frames)``: half are drawn for each frame, half held."""
    generator = torch.Generator().manual_seed(seed)
    random_BT = torch.randint(num_actions, (rollouts, frames), generator=generator)
    return torch.cat([random_BT, (torch.arange(rollouts) % num_actions).unsqueeze(1).expand(-1, frames)])


def measure_stability(
    world: World,
    networks: Networks,
    prompts_BHWC: Tensor,
    actions_BT: Tensor,
    seeds: list[int],
    on_frame: Callable[[int], None] = lambda _: None,
) -> Records:
    """Long roll-outs.

    Returns:
        For each roll-out: ``frame/<first>`` features of the stretches (float32 ``BX(256)``, by the number of
        their first frame), ``looks`` of the last (``BX2``), and ``change``, the mean change from frame to
        frame in the last (grey levels).
    """
    frames = actions_BT.shape[1]
    parts = stretches(frames)
    kept: dict[int, list[Tensor]] = {part.start: [] for part in parts}
    state, frame = world.reset(prompts_BHWC.unsqueeze(1).to(world.device), seeds)
    for t in range(frames):
        state, frame = world.step(state, actions_BT[:, t].to(world.device))
        for part in parts:
            if t in part:
                kept[part.start].append(frame)
        on_frame(t + 1)
    found: Records = {}
    for start, shown in kept.items():
        if networks.alexnet is not None:
            found[f"frame/{start}"] = frame_features(networks.alexnet, torch.stack(shown, dim=1))
    last_BTHWC = torch.stack(kept[parts[-1].start], dim=1)
    found["looks"] = looks(last_BTHWC)
    found["change"] = mean_change(last_BTHWC)
    return found


def measure_real_stretches(networks: Networks, clips: Clips) -> Records:
    """The same of unbroken real video: the floor of the long roll-outs' distances."""
    real_BTHWC = clips.read()
    found = {"change": mean_change(real_BTHWC)}
    if networks.alexnet is not None:
        found["frame"] = frame_features(networks.alexnet, real_BTHWC.to(_device(networks)))
    return found


def mean_change(frames_BTHWC: Tensor) -> Tensor:
    """Mean difference between neighbouring frames in grey levels, float32 ``B``."""
    return (frames_BTHWC[:, 1:].float() - frames_BTHWC[:, :-1].float()).abs().mean((1, 2, 3, 4))


def looks(frames_BTHWC: Tensor) -> Tensor:
    """Contrast and roughness of each frame in grey levels, float32 ``BT2``.

    The standard deviation of its pixels, and the mean step between neighbouring ones. A picture that
    dissolves into plain ground or into noise leaves the range that real frames have.
    """
    grey = frames_BTHWC.float().mean(-1)
    down = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((2, 3))
    right = (grey[:, :, :, 1:] - grey[:, :, :, :-1]).abs().mean((2, 3))
    return torch.stack([grey.std((2, 3)), (down + right) / 2], dim=-1)
