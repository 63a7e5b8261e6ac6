"""Stability: whether long roll-outs keep looking like the videos, or drift, become static or diverge.

Roll-outs are looked at in segments that end at 60, 300 and 1,000 frames, so that a collapse in the middle is seen.
Half of them hold one action, the others play random actions as people do: each for 4 to 15 frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from jinn.evaluation.appearance import appearance, fit_typical
from jinn.evaluation.catalogue import ENDS, POLICIES
from jinn.evaluation.clips import Clips
from jinn.evaluation.estimate import Estimate, Records, bootstrap
from jinn.evaluation.frechet import frechet_interval
from jinn.evaluation.lpips import frame_features
from jinn.evaluation.motion import mean_change
from jinn.evaluation.networks import Networks
from jinn.world.world import World

STATIC = 0.25  # grey levels: a segment with less mean change from frame to frame is static
HOLD = (4, 15)  # frames for which a random action is held, at least and at most


def segments(frames: int) -> dict[str, range]:
    """The last third, and at most 100 frames, before each end that a roll-out reaches; 0 is the first new frame."""
    return {str(end): range(max(end - 100, end * 2 // 3), end) for end in ENDS if end <= frames}


def looks(frames: int) -> list[int]:
    """The frames whose appearance is measured: every fifth of the segments, and every twentieth elsewhere."""
    parts = segments(frames).values()
    return [t for t in range(frames) if (t + 1) % (5 if any(t in part for part in parts) else 20) == 0]


def long_actions(num_actions: int, rollouts: int, frames: int, seed: int) -> Tensor:
    """Actions of long roll-outs, int64 ``(2 rollouts, frames)``: half are random, half are constant."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rollouts, -(-frames // HOLD[0]))
    actions_BX = torch.randint(num_actions, shape, generator=generator)
    holds_BX = torch.randint(HOLD[0], HOLD[1] + 1, shape, generator=generator)
    rows = zip(actions_BX, holds_BX, strict=True)
    random_BT = torch.stack([actions.repeat_interleave(holds)[:frames] for actions, holds in rows])
    return torch.cat([random_BT, (torch.arange(rollouts) % num_actions).unsqueeze(1).expand(-1, frames)])


def records(
    world: World,
    networks: Networks,
    prompts_BHWC: Tensor,
    actions_BT: Tensor,
    seeds: list[int],
    on_frame: Callable[[int], None],
) -> Records:
    """Records of long roll-outs.

    Returns:
        One row for each roll-out: ``appearance`` (float32 ``BXD``, of the frames of `looks`), and of each segment
        ``features/<end>`` (float32 ``BXD``), ``statistics/<end>`` (``BX2``) and ``change/<end>``, the mean change
        from frame to frame (grey levels).
    """
    frames = actions_BT.shape[1]
    parts, looked = segments(frames), set(looks(frames))
    shown: dict[str, list[Tensor]] = {name: [] for name in parts}
    features: list[Tensor] = []
    prompts_BHWC = prompts_BHWC.to(world.device)
    state, frame = world.reset(prompts_BHWC.unsqueeze(1), seeds)
    for t in range(frames):
        state, frame = world.step(state, actions_BT[:, t].to(world.device))
        for name, part in parts.items():
            if t in part:
                shown[name].append(frame)
        if t in looked:
            features.append(appearance(prompts_BHWC, frame.unsqueeze(1)))
        on_frame(t + 1)
    found: Records = {"appearance": torch.cat(features, dim=1)}
    for name, pictures in shown.items():
        segment_BTHWC = torch.stack(pictures, dim=1)
        if networks.alexnet is not None:
            found[f"features/{name}"] = frame_features(networks.alexnet, segment_BTHWC)
        found[f"statistics/{name}"] = image_statistics(segment_BTHWC)
        found[f"change/{name}"] = mean_change(segment_BTHWC)
    return found


def real_records(networks: Networks, clips: Clips, rows: slice) -> Records:
    """The same of some long real clips: the floor."""
    real_BTHWC = clips.rows(rows).read()
    found = {"long/change": mean_change(real_BTHWC)}
    if networks.alexnet is not None:
        found["long/features"] = frame_features(networks.alexnet, real_BTHWC.to(networks.device))
    return found


def estimates(long: Records, real: Records, frames: int, seed: int) -> Iterator[tuple[str, Estimate]]:
    """How far long roll-outs look like the videos, and by segment their drift and how many are static or diverged.

    Args:
        long: of `records`: first the roll-outs under random actions, then as many under constant ones.
        real: of `real_records`, `jinn.evaluation.distances.real_records` and
            `jinn.evaluation.appearance.real_records`.
        frames: of a long roll-out.
        seed: seed of the bootstrap.
    """
    typical = fit_typical(real.get("pairs/reference", real["pairs/measured"]), real["pairs/measured"])
    times_X = torch.tensor(looks(frames))
    statistics_X2 = real["statistics"].flatten(0, 1)
    low_2, high_2 = statistics_X2.amin(0) / 2, statistics_X2.amax(0) * 2
    for i, policy in enumerate(POLICIES):
        of_policy = {name: values.chunk(len(POLICIES))[i] for name, values in long.items()}
        inside_BX = typical.inside(of_policy["appearance"])
        yield f"stability/{policy}/frames_inside", bootstrap(frames_inside(inside_BX, times_X, frames), seed)
        for end, part in segments(frames).items():
            here_X = (times_X >= part.start) & (times_X < part.stop)
            yield f"stability/{policy}/{end}/inside", bootstrap(inside_BX[:, here_X].double().mean(1), seed)
            if (features_BXD := of_policy.get(f"features/{end}")) is not None:
                yield f"stability/{policy}/{end}/drift", _drift(real, features_BXD, seed)
            yield f"stability/{policy}/{end}/static", _static(of_policy[f"change/{end}"], seed)
            statistics_BT2 = of_policy[f"statistics/{end}"]
            outside_BT = ((statistics_BT2 < low_2) | (statistics_BT2 > high_2)).any(-1)
            diverged_B = outside_BT.double().mean(1) > 0.5
            yield f"stability/{policy}/{end}/diverged", bootstrap(diverged_B.double(), seed)
    if "long/features" in real:
        yield "stability/floor/drift", _drift(real, real["long/features"], seed)
    if "long/change" in real:
        yield "stability/floor/static", _static(real["long/change"], seed)


def frames_inside(inside_BX: Tensor, times_X: Tensor, frames: int) -> Tensor:
    """For how many frames each roll-out looks like the videos, float64 ``B``.

    A roll-out has left at the first of three looks in a row that find it outside, for a single look errs with
    real video too. One that never leaves has all frames.
    """
    gone_BX = (~inside_BX).unfold(1, 3, 1).all(-1)
    return torch.where(gone_BX, times_X[: gone_BX.shape[1]], frames).amin(1).double()


def verdict(estimates: Mapping[str, Estimate], frames: int) -> str:
    """For how long a world can be played, in words."""
    held, random = (
        round(estimates[f"stability/{policy}/frames_inside"].value) for policy in ("constant", "random")
    )
    return (
        f"An action can be held for {held} frames, and random actions played for {random}, before the picture leaves "
        f"what the videos show (mean over roll-outs of {frames} frames)."
    )


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
