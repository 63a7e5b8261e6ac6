"""How well frames could be foretold by who invents nothing: a ceiling for the PSNR of roll-outs from one frame.

python scripts/best_prediction.py stores/platforms_test --tokenizer 42.3

Of a game whose picture scrolls, the first frame shows a part of each later one. The script is told how far the picture
has moved (it searches the displacement in the real frames), takes that part to be as exact as the tokenizer is,
whatever moves in it, and fills the rest with the nearest edge. A real prediction knows neither the displacement nor
what moves, but may guess a level better than an edge does.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from jinn.data.clips import evenly_spaced_clips, read_clips
from jinn.data.store import FrameStore
from jinn.evaluation.estimate import bootstrap

REACH = 9, 4  # largest displacement from frame to frame that is searched, pixels down and right
FARTHEST = 56  # pixels from the first frame
FRAMES = 10


def main(store: Path, /, tokenizer: float, clips: int = 96, seed: int = 0) -> None:
    """Print the ceiling of frames 1, 4 and 10 and of their mean, with 95% intervals over clips.

    Args:
        store: Frame store of levels that no training saw.
        tokenizer: PSNR of the tokenizer's reconstructions in dB.
        clips: Number of clips.
        seed: Seed of the intervals.
    """
    test = FrameStore.open(store)
    chosen = evenly_spaced_clips(test, FRAMES + 1, "all", clips)
    decibels_BT = torch.tensor([best(x, tokenizer) for x in read_clips(test, *chosen, FRAMES + 1).float()])
    columns = {f"frame {t}": decibels_BT[:, t - 1] for t in (1, 4, 10)}
    for name, values_B in {**columns, f"mean of {FRAMES} frames": decibels_BT.mean(1)}.items():
        found = bootstrap(values_B, seed)
        print(f"{name}: {found.value:.1f} dB [{found.low:.1f}, {found.high:.1f}]")


def best(clip_THWC: Tensor, tokenizer: float) -> list[float]:
    """The ceiling of each frame after the first, in dB."""
    H, W, _ = clip_THWC[0].shape
    exact, moved, found = 255**2 * 10 ** (-tokenizer / 10), (0, 0), []
    for frame_HWC in clip_THWC[1:]:
        moved = displacement(clip_THWC[0], frame_HWC, moved)
        rows, columns = torch.arange(H) + moved[0], torch.arange(W) + moved[1]
        guess_HWC = clip_THWC[0][rows.clamp(0, H - 1)][:, columns.clamp(0, W - 1)]
        seen_HW = ((rows >= 0) & (rows < H))[:, None] & ((columns >= 0) & (columns < W))
        error_HW = (guess_HWC - frame_HWC).square().mean(-1).masked_fill(seen_HW, exact)
        found.append(float(-10 * (error_HW.mean() / 255**2).log10()))
    return found


def displacement(first_HWC: Tensor, frame_HWC: Tensor, before: tuple[int, int]) -> tuple[int, int]:
    """Where in the first frame the later one lies, pixels down and right: near where the frame before it lay."""
    H, W, _ = first_HWC.shape
    tried = []
    for down in range(before[0] - REACH[0], before[0] + REACH[0] + 1):
        for right in range(before[1] - REACH[1], before[1] + REACH[1] + 1):
            if max(abs(down), abs(right)) <= FARTHEST:
                a = first_HWC[max(0, down) : H + min(0, down), max(0, right) : W + min(0, right)]
                b = frame_HWC[max(0, -down) : H + min(0, -down), max(0, -right) : W + min(0, -right)]
                steps = abs(down - before[0]) + abs(right - before[1])
                tried.append((float(F.mse_loss(a, b)) + 0.5 * steps, down, right))  # of equals the nearest
    return min(tried)[1:]


if __name__ == "__main__":
    tyro.cli(main)
