"""Which way of sampling keeps a world alive: roll-outs under random and held actions, one row for each setting.

python scripts/choose_sampling.py runs/mine stores/choose --settings 3:0.4 5:1 --frames 300 --sheets sheets

A setting is STEPS:TEMPERATURE, or STEPS:TEMPERATURE:DOUBT. Choose on levels or videos on which nothing is reported
afterwards. Beside the numbers, look at the sheets: a column is a roll-out, a row a moment.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jinn.data.store import FrameStore
from jinn.evaluation.appearance import PAIRS, Typical, appearance, fit_typical, real_pairs
from jinn.evaluation.estimate import bootstrap
from jinn.evaluation.motion import mean_change
from jinn.evaluation.stability import STATIC, long_actions, looks, segments
from jinn.models.maskgit import SamplingConfig
from jinn.world.world import World

SHEET_EVERY = 30  # frames from one row of a sheet to the next


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", help="name or folder of a world, or the folder of a run")
    parser.add_argument("store", type=Path, help="frame store whose videos the world was not trained on")
    parser.add_argument("--settings", nargs="+", required=True, help="STEPS:TEMPERATURE[:DOUBT]")
    parser.add_argument(
        "--random-tokens",
        type=int,
        help="tokens that a first step reveals at random places; default: the world's",
    )
    parser.add_argument("--rollouts", type=int, default=8, help="number of roll-outs of each kind")
    parser.add_argument("--frames", type=int, default=300, help="frames of a roll-out")
    parser.add_argument("--sheets", type=Path, help="folder for a picture of each setting's roll-outs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    world, store = World.load(options.world), FrameStore.open(options.store)
    typical, prompts_BHWC = real_play(store, options.rollouts, options.seed)
    actions_BT = long_actions(world.num_actions, options.rollouts, options.frames, options.seed)
    ends = segments(options.frames)
    print(
        "| steps:temperature:doubt | "
        + " | ".join(f"{x} at {end}" for end in ends for x in ("inside", "static"))
    )
    print("|---" * (1 + 2 * len(ends)) + "|", flush=True)
    for setting in options.settings:
        own = world.config.sampling
        if options.random_tokens is not None:
            own = replace(own, random_tokens=options.random_tokens)
        sampling = sampling_of(setting, own)
        frames_BTHWC = roll_out(world, sampling, prompts_BHWC, actions_BT, options.seed)
        cells = " | ".join(row(typical, prompts_BHWC, frames_BTHWC))
        print(f"| {setting} | {cells} |", flush=True)
        if options.sheets:
            options.sheets.mkdir(parents=True, exist_ok=True)
            sheet(frames_BTHWC).save(options.sheets / f"{setting.replace(':', '_')}.png")


def sampling_of(setting: str, own: SamplingConfig) -> SamplingConfig:
    """The world's own sampling with the steps, temperature and doubt of STEPS:TEMPERATURE[:DOUBT]."""
    steps, temperature, *doubt = setting.split(":")
    return replace(
        own, steps=int(steps), temperature=float(temperature), doubt=float(doubt[0]) if doubt else own.doubt
    )


def real_play(store: FrameStore, rollouts: int, seed: int) -> tuple[Typical, Tensor]:
    """What real frames look like, by half of the levels or videos, and a prompt for each roll-out, of the others."""
    groups = np.random.default_rng(seed).permutation(np.unique(store.groups))
    fitted, other = (np.flatnonzero(np.isin(store.groups, part)) for part in np.array_split(groups, 2))
    reference, held_out = (
        appearance(earlier, later[:, None])[:, 0]
        for earlier, later in (
            real_pairs(store, fitted, PAIRS, seed),
            real_pairs(store, other, PAIRS, seed + 1),
        )
    )
    prompts_BHWC, _ = real_pairs(store, other, rollouts, seed + 2)
    return fit_typical(reference, held_out), prompts_BHWC.repeat(2, 1, 1, 1)  # random actions, then held ones


def roll_out(
    world: World, sampling: SamplingConfig, prompts_BHWC: Tensor, actions_BT: Tensor, seed: int
) -> Tensor:
    """The frames that the world makes, uint8 ``BTHWC``."""
    state, _ = world.reset(prompts_BHWC[:, None], [seed + i for i in range(len(prompts_BHWC))])
    frames = []
    for action_B in actions_BT.T:
        state, frame_BHWC = world.step(state, action_B, sampling=sampling)
        frames.append(frame_BHWC)
    return torch.stack(frames, dim=1)


def row(typical: Typical, prompts_BHWC: Tensor, frames_BTHWC: Tensor) -> list[str]:
    """Inside and static in each segment, under random and held actions, with 95% intervals over roll-outs."""
    cells = []
    for part in segments(frames_BTHWC.shape[1]).values():
        looked = [t for t in looks(frames_BTHWC.shape[1]) if t in part]
        inside_BX = typical.inside(appearance(prompts_BHWC, frames_BTHWC[:, looked])).double()
        static_B = (mean_change(frames_BTHWC[:, part.start : part.stop]) < STATIC).double()
        for of_rollout_B in (inside_BX.mean(1), static_B):
            found = [bootstrap(half_B, 0) for half_B in of_rollout_B.chunk(2)]
            cells.append(" / ".join(f"{x.value:.0%} [{100 * x.low:.0f}, {100 * x.high:.0f}]" for x in found))
    return cells


def sheet(frames_BTHWC: Tensor) -> Image.Image:
    """A column for each roll-out, the random ones first, and a row for every `SHEET_EVERY`-th frame."""
    rows = frames_BTHWC[:, SHEET_EVERY - 1 :: SHEET_EVERY]
    B, X, H, W, C = rows.shape
    return Image.fromarray(rows.permute(1, 2, 0, 3, 4).reshape(X * H, B * W, C).numpy())


if __name__ == "__main__":
    main()
