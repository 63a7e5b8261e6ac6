"""Stability: whether long roll-outs drift from real frames, become static or diverge."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from jinn.evaluation.catalogue import POLICIES, STRETCHES
from jinn.evaluation.clips import Clips
from jinn.evaluation.estimate import Estimate, Records, bootstrap
from jinn.evaluation.frechet import frechet_interval
from jinn.evaluation.lpips import frame_features
from jinn.evaluation.motion import mean_change
from jinn.evaluation.networks import Networks
from jinn.world.world import World

STATIC = 0.25  # grey levels: a stretch with less mean change from frame to frame is static


def stretches(frames: int, length: int = 100) -> dict[str, range]:
    """The first, middle and last frames of a long roll-out; 0 is the first frame after the prompt."""
    length = min(length, frames // 3)
    starts = (0, (frames - length) // 2, frames - length)
    return {name: range(start, start + length) for name, start in zip(STRETCHES, starts, strict=True)}


def long_actions(num_actions: int, rollouts: int, frames: int, seed: int) -> Tensor:
    """Actions of long roll-outs, int64 ``(2 rollouts, frames)``: half are random, half are constant."""
    generator = torch.Generator().manual_seed(seed)
    random_BT = torch.randint(num_actions, (rollouts, frames), generator=generator)
    return torch.cat([random_BT, (torch.arange(rollouts) % num_actions).unsqueeze(1).expand(-1, frames)])


def records(
    world: World,
    networks: Networks,
    prompts_BHWC: Tensor,
    actions_BT: Tensor,
    seeds: list[int],
    on_frame: Callable[[int], None] = lambda _: None,
) -> Records:
    """Records of long roll-outs.

    Returns:
        One row for each roll-out: ``features/<stretch>`` (float32 ``BX(256)``), and of the last stretch
        ``statistics`` (``BX2``) and ``change``, the mean change from frame to frame (grey levels).
    """
    frames = actions_BT.shape[1]
    parts = stretches(frames)
    shown: dict[str, list[Tensor]] = {name: [] for name in parts}
    state, frame = world.reset(prompts_BHWC.unsqueeze(1).to(world.device), seeds)
    for t in range(frames):
        state, frame = world.step(state, actions_BT[:, t].to(world.device))
        for name, part in parts.items():
            if t in part:
                shown[name].append(frame)
        on_frame(t + 1)
    found: Records = {}
    if networks.alexnet is not None:
        for name, stretch in shown.items():
            found[f"features/{name}"] = frame_features(networks.alexnet, torch.stack(stretch, dim=1))
    last_BTHWC = torch.stack(shown["last"], dim=1)
    found["statistics"], found["change"] = image_statistics(last_BTHWC), mean_change(last_BTHWC)
    return found


def real_records(networks: Networks, clips: Clips) -> Records:
    """The same of long real clips: the floor."""
    real_BTHWC = clips.read()
    found = {"long/change": mean_change(real_BTHWC)}
    if networks.alexnet is not None:
        found["long/features"] = frame_features(networks.alexnet, real_BTHWC.to(networks.device))
    return found


def estimates(long: Records, real: Records, seed: int) -> Iterator[tuple[str, Estimate]]:
    """Drift of long roll-outs, and the fractions of those that are static or have diverged at the end.

    Args:
        long: of `records`: first the roll-outs under random actions, then as many under constant ones.
        real: of `real_records` and of `jinn.evaluation.distances.real_records`.
        seed: seed of the bootstrap.
    """
    statistics_X2 = real["statistics"].flatten(0, 1)
    low_2, high_2 = statistics_X2.amin(0) / 2, statistics_X2.amax(0) * 2
    for i, policy in enumerate(POLICIES):
        of_policy = {name: values.chunk(len(POLICIES))[i] for name, values in long.items()}
        for stretch in STRETCHES:
            if (features_BXD := of_policy.get(f"features/{stretch}")) is not None:
                yield f"stability/{policy}/{stretch}", _drift(real, features_BXD, seed)
        yield f"stability/{policy}/static", _static(of_policy["change"], seed)
        outside_BT = ((of_policy["statistics"] < low_2) | (of_policy["statistics"] > high_2)).any(-1)
        diverged_B = outside_BT.double().mean(1) > 0.5
        yield f"stability/{policy}/diverged", bootstrap(diverged_B.double(), seed)
    if "long/features" in real:
        yield "stability/floor", _drift(real, real["long/features"], seed)
    if "long/change" in real:
        yield "stability/floor/static", _static(real["long/change"], seed)


def _drift(real: Records, features_BXD: Tensor, seed: int) -> Estimate:
    return frechet_interval(real["features/frame_distance/real"], features_BXD, seed)


def _static(change_B: Tensor, seed: int) -> Estimate:
    return bootstrap((change_B < STATIC).double(), seed)


def image_statistics(frames_BTHWC: Tensor) -> Tensor:
    """Contrast and roughness of each frame in grey levels, float32 ``BT2``.

    Contrast is the standard deviation of the pixels, roughness the mean absolute difference of neighbouring
    ones. A picture that dissolves into one colour or into noise leaves the range of real frames.
    """
    grey = frames_BTHWC.float().mean(-1)
    down = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((2, 3))
    right = (grey[:, :, :, 1:] - grey[:, :, :, :-1]).abs().mean((2, 3))
    return torch.stack([grey.std((2, 3)), (down + right) / 2], dim=-1)
