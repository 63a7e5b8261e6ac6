"""How well `jinn.evaluation.appearance` tells failures of a world from real frames, on a store of real videos.

python scripts/planted_failures.py stores/test --world coinrun
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.data.store import FrameStore
from jinn.evaluation.appearance import PAIRS, appearance, fit_typical, real_pairs
from jinn.evaluation.estimate import bootstrap
from jinn.world.world import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path, help="frame store, with levels if the game has any")
    parser.add_argument("--frames", type=int, default=300, help="number of frames of each failure")
    parser.add_argument("--world", help="a world whose tokenizer encodes and decodes real frames")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    store, seed = FrameStore.open(options.store), options.seed
    groups = np.random.default_rng(seed).permutation(np.unique(store.groups))
    fitted, held_out = (np.flatnonzero(np.isin(store.groups, part)) for part in np.array_split(groups, 2))
    typical = fit_typical(
        features(*real_pairs(store, fitted, PAIRS, seed)),
        features(*real_pairs(store, held_out, PAIRS, seed + 1)),
    )
    prompts, real = real_pairs(store, held_out, options.frames, seed + 2)
    print(f"| {options.frames} frames of {options.store} | called outside |\n|---|---|")
    shown = failures(real, seed)
    if options.world:
        shown |= {"real frames after the tokenizer": reconstructed(World.load(options.world), real)}
    for name, frames in shown.items():
        found = bootstrap(1 - typical.inside(features(prompts, frames)).double(), seed)
        print(f"| {name} | {found.value:.0%} [{found.low:.0%}, {found.high:.0%}] |")


def features(prompts_BHWC: Tensor, frames_BHWC: Tensor) -> Tensor:
    """`appearance` of one frame beside each prompt, ``BD``."""
    return appearance(prompts_BHWC, frames_BHWC[:, None]).squeeze(1)


@torch.inference_mode()
def reconstructed(world: World, real_BHWC: Tensor) -> Tensor:
    """Real frames as the world's tokenizer shows them."""
    tokenizer = world.tokenizer
    return torch.cat([tokenizer.decode(tokenizer.encode(x[:, None]))[:, 0] for x in real_BHWC.split(50)])


def failures(real_BHWC: Tensor, seed: int) -> dict[str, Tensor]:
    """Real frames, and ways in which a world fails, made of them."""
    generator = torch.Generator().manual_seed(seed)
    H, W = real_BHWC.shape[1:3]
    pixels_BCHW = real_BHWC.movedim(-1, 1).float()

    def tiled(corner_BHWC: Tensor) -> Tensor:
        return corner_BHWC.repeat(1, H // 8 + 1, W // 8 + 1, 1)[:, :H, :W]

    def blurred(factor: int) -> Tensor:
        coarse = F.avg_pool2d(pixels_BCHW, factor)
        return F.interpolate(coarse, size=(H, W), mode="bilinear").movedim(1, -1).round().to(torch.uint8)

    other_BHWC = real_BHWC[torch.randperm(len(real_BHWC), generator=generator)]
    noise = 20 * torch.randn(real_BHWC.shape, generator=generator)
    halves = real_BHWC.clone()
    halves[:, :, W // 2 :] = other_BHWC[:, :, W // 2 :]
    return {
        "real frames": real_BHWC,
        "plain ground (its lower left corner tiled)": tiled(real_BHWC[:, -8:, :8]),
        "plain sky (a patch near the upper left corner tiled)": tiled(real_BHWC[:, 2:10, 2:10]),
        "one flat colour": real_BHWC.float().mean((1, 2), keepdim=True).to(torch.uint8).expand_as(real_BHWC),
        "blur to a quarter of the resolution": blurred(4),
        "blur to an eighth": blurred(8),
        "a frame of another level": other_BHWC,
        "mean of two levels": ((real_BHWC.float() + other_BHWC.float()) / 2).to(torch.uint8),
        "right half from another level": halves,
        "noise of 20 grey levels": (real_BHWC + noise).clamp(0, 255).to(torch.uint8),
    }


if __name__ == "__main__":
    main()
