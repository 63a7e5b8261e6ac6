"""Is a world the same anywhere in its picture? Move the prompt, play on, and move the frames back.

python scripts/equivariance.py platforms stores/test

A roll-out from a moved prompt and one from the prompt itself get the same actions and random numbers. Moved back, the
first would equal the second in a world that treats all places alike, but for what lies near the edges, which are left
out. Two lines say how to read it: what other random numbers change, and what the movement itself would cost if nobody
moved it back. Where moved roll-outs are as near as those of other random numbers, agents may learn from moved pictures
(`OfflineConfig.shifts`, `jinn.agents.offline`).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor

from jinn.agents.offline import shifted
from jinn.data.clips import evenly_spaced_clips, read_clips
from jinn.data.store import FrameStore
from jinn.evaluation.estimate import bootstrap
from jinn.evaluation.metrics import psnr
from jinn.world.world import World


class Shown(NamedTuple):
    """How roll-outs are compared: after which frames, how many pixels of the edges are left out, and the seed."""

    steps: tuple[int, ...]
    edge: int
    seed: int

    def compare(self, name: str, one_BTHWC: Tensor, other_BTHWC: Tensor) -> None:
        """Print how near two roll-outs are to each other."""
        inner, texts = slice(self.edge, -self.edge or None), []
        for step in self.steps:
            one, other = (x_BTHWC[:, step - 1, inner, inner] for x_BTHWC in (one_BTHWC, other_BTHWC))
            found = bootstrap(psnr(one, other), self.seed)
            texts.append(f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]")
        print(f"{name}: {', '.join(texts)} dB after {', '.join(map(str, self.steps))} frames", flush=True)


def main(
    world: str,
    store: Path,
    /,
    shifts: tuple[int, ...] = (1, 2, 4, 8),
    steps: tuple[int, ...] = (1, 4, 10),
    clips: int = 64,
    seed: int = 0,
) -> None:
    """Print the PSNR in dB between moved and other roll-outs, with 95% intervals over clips.

    Args:
        world: A world, by name or folder.
        store: Frame store of levels or videos that it was not trained on.
        shifts: By how many pixels the prompts are moved, each in four directions by turns.
        steps: After how many frames the pictures are compared.
        clips: Number of prompts; their true continuations say which actions are taken.
        seed: Of the random numbers and of the intervals.
    """
    loaded = World.load(world)
    videos, length = FrameStore.open(store), max(steps) + 1
    places = evenly_spaced_clips(videos, length, np.arange(videos.num_episodes), clips)
    frames_BTHWC, clips = read_clips(videos, *places, length), len(places[0])
    actions_BT = loaded.infer_actions(frames_BTHWC)
    usual_BTHWC = rollout(loaded, frames_BTHWC[:, 0], actions_BT, seed)
    other_BTHWC = rollout(loaded, frames_BTHWC[:, 0], actions_BT, seed + clips)
    shown = Shown(steps, 2 * max(shifts), seed)
    shown.compare("other random numbers", usual_BTHWC, other_BTHWC)
    for shift in shifts:
        signs_B2 = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]])[torch.arange(clips) % 4]
        moved_BTHWC = rollout(loaded, shifted(frames_BTHWC[:, 0], shift * signs_B2), actions_BT, seed)
        back_BTHWC = moved(moved_BTHWC, -shift * signs_B2)
        shown.compare(f"moved by {shift} and back", usual_BTHWC, back_BTHWC)
        shown.compare(f"moved by {shift} only", usual_BTHWC, moved(usual_BTHWC, shift * signs_B2))


@torch.inference_mode()
def rollout(world: World, prompts_BHWC: Tensor, actions_BT: Tensor, seed: int) -> Tensor:
    """The frames after the prompts, ``BTHWC``; roll-out b has the random numbers of ``seed + b``."""
    state, _ = world.reset(prompts_BHWC.unsqueeze(1), [seed + b for b in range(len(prompts_BHWC))])
    frames = []
    for actions_B in actions_BT.unbind(1):
        state, frames_BHWC = world.step(state, actions_B)
        frames.append(frames_BHWC)
    return torch.stack(frames, 1)


def moved(frames_BTHWC: Tensor, shifts_B2: Tensor) -> Tensor:
    """All frames of each roll-out moved by its shift."""
    return torch.stack([shifted(frames_BHWC, shifts_B2) for frames_BHWC in frames_BTHWC.unbind(1)], 1)


if __name__ == "__main__":
    tyro.cli(main)
